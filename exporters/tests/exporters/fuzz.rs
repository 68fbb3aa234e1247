//! Arbitrary and damaged bytes: no panic, no hang, no memory that the input does not justify.
//!
//! `exporters/fuzz` does the same with a coverage-guided fuzzer.

use proptest::prelude::*;
use pystrobe_exporters::{Format, Style, marshal, read_pstats};

use crate::sample::{profile, written};

/// Whatever can be read can be asked everything.
fn explore(bytes: &[u8]) {
    if let Ok(document) = marshal::read(bytes) {
        assert!(document.end() <= bytes.len());
        // Breadth first and each object once, as references may multiply what there is.
        let mut seen = std::collections::HashSet::new();
        let mut rest = vec![document.root()];
        while let Some(value) = rest.pop() {
            assert!(value.offset() < bytes.len());
            if seen.insert(value.id()) {
                rest.extend(value.items());
            }
        }
        assert!(seen.len() <= bytes.len());
    }
    if let Ok(file) = read_pstats(bytes) {
        let callers = file.table.rows().iter().map(|row| row.callers.len());
        assert!(callers.sum::<usize>() <= bytes.len());
        for row in file.table.rows() {
            assert!(row.tt.is_finite() && row.tt >= 0.0 && row.ct.is_finite() && row.ct >= 0.0);
            assert!(
                row.callers
                    .iter()
                    .all(|caller| caller.row < file.table.rows().len())
            );
        }
        let mut out = Vec::new();
        pystrobe_exporters::write_table(&file.table, file.counted, &Style::default(), &mut out)
            .unwrap();
        out.clear();
        pystrobe_exporters::write_pstats_table(&file.table, &mut out).unwrap();
        let again = read_pstats(&out).unwrap();
        assert_eq!(again.table.rows().len(), file.table.rows().len());
    }
}

/// Bytes that are made of marshal's type codes more often than chance would have it.
fn codes() -> impl Strategy<Value = Vec<u8>> {
    let code = prop::sample::select(b"{}0()[iIlgfuaAzZtsrTFNR".to_vec());
    let byte = prop_oneof![
        code.clone(),
        code.prop_map(|code| code | 0x80),
        Just(0),
        0..4u8,
        any::<u8>(),
    ];
    prop::collection::vec(byte, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn arbitrary_bytes(bytes in codes()) {
        explore(&bytes);
    }

    #[test]
    fn damaged_files(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let mut bytes = written(&profile(), Format::Pstats, &Style::default());
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        explore(&bytes);
    }
}

#[test]
fn nesting() {
    for code in [&b"(\x01\0\0\0"[..], b"[\x01\0\0\0", b")\x01", b"{N"] {
        let error = marshal::read(&code.repeat(1_000_000)).unwrap_err();
        assert_eq!(error.problem, marshal::MarshalProblem::Depth);
        assert_eq!(error.offset, 2000 * code.len());
    }
}

#[test]
fn lengths_that_the_input_does_not_justify() {
    for start in [
        &b"(\xff\xff\xff\x7f"[..],
        b"[\xff\xff\xff\x7f",
        b"s\xff\xff\xff\x7f",
        b"l\xff\xff\xff\x7f",
    ] {
        let mut bytes = start.to_vec();
        bytes.extend_from_slice(&[b'N'; 100]);
        let error = marshal::read(&bytes).unwrap_err();
        assert_eq!(error.problem, marshal::MarshalProblem::Truncated);
    }
    let error = marshal::read(b"(\xff\xff\xff\xff").unwrap_err();
    assert_eq!(error.problem, marshal::MarshalProblem::Length);
}

/// Many rows that share one large dict of callers: small in the file, huge in memory.
#[test]
fn shared_callers() {
    let mut bytes = Vec::new();
    let mut writer = marshal::Writer::new(&mut bytes);
    writer.dict().unwrap();
    let mut shared = None;
    for row in 0..5_000 {
        writer.tuple(3).unwrap();
        writer.str("a").unwrap();
        writer.int(row).unwrap();
        writer.str("f").unwrap();
        writer.tuple(5).unwrap();
        writer.int(1).unwrap();
        writer.int(1).unwrap();
        writer.float(0.0).unwrap();
        writer.float(0.0).unwrap();
        match shared {
            Some(reference) => writer.reference(reference).unwrap(),
            None => {
                shared = Some(writer.remember());
                writer.dict().unwrap();
                for caller in 0..5_000 {
                    writer.tuple(3).unwrap();
                    writer.str("a").unwrap();
                    writer.int(caller).unwrap();
                    writer.str("f").unwrap();
                    writer.int(1).unwrap();
                }
                writer.end_dict().unwrap();
            }
        }
    }
    writer.end_dict().unwrap();
    let error = read_pstats(&bytes).unwrap_err().to_string();
    assert!(error.contains("more callers than its"), "{error}");
}

/// Rows that share one very long name: comparing it for each of them would take for ever.
#[test]
fn shared_long_name() {
    let mut bytes = Vec::new();
    let name = "x".repeat(2_000_000);
    let mut writer = marshal::Writer::new(&mut bytes);
    writer.dict().unwrap();
    let mut shared = None;
    for row in 0..20_000 {
        writer.tuple(3).unwrap();
        match shared {
            Some(reference) => writer.reference(reference).unwrap(),
            None => {
                shared = Some(writer.remember());
                writer.str(&name).unwrap();
            }
        }
        writer.int(row).unwrap();
        writer.str("f").unwrap();
        writer.tuple(5).unwrap();
        for _ in 0..4 {
            writer.int(0).unwrap();
        }
        writer.dict().unwrap();
        writer.end_dict().unwrap();
    }
    writer.end_dict().unwrap();
    assert_eq!(read_pstats(&bytes).unwrap().table.rows().len(), 20_000);
}
