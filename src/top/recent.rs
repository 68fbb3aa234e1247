//! What is now: weights that fade.
//!
//! A window of the last seconds would have to remember every observation in it, and a value that leaves it makes the
//! numbers jump. A decaying mean needs one number a node and fades smoothly.

use pystrobe_profile::{CallTree, Counters};

/// What was seen this long ago counts half.
pub(super) const HALF_LIFE_NS: f64 = 2e9;

/// Decaying sums over a recording.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    /// Per node: nanoseconds on top, decayed.
    own: Vec<f64>,
    /// Per node: all nanoseconds on top at the last look.
    seen: Vec<u64>,
    elapsed_ns: u64,
    taken: u64,
    /// Samples and the time in which they were taken, decayed alike.
    samples: f64,
    seconds: f64,
    /// Nanoseconds with the GIL held, by any thread: decayed, and all at the last look.
    gil: f64,
    gil_seen: u64,
}

impl Recent {
    /// Takes in what has come since the last time. The tree, the counters and the time are those of the same recording,
    /// and only grow.
    pub(super) fn advance(&mut self, tree: &CallTree, counters: &Counters, elapsed_ns: u64) {
        let passed = elapsed_ns.saturating_sub(self.elapsed_ns) as f64;
        let keep = 0.5_f64.powf(passed / HALF_LIFE_NS);
        self.own.resize(tree.len(), 0.0);
        self.seen.resize(tree.len(), 0);
        let mut gil = 0_u64;
        for (id, (own, seen)) in tree.ids().zip(self.own.iter_mut().zip(&mut self.seen)) {
            let all = tree.own(id).nanoseconds;
            *own = *own * keep + all.saturating_sub(*seen) as f64;
            *seen = all;
            gil = gil.saturating_add(tree.seen(id).nanoseconds.gil);
        }
        self.gil = self.gil * keep + gil.saturating_sub(self.gil_seen) as f64;
        self.gil_seen = gil;
        self.samples = self.samples * keep + counters.taken.saturating_sub(self.taken) as f64;
        self.seconds = self.seconds * keep + passed / 1e9;
        self.taken = counters.taken;
        self.elapsed_ns = elapsed_ns;
    }

    /// Per node: nanoseconds on top, decayed.
    pub(super) fn own(&self) -> &[f64] {
        &self.own
    }

    /// The part of the time in which some thread held the GIL.
    pub(super) fn gil_share(&self) -> f64 {
        if self.seconds > 0.0 {
            self.gil / 1e9 / self.seconds
        } else {
            0.0
        }
    }

    /// Samples a second; 0 before any time has passed.
    pub(super) fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.samples / self.seconds
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::example;

    fn taken(taken: u64) -> Counters {
        Counters {
            taken,
            ..Counters::default()
        }
    }

    #[test]
    fn what_was_seen_fades_by_half() {
        let mut recent = Recent::default();
        let mut builder = example::empty();
        builder.apply(&example::batch(0, &["f"], 1000)).unwrap();
        recent.advance(builder.so_far().tree(), &taken(1000), 1_000_000_000);
        assert_eq!(recent.own(), [0.0, 1000.0]);
        assert!((recent.rate() - 1000.0).abs() < 1e-9);

        builder.apply(&example::more(1, 100)).unwrap();
        recent.advance(builder.so_far().tree(), &taken(1000), 3_000_000_000);
        assert_eq!(recent.own(), [0.0, 600.0]);
        assert!((recent.rate() - 500.0 / 2.5).abs() < 1e-9);
        // Nothing new, no time passed.
        recent.advance(builder.so_far().tree(), &taken(1000), 3_000_000_000);
        assert_eq!(recent.own(), [0.0, 600.0]);
    }

    #[test]
    fn the_share_of_the_gil_is_that_of_the_time() {
        let mut recent = Recent::default();
        let mut builder = example::empty();
        let mut batch = example::batch(0, &["f"], 1_000_000_000);
        batch.observations[0].nanoseconds.gil = 250_000_000;
        builder.apply(&batch).unwrap();
        recent.advance(builder.so_far().tree(), &taken(1000), 1_000_000_000);
        assert!((recent.gil_share() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn before_anything_there_is_nothing() {
        let mut recent = Recent::default();
        recent.advance(example::empty().so_far().tree(), &taken(0), 0);
        assert_eq!(recent.own(), [] as [f64; 0]);
        assert_eq!((recent.rate(), recent.gil_share()), (0.0, 0.0));
    }
}
