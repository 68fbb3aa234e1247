//! Deep stacks and hostile names.

use proptest::prelude::*;
use pystrobe_exporters::{Format, PstatsFlavor, Style, read_pstats};
use pystrobe_profile::{
    Batch, Builder, Clocks, Counted, Frame, FunctionId, Node, NodeId, Observation, Profile,
    StatsTable, ThreadId,
};

use crate::recorder::{Sample, function, process, record, recording, thread};
use crate::sample::written;

/// A recursion of two functions, sampled on each of its levels, with a leaf on the last one.
fn deep(depth: u32) -> Profile {
    let mut batch = Batch {
        functions: vec![
            function("/srv/deep.py", 1, "even", "even"),
            function("/srv/deep.py", 5, "odd", "odd"),
            function("/srv/deep.py", 9, "leaf", "leaf"),
        ],
        threads: vec![thread("MainThread", 1)],
        nodes: vec![Node {
            parent: None,
            frame: Frame::Thread(ThreadId(0)),
        }],
        ..Batch::default()
    };
    for level in 1..=depth {
        batch.nodes.push(Node {
            parent: Some(NodeId(level - 1)),
            frame: Frame::Call {
                function: FunctionId(if level == depth { 2 } else { level % 2 }),
                line: 2,
            },
        });
        batch.observations.push(Observation {
            node: NodeId(level),
            nanoseconds: Clocks::of_wall(if level == depth {
                5_000_000_000
            } else {
                1_000_000
            }),
            samples: Clocks::of_wall(1),
        });
    }
    let mut builder = Builder::new(vec![process()]);
    builder.apply(&batch).unwrap();
    builder.finish(recording(u64::from(depth)))
}

#[test]
fn deep_stacks() {
    let profile = deep(20_000);
    let style = Style::default();

    let pstats = written(&profile, Format::Pstats, &style);
    let file = read_pstats(&pstats).unwrap();
    assert_eq!(file.trailer_problem, None);
    assert_eq!(file.profile.as_ref(), Some(&profile));
    assert_eq!(file.table, StatsTable::of(&profile));
    // The trailer holds 20,000 nodes.
    assert!(pstats.len() < 50_000, "{} bytes", pstats.len());

    let svg = String::from_utf8(written(&profile, Format::Flamegraph, &style)).unwrap();
    assert!(svg.contains("(levels left out)"));
    assert!(svg.contains("leaf (/srv/deep.py:9) (5,000,000 microseconds, 20.00%)"));
    let (_, height) = svg.split_once(" height=\"").unwrap();
    let height: u32 = height.split('"').next().unwrap().parse().unwrap();
    assert!((16_000..20_000).contains(&height), "{height}");

    let table = String::from_utf8(written(&profile, Format::Table, &style)).unwrap();
    assert!(table.lines().nth(1).unwrap().contains("odd "), "{table}");
}

#[test]
fn deep_folded_stacks() {
    // A file of folded stacks grows with the square of the depth here.
    let profile = deep(2_000);
    let folded = String::from_utf8(written(&profile, Format::Folded, &Style::default())).unwrap();
    let weight = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(
        folded.lines().map(weight).sum::<u64>(),
        5_000_000 + 1_999 * 1_000
    );
    let last = folded.lines().last().unwrap();
    assert_eq!(last.split(';').count(), 2_000);
    assert!(last.ends_with(";leaf (/srv/deep.py:9) 5000000"));
}

#[test]
fn a_deep_flamegraph_of_many_long_names() {
    // No two stacks are alike, even without their middle: levels have to go until the text fits.
    let functions: Vec<_> = (0..3_000)
        .map(|index| function(&"x".repeat(400), index, "f", ""))
        .collect();
    let all: Vec<(usize, u32)> = (0..3_000).map(|index| (index, 1)).collect();
    let samples: Vec<Sample> = (1..=3_000)
        .map(|depth| Sample {
            thread: 0,
            stack: all[..depth].to_vec(),
            nanoseconds: 1_000_000,
            samples: 1,
        })
        .collect();
    let profile = record(&functions, &[thread("MainThread", 1)], &samples);
    let svg = written(&profile, Format::Flamegraph, &Style::default());
    assert!(svg.len() < 256 << 20, "{} bytes", svg.len());
}

