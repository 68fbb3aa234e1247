//! What was seen of a thread since its processor time was last asked for, and how that time is shared among it.
//!
//! The kernel says how long a thread was on a CPU, and how long it wanted one, since the last time it was asked; when that was
//! it does not say. Whoever holds the GIL mostly runs, so what was seen with the GIL gets the time first; what is left goes to
//! the rest; within each in proportion. To give the newest all that it has room for was the other way: it favours what comes before
//! a look, and that is always what the thread does for a short time only.

use pystrobe_profile::{Clocks, Observation};

/// The kernel updates a running thread's account at its clock tick, at the latest after this time (100 ticks a second), in nanoseconds.
const TICK: u64 = 10_000_000;

/// Time that a thread spent, by the kernel's account, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spent {
    /// On a CPU.
    pub(crate) running: u64,
    /// Ready to run, and waiting for a CPU.
    pub(crate) ready: u64,
}

/// What was seen of one thread since its account was last looked at.
#[derive(Debug, Default)]
pub(crate) struct TimeWindow {
    /// In the order in which it was seen. Of each only the time and the samples in all, with the GIL and with an exception are known.
    pub(crate) seen: Vec<Observation>,
    /// Time on a CPU that the account had and the window had no room for: what it was behind before.
    credit: u64,
    /// Time on a CPU that was given out before the account had it.
    debt: u64,
}

impl TimeWindow {
    /// Shares `spent` among what was seen, and hands that out. `runs`: the thread held the GIL when it was last seen, so what is missing
    /// in the account is on its way. `later`: so much of the time on a CPU, in nanoseconds, it was at a place that is not among
    /// what was seen yet.
    pub(crate) fn share(
        &mut self,
        spent: Spent,
        runs: bool,
        later: u64,
        mut each: impl FnMut(Observation),
    ) {
        let paid = self.debt.min(spent.running);
        self.debt -= paid;
        let mut running = spent.running - paid + self.credit;
        let later = later.min(running);
        running -= later;
        let run = |time: &mut Clocks, part| time.cpu += part;
        running -= self.spread(running, |time| time.gil, run);
        if runs {
            let missing = |time: &Clocks| time.gil.saturating_sub(time.cpu);
            self.debt += self.spread(TICK - self.debt, missing, run);
        }
        let idle = |time: &Clocks| time.wall.saturating_sub(time.cpu);
        self.credit = (later + running - self.spread(running, idle, run)).min(TICK);
        self.spread(spent.ready, idle, |time, part| {
            time.waiting = idle(time) - part
        });
        for mut seen in self.seen.drain(..) {
            let part = |time: u64| part(seen.samples.wall, time, seen.nanoseconds.wall);
            seen.samples = Clocks {
                cpu: part(seen.nanoseconds.cpu),
                waiting: seen.samples.wall - part(seen.nanoseconds.wall - seen.nanoseconds.waiting),
                ..seen.samples
            };
            each(seen);
        }
    }

    /// Gives to each of what was seen its part of `amount`, in proportion to the room that it has. Gives what was given in all.
    fn spread(
        &mut self,
        amount: u64,
        room: impl Fn(&Clocks) -> u64,
        mut give: impl FnMut(&mut Clocks, u64),
    ) -> u64 {
        let mut rooms: u64 = self.seen.iter().map(|seen| room(&seen.nanoseconds)).sum();
        let all = amount.min(rooms);
        let mut left = all;
        for seen in &mut self.seen {
            let time = &mut seen.nanoseconds;
            let room = room(time);
            let part = share(left, room, rooms);
            give(time, part);
            (left, rooms) = (left - part, rooms - room);
        }
        all
    }

    /// Hands out what was seen where the kernel gives no account of it any more, because the thread has ended: it ran while it held
    /// the GIL, and of the rest nothing is known.
    pub(crate) fn guess(&mut self, mut each: impl FnMut(Observation)) {
        for mut seen in self.seen.drain(..) {
            seen.nanoseconds.cpu = seen.nanoseconds.gil;
            seen.samples.cpu = seen.samples.gil;
            each(seen);
        }
    }

    /// What the account was behind or ahead is forgotten: the thread was out of sight meanwhile.
    pub(crate) fn forget_balance(&mut self) {
        (self.credit, self.debt) = (0, 0);
    }
}

/// `amount` times `part` over `whole`, rounded down; no more than `part` where the amount is no more than the whole.
fn share(amount: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(amount) * u128::from(part);
    let share = product.checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(share).unwrap_or(amount)
}

