//! What other tools write as pstats.

use pystrobe_exporters::marshal::Writer;
use pystrobe_exporters::{PstatsFile, read_pstats};
use pystrobe_profile::{Caller, Counted};

/// A number as some tool writes it.
#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Float(f64),
}
use Number::{Float, Int};

/// Writes a file with one function `g`, which has these numbers and calls by `f`.
fn one(numbers: [Number; 4], calls: &[Number], tuples: bool, with_f: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    let put = |writer: &mut Writer<'_>, number| match number {
        Int(int) => writer.int(i128::from(int)).unwrap(),
        Float(float) => writer.float(float).unwrap(),
    };
    let sequence = |writer: &mut Writer<'_>, len| match tuples {
        true => writer.tuple(len).unwrap(),
        false => writer.list(len).unwrap(),
    };
    let key = |writer: &mut Writer<'_>, name| {
        writer.tuple(3).unwrap();
        writer.str("a.py").unwrap();
        writer.int(1).unwrap();
        writer.str(name).unwrap();
    };
    writer.dict().unwrap();
    key(&mut writer, "g");
    sequence(&mut writer, 5);
    numbers
        .into_iter()
        .for_each(|number| put(&mut writer, number));
    writer.dict().unwrap();
    key(&mut writer, "f");
    match calls {
        [only] => put(&mut writer, *only),
        all => {
            sequence(&mut writer, all.len());
            all.iter().for_each(|&number| put(&mut writer, number));
        }
    }
    writer.end_dict().unwrap();
    if with_f {
        key(&mut writer, "f");
        sequence(&mut writer, 5);
        let numbers = [Int(1), Int(1), Float(0.5), Float(4.0)];
        numbers
            .into_iter()
            .for_each(|number| put(&mut writer, number));
        writer.dict().unwrap();
        writer.end_dict().unwrap();
    }
    writer.end_dict().unwrap();
    bytes
}

fn caller(file: &PstatsFile) -> Caller {
    let g = file.table.find("a.py", 1, "g").unwrap();
    let [caller] = g.callers[..] else {
        panic!("{:?}", g.callers)
    };
    assert_eq!(&*file.table.rows()[caller.row].key.name, "f");
    caller
}

const ROW: [Number; 4] = [Int(4), Int(10), Float(1.0), Float(3.0)];
const CALLS: [Number; 4] = [Int(8), Int(3), Float(0.5), Float(2.0)];

#[test]
fn as_cprofile_writes_it() {
    for tuples in [true, false] {
        let file = read_pstats(&one(ROW, &CALLS, tuples, true)).unwrap();
        let g = file.table.find("a.py", 1, "g").unwrap();
        assert_eq!((g.cc, g.nc, g.tt, g.ct), (4, 10, 1.0, 3.0));
        let Caller { nc, cc, tt, ct, .. } = caller(&file);
        assert_eq!((nc, cc, tt, ct), (8, 3, 0.5, 2.0));
        assert_eq!(file.counted, Counted::Calls);
        assert_eq!((file.profile, file.trailer_problem), (None, None));
    }
}

#[test]
fn a_caller_without_a_row_gets_one() {
    let file = read_pstats(&one(ROW, &CALLS, true, false)).unwrap();
    let f = &file.table.rows()[caller(&file).row];
    assert_eq!((f.cc, f.nc, f.tt, f.ct), (0, 0, 0.0, 2.0));
}

#[test]
fn counts_of_callers_only() {
    let Caller { nc, cc, tt, ct, .. } =
        caller(&read_pstats(&one(ROW, &[Int(5)], true, true)).unwrap());
    assert_eq!((nc, cc, tt, ct), (5, 4, 0.5, 1.5));
    // More calls than there are: recursion, as CPython 3.15 counts it.
    let Caller { nc, cc, tt, ct, .. } =
        caller(&read_pstats(&one(ROW, &[Int(20)], true, true)).unwrap());
    assert_eq!((nc, cc, tt, ct), (20, 4, 1.0, 3.0));
}

#[test]
fn two_tuples_one_after_the_other() {
    let both: Vec<Number> = CALLS.iter().chain(&CALLS).copied().collect();
    let Caller { nc, cc, tt, ct, .. } = caller(&read_pstats(&one(ROW, &both, true, true)).unwrap());
    assert_eq!((nc, cc, tt, ct), (16, 6, 1.0, 4.0));
}

