//! When to sample: one moment in each interval, at a place in it that is drawn anew every time.
//!
//! The intervals are fixed from the start, so that nothing drifts; the random place in each keeps a
//! program that repeats itself at the sampling rate from always being caught at the same step. Intervals
//! that have passed are skipped, never caught up: a burst of samples would count one moment many times.

use std::time::Duration;

/// Below this interval a wait is spun away: a sleep takes longer than there is to wait.
const SPIN_BELOW: Duration = Duration::from_micros(50);

/// No sample takes less than this: at shorter intervals each follows the one before it, and to wait for a place in the interval would be
/// for nothing.
const NEVER_REACHED: Duration = Duration::from_micros(2);

/// The moments to sample at, as times since the start of the recording.
#[derive(Debug)]
pub(crate) struct Schedule {
    interval: u64,
    /// The interval that the next sample belongs to, counted from 0.
    slot: u64,
    random: fastrand::Rng,
}

/// A moment that was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick {
    /// When to sample.
    pub(crate) due: Duration,
    /// Intervals that passed without a sample since the tick before.
    pub(crate) skipped: u64,
}

impl Schedule {
    /// A schedule with one sample in each `interval` (at least a nanosecond). The seed decides the places.
    pub(crate) fn new(interval: Duration, seed: u64) -> Self {
        Self {
            interval: nanoseconds(interval).max(1),
            slot: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The next moment, where `now` has passed since the start.
    pub(crate) fn next(&mut self, now: Duration) -> Tick {
        let passed = nanoseconds(now) / self.interval;
        let skipped = passed.saturating_sub(self.slot);
        let slot = self.slot.max(passed);
        self.slot = slot + 1;
        let place = match u128::from(self.interval) < NEVER_REACHED.as_nanos() {
            true => 0,
            false => self.random.u64(0..self.interval),
        };
        Tick {
            due: Duration::from_nanos(slot.saturating_mul(self.interval).saturating_add(place)),
            skipped,
        }
    }

    /// Whether waiting for a tick is to keep the processor busy.
    pub(crate) fn spins(&self) -> bool {
        u128::from(self.interval) < SPIN_BELOW.as_nanos()
    }

    /// Whether a sample that was taken at `now` came later than an interval after it was due.
    pub(crate) fn is_late(&self, tick: Tick, now: Duration) -> bool {
        nanoseconds(now.saturating_sub(tick.due)) > self.interval
    }
}

/// A duration as nanoseconds; what does not fit 584 years is as much as fits.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn every_interval_has_one_sample_at_a_place_of_its_own() {
        let mut schedule = Schedule::new(MILLISECOND, 1);
        let mut places = Vec::new();
        let mut now = Duration::ZERO;
        for slot in 0..1000 {
            let tick = schedule.next(now);
            assert_eq!(tick.skipped, 0);
            let place = tick.due.checked_sub(MILLISECOND * slot).unwrap();
            assert!(place < MILLISECOND);
            places.push(place);
            now = tick.due;
        }
        let mean = places.iter().sum::<Duration>() / 1000;
        assert!(
            (Duration::from_micros(450)..Duration::from_micros(550)).contains(&mean),
            "{mean:?}"
        );
    }

    #[test]
    fn a_stall_is_skipped_and_counted() {
        let mut schedule = Schedule::new(MILLISECOND, 2);
        let first = schedule.next(Duration::ZERO);
        assert_eq!(first.skipped, 0);
        let tick = schedule.next(Duration::from_micros(500_300));
        assert_eq!(tick.skipped, 499);
        assert!(tick.due >= Duration::from_millis(500) && tick.due < Duration::from_millis(501));
        assert_eq!(schedule.next(tick.due).skipped, 0);
    }

    #[test]
    fn a_sample_is_late_when_it_comes_an_interval_after_it_was_due() {
        let mut schedule = Schedule::new(MILLISECOND, 3);
        let tick = schedule.next(Duration::ZERO);
        assert!(!schedule.is_late(tick, tick.due + Duration::from_micros(900)));
        assert!(schedule.is_late(tick, tick.due + Duration::from_micros(1100)));
    }
}
