//! What a live view asks, while the tree grows.

use proptest::prelude::*;
use pystrobe_profile::{Profile, StatsTable, ThreadId, TreeIndex};

use crate::recorder::{Sample, function, record, thread};

fn sample(thread: usize, stack: &[usize], nanoseconds: u64) -> Sample {
    Sample {
        thread,
        stack: stack.iter().map(|&function| (function, 1)).collect(),
        nanoseconds,
        samples: 1,
    }
}

fn profile(samples: &[Sample]) -> Profile {
    let functions: Vec<_> = ["f", "g", "h", "i"]
        .iter()
        .zip(1..)
        .map(|(name, line)| function("a.py", line, name, ""))
        .collect();
    record(&functions, &[thread("one", 1), thread("two", 2)], samples)
}

fn own(profile: &Profile) -> Vec<f64> {
    let tree = profile.tree();
    tree.ids()
        .map(|id| tree.own(id).nanoseconds as f64)
        .collect()
}

#[test]
fn recursion_counts_once() {
    let profile = profile(&[
        sample(0, &[0, 1, 0, 1], 8),
        sample(0, &[0], 1),
        sample(1, &[1, 0], 100),
    ]);
    let mut index = TreeIndex::default();
    index.update(profile.tree());
    let times = index.functions(4, &own(&profile), |_| true);
    assert_eq!((times[0].own, times[0].cumulative), (101.0, 109.0));
    assert_eq!((times[1].own, times[1].cumulative), (8.0, 108.0));
    assert_eq!((times[2].own, times[2].cumulative), (0.0, 0.0));
    let second = index.functions(4, &own(&profile), |thread| thread == ThreadId(1));
    assert_eq!((second[0].own, second[0].cumulative), (100.0, 100.0));
    assert_eq!((second[1].own, second[1].cumulative), (0.0, 100.0));
}

#[test]
fn nodes_without_a_weight_weigh_nothing() {
    let profile = profile(&[sample(0, &[0, 1], 8), sample(0, &[0, 2], 4)]);
    let mut index = TreeIndex::default();
    index.update(profile.tree());
    let times = index.functions(4, &own(&profile)[..3], |_| true);
    assert_eq!((times[0].cumulative, times[2].cumulative), (8.0, 0.0));
    assert!(TreeIndex::default().functions(0, &[], |_| true).is_empty());
}

#[test]
fn a_stack_may_be_deep() {
    let profile = profile(&[sample(0, &[0; 100_000], 8)]);
    let mut index = TreeIndex::default();
    index.update(profile.tree());
    let times = index.functions(4, &own(&profile), |_| true);
    assert_eq!((times[0].own, times[0].cumulative), (8.0, 8.0));
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let stack = prop::collection::vec(0_usize..4, 1..8);
    prop::collection::vec((0_usize..2, stack, 1_u64..1000), 1..40).prop_map(|samples| {
        samples
            .into_iter()
            .map(|(thread, stack, nanoseconds)| sample(thread, &stack, nanoseconds))
            .collect()
    })
}

proptest! {
    /// The stats table is another way to the same numbers; and what was indexed in two steps is as in one.
    #[test]
    fn it_agrees_with_the_stats_table(samples in samples(), half in 0_usize..40) {
        let profile = profile(&samples);
        let mut index = TreeIndex::default();
        index.update(self::profile(&samples[..half.min(samples.len())]).tree());
        index.update(profile.tree());
        let mut fresh = TreeIndex::default();
        fresh.update(profile.tree());
        let table = StatsTable::of_functions(&profile);
        let times = index.functions(4, &own(&profile), |_| true);
        assert_eq!(times, fresh.functions(4, &own(&profile), |_| true));
        for (function, time) in profile.functions().iter().zip(times) {
            let row = table.find(&function.file, function.first_line, &function.name);
            let (tt, ct) = row.map_or((0.0, 0.0), |row| (row.tt, row.ct));
            assert!((tt - time.own / 1e9).abs() < 1e-12, "{function:?}");
            assert!((ct - time.cumulative / 1e9).abs() < 1e-12, "{function:?}");
        }
        for node in 0..index.len() {
            for &child in index.children(node) {
                assert_eq!(index.parent(child as usize), Some(node));
                assert_eq!(index.thread(child as usize), index.thread(node));
            }
        }
    }
}