/// How many of `samples`, that stand for `of` nanoseconds, stand for `time` of them. A sample that has any counts.
fn part(samples: u64, time: u64, of: u64) -> u64 {
    if of == 0 {
        return 0;
    }
    let part = (u128::from(samples) * u128::from(time)).div_ceil(u128::from(of));
    u64::try_from(part).unwrap_or(samples).min(samples)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pystrobe_profile::NodeId;

    use super::*;

    const MS: u64 = 1_000_000;

    fn seen(node: usize, wall: u64, gil: u64, samples: u64) -> Observation {
        Observation {
            node: NodeId::from_index(node),
            nanoseconds: Clocks {
                gil,
                ..Clocks::of_wall(wall)
            },
            samples: Clocks {
                gil: if gil > 0 { samples } else { 0 },
                ..Clocks::of_wall(samples)
            },
        }
    }

    fn shared(window: &mut TimeWindow, running: u64, ready: u64, runs: bool) -> Vec<(u64, u64)> {
        let mut times = Vec::new();
        window.share(Spent { running, ready }, runs, 0, |seen| {
            times.push((seen.nanoseconds.cpu, seen.nanoseconds.waiting));
        });
        times
    }

    #[test]
    fn who_holds_the_gil_runs() {
        let mut window = TimeWindow {
            seen: vec![
                seen(0, 4 * MS, 0, 4),
                seen(1, 2 * MS, 2 * MS, 2),
                seen(0, 4 * MS, 0, 4),
            ],
            ..TimeWindow::default()
        };
        let times = shared(&mut window, 2 * MS, 0, false);
        assert_eq!(times, [(0, 4 * MS), (2 * MS, 0), (0, 4 * MS)]);
    }

    #[test]
    fn the_rest_of_the_time_is_shared_in_proportion() {
        let mut window = TimeWindow {
            seen: vec![seen(0, 6 * MS, 0, 6), seen(1, 2 * MS, 0, 2)],
            ..TimeWindow::default()
        };
        let times = shared(&mut window, 4 * MS, 2 * MS, false);
        assert_eq!(times, [(3 * MS, 3 * MS / 2), (MS, MS / 2)]);
    }

    #[test]
    fn what_comes_next_gets_its_part_of_the_time() {
        let mut window = TimeWindow::default();
        window.seen.push(seen(0, 9 * MS, 0, 9));
        let spent = Spent {
            running: 2 * MS,
            ready: 0,
        };
        window.share(spent, false, MS, |seen| {
            assert_eq!(seen.nanoseconds.cpu, MS)
        });
        window.seen.push(seen(1, MS, 0, 1));
        assert_eq!(shared(&mut window, 0, 0, false), [(MS, 0)]);
    }

    /// The account of a thread that runs comes in steps of a tick.
    #[test]
    fn an_account_that_is_behind_is_not_taken_for_waiting() {
        let mut window = TimeWindow::default();
        let mut account = 0;
        for now in 1..=40_u64 {
            window.seen = vec![seen(0, 3 * MS, 3 * MS, 3)];
            let ticked = 3 * MS * now / (4 * MS) * (4 * MS);
            let times = shared(&mut window, ticked - account, 0, true);
            account = ticked;
            assert_eq!(times, [(3 * MS, 0)], "{now}");
        }
        // It sleeps now, and the account has caught up.
        window.seen = vec![seen(0, 9 * MS, 0, 9)];
        assert_eq!(
            shared(&mut window, 120 * MS - account, 0, false),
            [(0, 9 * MS)]
        );
    }

    #[test]
    fn whoever_waits_with_the_gil_is_seen_to_wait_after_a_tick() {
        let mut window = TimeWindow::default();
        let waited: u64 = (0..100)
            .flat_map(|_| {
                window.seen = vec![seen(0, MS, MS, 1)];
                shared(&mut window, 0, 0, true)
            })
            .map(|(_, waiting)| waiting)
            .sum();
        assert_eq!(waited, 90 * MS);
    }

    proptest! {
        /// No part is more than the whole, and over many windows no processor time is invented beyond a tick.
        #[test]
        fn parts_stay_parts(
            windows in prop::collection::vec(
                (prop::collection::vec((1..9 * MS, any::<bool>(), 1..9_u64), 0..9), 0..40 * MS, 0..9 * MS, any::<bool>(), 0..9 * MS),
                1..20,
            ),
        ) {
            let mut window = TimeWindow::default();
            let (mut given, mut had) = (0, 0);
            for (observations, running, ready, runs, later) in windows {
                window.seen = observations
                    .iter()
                    .map(|&(wall, held, samples)| seen(0, wall, if held { wall } else { 0 }, samples))
                    .collect();
                had += running;
                let mut parts = 0;
                window.share(Spent { running, ready }, runs, later, |seen| {
                    parts += 1;
                    given += seen.nanoseconds.cpu;
                    for clocks in [seen.nanoseconds, seen.samples] {
                        assert!(clocks.cpu + clocks.waiting <= clocks.wall, "{clocks:?}");
                    }
                });
                prop_assert_eq!(parts, observations.len());
                prop_assert!(window.seen.is_empty());
            }
            prop_assert!(given <= had + TICK, "{} of {}", given, had);
        }
    }
}
