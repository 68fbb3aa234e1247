//! The trailer: what is damaged costs the trailer, never the table.

use std::path::PathBuf;

use pystrobe_exporters::{Format, Style, read_pstats};
use pystrobe_profile::{
    Batch, Builder, Clock, Clocks, Counters, Frame, FunctionId, Measured, Node, NodeId,
    Observation, Process, Profile, StatsTable, ThreadId,
};

use crate::recorder::{function, process, recording, thread};
use crate::sample::{by_all_clocks, by_clocks, profile, traced, written};

const START: &[u8] = b"pystrobe<";

fn split() -> (Vec<u8>, usize) {
    let bytes = written(&profile(), Format::Pstats, &Style::default());
    let found = |window: &[u8]| window == START;
    let at = bytes.windows(START.len()).position(found).unwrap();
    (bytes, at)
}

#[test]
fn flipped_bits_never_change_the_profile() {
    let (bytes, at) = split();
    let (table, profile) = (StatsTable::of(&profile()), profile());
    let mut unnoticed = 0;
    for index in at..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[index] ^= bit;
            let file = read_pstats(&damaged).unwrap();
            assert_eq!(file.table, table);
            match file.profile {
                None => assert!(file.trailer_problem.is_some(), "byte {index}"),
                // zstd has bits that do not matter: reserved ones, and how large a window to use.
                Some(read) => {
                    assert_eq!(read, profile, "byte {index}");
                    unnoticed += 1;
                }
            }
        }
    }
    assert!(unnoticed <= 8, "{unnoticed}");
}

#[test]
fn every_length_is_noticed() {
    let (bytes, at) = split();
    let table = StatsTable::of(&profile());
    for len in at..bytes.len() {
        let file = read_pstats(&bytes[..len]).unwrap();
        assert_eq!(file.table, table);
        assert_eq!(file.profile, None);
        // With less than the first mark it could be anybody's.
        assert_eq!(
            file.trailer_problem.is_some(),
            len >= at + START.len(),
            "{len}"
        );
    }
    for len in 0..at {
        let error = read_pstats(&bytes[..len]).unwrap_err().to_string();
        assert!(error.contains("cut short at byte "), "{error}");
    }
}

#[test]
fn bytes_of_others_are_no_trailer() {
    let (mut bytes, at) = split();
    bytes.truncate(at);
    bytes.extend_from_slice(b"something else");
    let file = read_pstats(&bytes).unwrap();
    assert_eq!((file.profile, file.trailer_problem), (None, None));
}

#[test]
fn a_newer_version_is_told() {
    let (mut bytes, _) = split();
    let version = bytes.len() - 9 - 4;
    bytes[version] = 4;
    let problem = read_pstats(&bytes).unwrap().trailer_problem.unwrap();
    assert!(problem.contains("newer pystrobe (version 4,"), "{problem}");
}

/// A trailer with this payload.
fn with_payload(json: &[u8]) -> Vec<u8> {
    let (mut bytes, at) = split();
    bytes.truncate(at);
    let payload = zstd::encode_all(json, 3).unwrap();
    bytes.extend_from_slice(START);
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&3u32.to_le_bytes());
    bytes.extend_from_slice(b">pystrobe");
    bytes
}

fn payload(nodes: &str) -> String {
    format!(
        r#"{{"recording":{{"command":"","pid":1,"python":"","interval_ns":1,"started_unix_ms":1,
        "elapsed_ns":1,"collector":"","taken":1,"repaired":0,"truncated":0,"lost":0,"late":0,"skipped":0}},
        "processes":[{{"pid":1,"command":"","python":""}}],
        "threads":[{{"process":0,"name":"","native_id":null,"ident":1,"interpreter":0}}],
        "functions":{{"file":["a"],"first_line":[1],"name":["f"],"qualified_name":[""]}},
        "nodes":{nodes}}}"#
    )
}