/// The folded format as its readers take it.
fn unfold(folded: &str) -> Vec<(Vec<&str>, u64)> {
    let lines = folded.lines().map(|line| {
        let (stack, weight) = line.rsplit_once(' ').unwrap();
        assert_eq!(stack, stack.trim(), "{line:?}");
        assert!(!line.starts_with('#'));
        let (_, last) = stack.rsplit_once(' ').unwrap_or(("", "x"));
        assert!(
            last.parse::<f64>().is_err() || last.contains(|c: char| c.is_alphabetic()),
            "{line:?}"
        );
        let frames: Vec<&str> = stack.split(';').collect();
        assert!(
            frames.iter().all(|frame| !frame.trim().is_empty()),
            "{line:?}"
        );
        (frames, weight.parse().unwrap())
    });
    lines.collect()
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,8}",
        "[#;<>&\"' 0-9\\[\\]_.\\n\\t\\x00-\\x1f]{0,6}",
        ".{0,4}",
        Just(String::new()),
        Just("f 12".to_owned()),
        Just("]]>".to_owned()),
        Just("--".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn names_cannot_break_a_format(
        names in prop::collection::vec((name(), name(), name(), 0..3u32), 4),
        threads in prop::collection::vec(name(), 2),
        stacks in prop::collection::vec(
            (0..2usize, prop::collection::vec((0..4usize, 0..3u32), 0..5), 0..9_000u64), 1..12),
        (by_thread, by_line) in (any::<bool>(), any::<bool>()),
    ) {
        let functions: Vec<_> = names
            .iter()
            .map(|(file, name, qualified, line)| function(file, *line, name, qualified))
            .collect();
        let threads: Vec<_> = threads.iter().zip(1..).map(|(name, id)| thread(name, id)).collect();
        let samples: Vec<Sample> = stacks
            .into_iter()
            .map(|(thread, stack, nanoseconds)| Sample { thread, stack, nanoseconds, samples: 1 })
            .collect();
        let profile = record(&functions, &threads, &samples);
        let style = Style { threads: by_thread, lines: by_line, ..Style::default() };

        let folded = String::from_utf8(written(&profile, Format::Folded, &style)).unwrap();
        let lines = unfold(&folded);
        let nodes = profile.tree().ids().filter(|&id| !profile.tree().own(id).is_zero());
        prop_assert!(lines.len() <= nodes.count());
        prop_assert!(lines.iter().all(|(_, weight)| *weight > 0));
        let sum: u64 = lines.iter().map(|(_, weight)| weight).sum();
        let total = profile.tree().total().nanoseconds / 1000;
        prop_assert!(sum >= total && sum <= total + lines.len() as u64);
        let mut stacks: Vec<_> = lines.iter().map(|(stack, _)| stack).collect();
        stacks.sort();
        stacks.dedup();
        prop_assert_eq!(stacks.len(), lines.len(), "each stack once");

        let svg = String::from_utf8(written(&profile, Format::Flamegraph, &style)).unwrap();
        let mut reader = quick_xml::Reader::from_str(&svg);
        reader.config_mut().check_end_names = true;
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Eof => break,
                quick_xml::events::Event::Text(text) => {
                    text.xml10_content().unwrap();
                }
                _ => {}
            }
        }
        prop_assert!(!svg.contains(|c: char| c.is_control() && c != '\n' && c != '\r' && c != '\t'));
        let (_, all) = svg.split_once("<title>all (").unwrap();
        let all: u64 = all.split(' ').next().unwrap().replace(',', "").parse().unwrap();
        prop_assert!(all >= total && all <= total + lines.len() as u64, "{}", all);

        for flavor in [PstatsFlavor::Classic, PstatsFlavor::Python315] {
            let style = Style { pstats_flavor: flavor, ..style.clone() };
            let file = read_pstats(&written(&profile, Format::Pstats, &style)).unwrap();
            prop_assert_eq!(file.trailer_problem, None);
            prop_assert_eq!(file.profile.as_ref(), Some(&profile));
            match flavor {
                PstatsFlavor::Classic => prop_assert_eq!(file.table, StatsTable::of(&profile)),
                PstatsFlavor::Python315 => prop_assert_eq!(file.counted, Counted::Samples),
            }
        }

        let style = Style { rows: None, ..style };
        let table = String::from_utf8(written(&profile, Format::Table, &style)).unwrap();
        let rows = StatsTable::of_functions(&profile).rows().len();
        prop_assert_eq!(table.lines().count(), rows + 1);
    }
}
