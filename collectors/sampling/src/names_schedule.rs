//! When to read the names of threads: soon after a new one is met, and now and then.
//!
//! Reading them takes a few system calls a thread, so it is held to a small share of the time.

use std::time::Duration;

/// The names of all threads are read again after this time, because a program may change them.
const REFRESH_EVERY: Duration = Duration::from_secs(5);
/// A thread enters itself in the list of names a moment after it starts.
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// Reading names takes at most one part in so many of the time.
const SHARE: u32 = 50;

/// See the module's documentation. All times count from the start of the recording.
#[derive(Debug, Default)]
pub(crate) struct NamesSchedule {
    /// When to look again for names that were not there.
    next: Duration,
    /// Grows while threads stay without a name: some never get one.
    pause: Duration,
    /// Not before this time, so that the share is kept.
    earliest: Duration,
    last: Duration,
    /// How many threads had been met at the last look.
    met: usize,
}

impl NamesSchedule {
    /// Whether to read the names now. `met` counts the threads that were ever met; `unnamed` says
    /// whether one that is alive has no name yet.
    pub(crate) fn is_due(&self, now: Duration, met: usize, unnamed: bool) -> bool {
        let wanted = unnamed && (now >= self.next || met > self.met);
        now >= self.earliest && (wanted || now.saturating_sub(self.last) >= REFRESH_EVERY)
    }

    /// Notes that the names were read at `now`, which took `cost`.
    pub(crate) fn done(&mut self, now: Duration, met: usize, cost: Duration) {
        let fresh = met > self.met || now.saturating_sub(self.last) >= REFRESH_EVERY;
        self.pause = if fresh {
            FIRST_LOOK
        } else {
            (self.pause * 2).min(REFRESH_EVERY)
        };
        self.next = now + self.pause;
        self.earliest = now + cost * SHARE;
        self.last = now;
        self.met = met;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_threads_are_asked_about_less_and_less_often() {
        let mut schedule = NamesSchedule::default();
        let mut looks = Vec::new();
        for millisecond in 0..4000 {
            let now = Duration::from_millis(millisecond);
            if schedule.is_due(now, 1, true) {
                schedule.done(now, 1, Duration::from_micros(10));
                looks.push(millisecond);
            }
        }
        assert_eq!(looks[..4], [0, 5, 15, 35]);
        assert!(looks.len() < 12, "{looks:?}");
    }

    #[test]
    fn a_new_thread_is_asked_about_at_once() {
        let mut schedule = NamesSchedule::default();
        let now = Duration::from_millis(100);
        schedule.done(now, 1, Duration::ZERO);
        assert!(!schedule.is_due(now, 1, true));
        assert!(schedule.is_due(now, 2, true));
        assert!(!schedule.is_due(now, 2, false));
    }

    #[test]
    fn an_expensive_reading_is_rare() {
        let mut schedule = NamesSchedule::default();
        schedule.done(Duration::ZERO, 1, Duration::from_millis(20));
        assert!(!schedule.is_due(Duration::from_millis(999), 2, true));
        assert!(schedule.is_due(Duration::from_millis(1000), 2, true));
    }
}