#[test]
fn forged_payloads() {
    let good = r#"{"up":[0,1],"subject":[0,0],"line":[0,1],"nanoseconds":[0,5],"samples":[0,1]}"#;
    let file = read_pstats(&with_payload(payload(good).as_bytes())).unwrap();
    assert_eq!(file.trailer_problem, None);
    assert_eq!(file.profile.unwrap().tree().total().nanoseconds, 5);

    for (bad, wanted) in [
        (good.replace("[0,5]", "[0]"), "damaged"),
        (good.replace("\"up\":[0,1]", "\"up\":[0,2]"), "damaged"),
        (good.replace("\"up\":[0,1]", "\"up\":[1,1]"), "damaged"),
        (
            good.replace("\"subject\":[0,0]", "\"subject\":[0,1]"),
            "function 1, which is not known",
        ),
        (
            good.replace("\"subject\":[0,0]", "\"subject\":[7,0]"),
            "thread 7, which is not known",
        ),
        (
            good.replace("[0,5]", "[1,18446744073709551615]"),
            "more time than 64 bits",
        ),
        (good.replace("[0,5]", "[0,-5]"), "expected u64"),
        (good.replace("\"line\"", "\"lime\""), "missing field `line`"),
        (
            good.replace('}', r#","cpu":{"nanoseconds":[0],"samples":[0,1]}}"#),
            "damaged",
        ),
        (
            good.replace('}', r#","cpu":{"nanoseconds":[0,1],"samples":[0]}}"#),
            "damaged",
        ),
        (
            good.replace('}', r#","cpu":{"nanoseconds":[0,1]}}"#),
            "missing field `samples`",
        ),
        (
            good.replace(
                '}',
                r#","gil":{"nanoseconds":[1,18446744073709551615],"samples":[0,1]}}"#,
            ),
            "more time than 64 bits",
        ),
        ("[[[[[[[[".repeat(1000), "damaged"),
    ] {
        let file = read_pstats(&with_payload(payload(&bad).as_bytes())).unwrap();
        assert_eq!(file.profile, None);
        let problem = file.trailer_problem.unwrap();
        assert!(problem.contains(wanted), "{problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
    for (word, wanted) in [
        (r#""clock":"cpu""#, "cpu time was not measured"),
        (r#""clock":"sidereal""#, "damaged"),
        (r#""counted":"sheep""#, "damaged"),
    ] {
        let skipped = r#""skipped":0"#;
        let payload = payload(good).replace(skipped, &format!("{skipped},{word}"));
        let file = read_pstats(&with_payload(payload.as_bytes())).unwrap();
        let problem = file.trailer_problem.unwrap();
        assert!(problem.contains(wanted), "{problem}");
    }
}

#[test]
fn every_clock_is_kept_whichever_the_table_shows() {
    for clock in Clock::ALL {
        if clock == Clock::Exception {
            continue;
        }
        let profile = by_all_clocks().with_clock(clock).unwrap();
        let file = read_pstats(&written(&profile, Format::Pstats, &Style::default())).unwrap();
        assert_eq!(file.trailer_problem, None);
        assert_eq!(file.table, StatsTable::of(&profile));
        let read = file.profile.unwrap();
        assert_eq!(read, profile);
        // And so another one can be chosen, exactly.
        let again = read.with_clock(Clock::Gil).unwrap();
        let at_once = by_all_clocks().with_clock(Clock::Gil).unwrap();
        for format in Format::ALL {
            let write = |profile| written(profile, format, &Style::default());
            assert!(write(&again) == write(&at_once), "{format}");
        }
    }
}

#[test]
fn only_what_was_measured_is_told() {
    for measured in [
        Measured::default(),
        Measured {
            gil: true,
            ..Measured::default()
        },
    ] {
        let nodes =
            r#"{"up":[0,1],"subject":[0,0],"line":[0,1],"nanoseconds":[0,5],"samples":[0,1]}"#;
        let gil = r#","gil":{"nanoseconds":[0,3],"samples":[0,1]}}"#;
        let nodes = match measured.gil {
            true => nodes.replace('}', gil),
            false => nodes.to_owned(),
        };
        let file = read_pstats(&with_payload(payload(&nodes).as_bytes())).unwrap();
        let profile = file.profile.unwrap();
        assert_eq!(profile.recording().measured, measured);
        let seen = Clocks {
            wall: 5,
            gil: if measured.gil { 3 } else { 0 },
            ..Clocks::default()
        };
        assert_eq!(profile.tree().seen(NodeId(1)).nanoseconds, seen);
        let again = read_pstats(&written(&profile, Format::Pstats, &Style::default())).unwrap();
        assert_eq!(again.profile, Some(profile));
    }
}

/// A file of an older version stays readable for ever. Never bless one again: when the format changes,
/// it gets a new version and a new file.
fn stays_readable(name: &str, expected: &Profile) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("PYSTROBE_BLESS").is_some_and(|bless| bless == "1") && !path.exists() {
        std::fs::write(&path, written(expected, Format::Pstats, &Style::default())).unwrap();
    }
    let file = read_pstats(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(file.trailer_problem, None);
    assert_eq!(file.profile.as_ref(), Some(expected));
    assert_eq!(file.table, StatsTable::of(expected));
}

/// It knows wall time only.
#[test]
fn version_1() {
    stays_readable("version-1.pstats", &profile());
    let error = profile().with_clock(Clock::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "cpu time was not measured");
}

#[test]
fn version_2() {
    stays_readable(
        "version-2.pstats",
        &by_clocks(false).with_clock(Clock::Cpu).unwrap(),
    );
}

#[test]
fn version_3() {
    stays_readable("version-3.pstats", &traced());
}

/// A process and one that it started, each with a thread and a sample, and counters of their own.
fn of_two_processes() -> Profile {
    let mut builder = Builder::new(Vec::new());
    for source in 0..2 {
        let batch = Batch {
            source,
            processes: vec![Process {
                pid: 10 + source,
                command: String::from("python  app.py 7"),
                ..process()
            }],
            functions: vec![function("/srv/app.py", 10, "main", "main")],
            threads: vec![thread("MainThread", u64::from(10 + source))],
            nodes: vec![
                Node {
                    parent: None,
                    frame: Frame::Thread(ThreadId(0)),
                },
                Node {
                    parent: Some(NodeId(0)),
                    frame: Frame::Call {
                        function: FunctionId(0),
                        line: 11,
                    },
                },
            ],
            observations: vec![Observation {
                node: NodeId(1),
                nanoseconds: Clocks::of_wall(1_000_000),
                samples: Clocks::of_wall(1),
            }],
            counters: Counters {
                taken: 5 + u64::from(source),
                ..Counters::default()
            },
            ..Batch::default()
        };
        builder.apply(&batch).unwrap();
    }
    builder.finish(recording(11))
}

#[test]
fn processes_stay_apart() {
    let profile = of_two_processes();
    let bytes = written(&profile, Format::Pstats, &Style::default());
    let read = read_pstats(&bytes).unwrap().profile.unwrap();
    assert_eq!(read, profile);
    assert_eq!(read.process_counters()[1].taken, 6);
    let style = |threads| Style {
        threads,
        ..Style::default()
    };
    let text = |threads| {
        let folded = written(&profile, Format::Folded, &style(threads));
        String::from_utf8(folded).unwrap()
    };
    assert_eq!(
        text(false),
        "process 10 (python  app.py 7);main (/srv/app.py:10) 1000\n\
         process 11 (python  app.py 7);main (/srv/app.py:10) 1000\n"
    );
    let with_threads = text(true);
    let first =
        "process 10 (python  app.py 7);thread MainThread (10, pid 10);main (/srv/app.py:10) 1000";
    assert_eq!(with_threads.lines().next(), Some(first));
    let alone = written(&profile.of_process(1), Format::Folded, &style(false));
    assert_eq!(alone, b"main (/srv/app.py:10) 1000\n");
}
