//! The sampler on memory that means nothing, or no good: it must come to an end, in bounded time and memory,
//! whatever it reads. `fuzz` does the same with a coverage-guided fuzzer.

mod endless;

use proptest::prelude::*;
use pystrobe_profile::{Batch, Frame};

use crate::fuzzing::sample;

/// Versions that differ in what a sampler reads, as the first byte of what [`sample`] takes.
const VERSIONS: std::ops::Range<u8> = 0..8;
const WILD: u8 = 1;
const RUNNING: u8 = 2;

/// How far readings came.
#[derive(Debug, Default)]
struct Reached {
    stacks: usize,
    whole_stacks: usize,
    functions: usize,
    lines: usize,
    names: usize,
    truncated: usize,
    failed: usize,
}

impl Reached {
    fn count(&mut self, bytes: &[u8]) {
        let Some(outcome) = sample(bytes) else {
            return;
        };
        let batch = outcome.batch;
        self.stacks += usize::from(!batch.observations.is_empty());
        self.whole_stacks += usize::from(
            !batch.observations.is_empty() && batch.counters.truncated < batch.counters.taken,
        );
        self.functions += usize::from(batch.functions.len() > 1);
        self.lines += usize::from(lines(&batch).any(|(_, line)| line > 0));
        self.names += usize::from(!batch.renamed.is_empty());
        self.truncated += usize::from(batch.counters.truncated > 0);
        self.failed += usize::from(outcome.failed > 0);
    }
}

/// The functions of the call tree's nodes with the lines that they execute, oldest first.
fn lines(batch: &Batch) -> impl Iterator<Item = (&str, u32)> {
    batch.nodes.iter().filter_map(|node| match node.frame {
        Frame::Call { function, line } => {
            Some((batch.functions[function.index()].name.as_str(), line))
        }
        Frame::Thread(_) => None,
    })
}

/// What the fuzzer starts from is reached by the sampler to the last line and name.
#[test]
fn what_is_planted_is_read() {
    for version in VERSIONS {
        let outcome = sample(&[version, 0]).unwrap();
        let batch = &outcome.batch;
        assert_eq!(
            lines(batch).collect::<Vec<_>>(),
            [
                ("outer", 8),
                ("outer", 8),
                ("generator", 8),
                ("outer", 8),
                ("inner", 8),
                ("outer", 8)
            ],
            "3.{}: {outcome:?}",
            8 + version
        );
        assert_eq!(batch.counters.truncated, 0, "{outcome:?}");
        assert_eq!(outcome.failed, 0);
        assert_eq!(batch.renamed.len(), 1, "{outcome:?}");
        assert_eq!(batch.renamed[0].1, "worker");
    }
}

/// Inputs like those of the fuzzer: every part of the sampler meets good ones and bad ones.
#[test]
fn arbitrary_changes_lead_everywhere() {
    for version in VERSIONS {
        for mode in [0, RUNNING] {
            let mut reached = Reached::default();
            for seed in 0..400 {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut bytes = vec![version, mode];
                bytes.extend(
                    std::iter::repeat_with(|| random.u8(..)).take(5 * (seed as usize % 40)),
                );
                reached.count(&bytes);
            }
            for (what, times) in [
                ("stacks", reached.stacks),
                ("whole stacks", reached.whole_stacks),
                ("functions", reached.functions),
                ("lines", reached.lines),
                ("names", reached.names),
                ("truncated", reached.truncated),
                ("failed", reached.failed),
            ] {
                assert!(times > 5, "3.{}: {what}: {reached:?}", 8 + version);
            }
        }
    }
}

/// An interpreter and threads, and all that they point to is arbitrary words.
#[test]
fn wild_pointers_are_sampled_to_the_end() {
    for version in VERSIONS {
        let mut reached = Reached::default();
        for seed in 0..400_u64 {
            reached.count(&[&[version, WILD][..], &seed.to_be_bytes()].concat());
        }
        assert!(reached.stacks > 100, "3.{}: {reached:?}", 8 + version);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_sampled_to_the_end(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = sample(&bytes);
    }
}