#[test]
fn numbers_that_are_none() {
    let odd = [Int(-1), Float(2.6), Float(f64::NAN), Float(f64::INFINITY)];
    let calls = [Int(-1), Int(-1), Float(-3.0), Int(2)];
    let file = read_pstats(&one(odd, &calls, true, true)).unwrap();
    let g = file.table.find("a.py", 1, "g").unwrap();
    assert_eq!((g.cc, g.nc, g.tt, g.ct), (0, 3, 0.0, 0.0));
    let Caller { nc, cc, tt, ct, .. } = caller(&file);
    assert_eq!((nc, cc, tt, ct), (0, 0, 0.0, 2.0));
}

#[test]
fn what_is_no_pstats_says_where() {
    for (bytes, message) in [
        (&b"{0"[..], "an empty profile: it has no functions"),
        (b"", "not a complete pstats file: cut short at byte 0"),
        (b"N", "not a pstats file: a dict expected at byte 0"),
        (
            b"<?xml",
            "not a complete pstats file: unexpected type '<' at byte 0",
        ),
        (
            b"{i\x01\0\0\0N0",
            "not a pstats file: (file, line, name) expected at byte 1",
        ),
        (
            b"{)\x03z\x01ai\x01\0\0\0z\x01f)\x01N0",
            "not a pstats file: (cc, nc, tt, ct, callers) expected at byte 14",
        ),
        (
            b"{)\x03z\x01ai\x01\0\0\0z\x01f)\x05NNNN{00",
            "not a pstats file: a count expected at byte 16",
        ),
        (
            b"{)\x01z\x0b__sampled__T0",
            "an empty profile: it has no functions",
        ),
    ] {
        assert_eq!(read_pstats(bytes).unwrap_err().to_string(), message);
    }
}

#[test]
fn names_of_all_kinds() {
    // Bytes of Python 2 that are not UTF-8, None for a file, a surrogate, a newline.
    let bytes = b"{)\x03s\x03\0\0\0a\xff\ni\x01\0\0\0z\x01f)\x05i\x01\0\0\0i\x01\0\0\0NN{00";
    assert!(read_pstats(bytes).is_err(), "None is no time");
    let row = b")\x05i\x01\0\0\0i\x01\0\0\0i\0\0\0\0i\0\0\0\0{0";
    let mut bytes = b"{".to_vec();
    bytes.extend_from_slice(b")\x03s\x03\0\0\0a\xff\ni\x01\0\0\0z\x01f");
    bytes.extend_from_slice(row);
    bytes.extend_from_slice(b")\x03Ni\xff\xff\xff\xffu\x05\0\0\0x\xed\xb2\x80y");
    bytes.extend_from_slice(row);
    bytes.push(b'0');
    let file = read_pstats(&bytes).unwrap();
    assert!(file.table.find("a\\xff\\n", 1, "f").is_some());
    assert!(
        file.table.find("~", 0, "x\\udc80y").is_some(),
        "{:?}",
        file.table
    );
}

#[test]
fn rows_that_become_one() {
    // The same function twice, once with its newline and once with an escape.
    let row = b")\x05i\x01\0\0\0i\x02\0\0\0i\x03\0\0\0i\x04\0\0\0{0";
    let mut bytes = b"{)\x03z\x02a\ni\x01\0\0\0z\x01f".to_vec();
    bytes.extend_from_slice(row);
    bytes.extend_from_slice(b")\x03z\x03a\\ni\x01\0\0\0z\x01f");
    bytes.extend_from_slice(row);
    bytes.push(b'0');
    let file = read_pstats(&bytes).unwrap();
    let [row] = file.table.rows() else {
        panic!("{:?}", file.table)
    };
    assert_eq!((row.cc, row.nc, row.tt, row.ct), (2, 4, 6.0, 8.0));
}

#[test]
fn deep_chains_of_callers() {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    let key = |writer: &mut Writer<'_>, line| {
        writer.tuple(3).unwrap();
        writer.str("a.py").unwrap();
        writer.int(line).unwrap();
        writer.str("f").unwrap();
    };
    writer.dict().unwrap();
    for line in 1..100_000 {
        key(&mut writer, line);
        writer.tuple(5).unwrap();
        for number in [1, 1, 0, 1] {
            writer.int(number).unwrap();
        }
        writer.dict().unwrap();
        key(&mut writer, line - 1);
        writer.tuple(4).unwrap();
        for number in [1, 1, 0, 1] {
            writer.int(number).unwrap();
        }
        writer.end_dict().unwrap();
    }
    writer.end_dict().unwrap();
    let table = read_pstats(&bytes).unwrap().table;
    assert_eq!(table.rows().len(), 100_000);
    assert!(table.find("a.py", 0, "f").unwrap().callers.is_empty());
}
