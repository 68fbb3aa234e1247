//! One thread from sample to sample: where it was last, and what was seen of it since its processor time was asked for.

use pystrobe_profile::{Clocks, NodeId, Observation, ThreadId};

use crate::codes::CodeId;
use crate::logical::LogicalTrack;
use crate::processor_time::Accounting;
use crate::stacks::ThreadKey;
use crate::time_window::TimeWindow;
use crate::walk::RawFrame;

/// Time on a CPU is shared among no more than was seen within this time, in nanoseconds; and not sooner is it asked for again.
const ASKED_AGAIN: u64 = 10_000_000;
/// The same where the thread was seen without the GIL, and so may or may not have been on a CPU.
const ASKED_AGAIN_WITHOUT_GIL: u64 = 1_000_000;

/// Who has been at the same place for so many nanoseconds is not expected to begin to wait for the GIL there.
const LONG: u64 = 50_000_000;

/// What a thread is doing, beside being where it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Doing {
    /// It holds the GIL.
    pub(crate) gil: bool,
    /// It waits for the GIL.
    pub(crate) gil_wait: bool,
    /// It is busy with an exception.
    pub(crate) exception: bool,
}

impl Doing {
    /// A number on the clocks that one look tells.
    fn clocks(self, number: u64) -> Clocks {
        Clocks {
            gil: if self.gil { number } else { 0 },
            gil_wait: if self.gil_wait { number } else { 0 },
            exception: if self.exception { number } else { 0 },
            ..Clocks::of_wall(number)
        }
    }
}

/// A thread that was met.
#[derive(Debug)]
pub(crate) struct Track {
    /// That of its stack.
    pub(crate) serial: u64,
    pub(crate) thread: ThreadId,
    pub(crate) foot: NodeId,
    /// What its stack in the last sample stood on, and which of its frames that was: its foot and the first, or an asyncio task
    /// and its coroutine.
    pub(crate) base: (NodeId, usize),
    /// Its stack in the last sample from there on, outermost frame first.
    pub(crate) path: Vec<(RawFrame, CodeId, NodeId)>,
    /// Its asyncio tasks, where they are told.
    pub(crate) logical: LogicalTrack,
    pub(crate) key: ThreadKey,
    /// Its name, as soon as it is known.
    pub(crate) name: Option<String>,
    /// Where it was last.
    place: Option<Place>,
    window: TimeWindow,
    accounting: Accounting,
    /// When the account was last looked at, in nanoseconds.
    asked: u64,
    /// Whether it was seen without the GIL since.
    without_gil: bool,
    /// What it was found to wait for the last time that it was looked at for that.
    wait: Wait,
}

/// Whether a thread waits for the GIL.
#[derive(Debug, Clone, Copy)]
struct Wait {
    waits: bool,
    /// When that was found out, and when the thread had come to where it was, in nanoseconds.
    looked: u64,
    came: u64,
}

/// Where a thread was in a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) doing: Doing,
    /// The number of the sample.
    pub(crate) sample: u64,
    /// When it was taken, in nanoseconds of what all samples before it stand for.
    pub(crate) time: u64,
}

impl Track {
    /// A thread that is met for the first time, at the foot of its stack, in a sample that stands for `weight` nanoseconds.
    pub(crate) fn new(
        (serial, key): (u64, ThreadKey),
        thread: ThreadId,
        foot: NodeId,
        mut accounting: Accounting,
        weight: u64,
    ) -> Self {
        if let Accounting::Open(account) = &mut accounting
            && account.running() <= weight
        {
            // It was born in the time for which this sample stands.
            account.count_from_start();
        }
        Self {
            serial,
            thread,
            foot,
            base: (foot, 0),
            path: Vec::new(),
            logical: LogicalTrack::default(),
            key,
            name: None,
            place: None,
            window: TimeWindow::default(),
            accounting,
            asked: 0,
            without_gil: false,
            wait: Wait {
                waits: false,
                looked: 0,
                came: 0,
            },
        }
    }

    /// Whether the thread, which is at a node in the sample of a time and does not hold the lock, waits for it. The kernel is asked every
    /// `least` nanoseconds at the most, and less often where the thread has been for long.
    pub(crate) fn waits_for(&mut self, lock: u64, node: NodeId, time: u64, least: u64) -> bool {
        let Accounting::Open(account) = &mut self.accounting else {
            return false;
        };
        if self
            .place
            .is_none_or(|last| last.node != node || last.doing.gil)
        {
            self.wait.came = time;
            self.wait.waits = false;
        }
        let again = match time - self.wait.came > LONG {
            true => LONG.max(least),
            false => least,
        };
        if time.saturating_sub(self.wait.looked) >= again {
            self.wait.looked = time;
            self.wait.waits = account.waits_for(lock);
        }
        self.wait.waits
    }

    /// Notes where the thread is in a sample that stands for `weight` nanoseconds. What is known of the time before is handed out.
    pub(crate) fn see(&mut self, place: Place, weight: u64, seen: impl FnMut(Observation)) {
        let mut share = weight;
        let last = self.place.replace(place);
        if let Some(last) = last.filter(|last| last.sample + 1 == place.sample) {
            // When the thread went from one place to the other is not known: half of the time since the sample before is
            // given to each. To give all to the later one would favour whatever follows stacks that take long to read.
            share = weight - weight / 2;
            self.add(last.node, last.doing, weight / 2, 0);
            let since = place.time.saturating_sub(self.asked);
            let due = match self.without_gil {
                true => ASKED_AGAIN_WITHOUT_GIL,
                false => ASKED_AGAIN,
            };
            if last.node != place.node && since >= due {
                // Without the GIL there is nothing else to tell whether it went to work or to sleep there.
                let later = match &self.accounting {
                    Accounting::Open(account) if !place.doing.gil && account.runs() => share,
                    _ => 0,
                };
                self.hand_out_until(later, seen);
            }
        } else if last.is_some() {
            self.hand_out(seen);
            // What it has spent out of sight is nobody's.
            if let Accounting::Open(account) = &mut self.accounting {
                account.since();
            }
            self.window.forget_balance();
        } else {
            self.asked = place.time;
        }
        self.add(place.node, place.doing, share, 1);
    }

    fn add(&mut self, node: NodeId, doing: Doing, nanoseconds: u64, samples: u64) {
        self.without_gil |= !doing.gil;
        let (nanoseconds, samples) = (doing.clocks(nanoseconds), doing.clocks(samples));
        match self.window.seen.last_mut() {
            Some(last) if last.node == node => {
                last.nanoseconds += nanoseconds;
                last.samples += samples;
            }
            _ => self.window.seen.push(Observation {
                node,
                nanoseconds,
                samples,
            }),
        }
    }

    /// Hands out what was seen, with the processor time that goes with it.
    pub(crate) fn hand_out(&mut self, seen: impl FnMut(Observation)) {
        self.hand_out_until(0, seen);
    }

    /// The same, but for so many nanoseconds of processor time, which belong to where the thread is now.
    fn hand_out_until(&mut self, later: u64, seen: impl FnMut(Observation)) {
        let Some(place) = self.place.filter(|_| !self.window.seen.is_empty()) else {
            return;
        };
        self.asked = place.time;
        self.without_gil = false;
        let spent = match &mut self.accounting {
            Accounting::Off => return self.window.seen.drain(..).for_each(seen),
            Accounting::Ended => None,
            Accounting::Open(account) => account.since(),
        };
        match spent {
            Some(spent) => self.window.share(spent, place.doing.gil, later, seen),
            None => {
                self.accounting = Accounting::Ended;
                self.window.guess(seen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::processor_time::Accounts;

    const SECOND: u64 = 1_000_000_000;

    /// A thread that sleeps at one place, works at the next one and sleeps at the third. What it has spent is known only when it has come
    /// to the next place each time: its state there tells which of the two it belongs to. What it spends while nobody sees it is nobody's.
    #[test]
    fn what_was_spent_belongs_to_where_it_went_to_work() {
        let pid = std::process::id();
        let (id, ids) = channel();
        let (work, works) = channel::<()>();
        let (rest, rests) = channel::<()>();
        let thread = std::thread::spawn(move || {
            id.send(nix::unistd::gettid().as_raw()).unwrap();
            works.recv().unwrap();
            while rests.try_recv().is_err() {}
            works.recv().unwrap();
            while rests.try_recv().is_err() {}
            works.recv().unwrap();
        });
        let native_id = u64::try_from(ids.recv().unwrap()).unwrap();
        let mut accounts = Accounts::of(pid);
        let mut account = || match Accounts::of_thread(&mut accounts, native_id) {
            Accounting::Open(account) => account,
            other => panic!("{other:?}"),
        };
        let key = ThreadKey {
            state: 0,
            ident: 0,
            native_id: Some(native_id),
            interpreter: 0,
        };
        let state = account();
        while state.runs() {
            std::thread::yield_now();
        }
        let mut observer = account();
        let nodes = [0, 1, 2, 3, 4, 5].map(NodeId::from_index);
        let accounting = Accounting::Open(account());
        let mut track = Track::new((1, key), ThreadId::from_index(0), nodes[0], accounting, 0);
        let mut spent = [0; 6];
        let mut see = |number: u64| {
            let node = nodes[usize::try_from(number).unwrap()];
            let place = Place {
                node,
                doing: Doing::default(),
                sample: number,
                time: number * SECOND,
            };
            let mut add = |seen: Observation| spent[seen.node.index()] += seen.nanoseconds.cpu;
            track.see(place, SECOND, &mut add);
            if number >= 3 {
                track.hand_out(&mut add);
            }
        };
        see(1);
        let mut goes_to_work = || {
            work.send(()).unwrap();
            let mut worked = 0;
            while worked < 20_000_000 {
                worked += observer.since().unwrap().running;
            }
        };
        let goes_to_sleep = || {
            rest.send(()).unwrap();
            while state.runs() {
                std::thread::yield_now();
            }
        };
        goes_to_work();
        see(2);
        goes_to_sleep();
        see(3);
        // In the sample between these it is not seen.
        goes_to_work();
        goes_to_sleep();
        see(5);
        work.send(()).unwrap();
        thread.join().unwrap();
        assert!(spent[2] > 0, "{spent:?}");
        assert_eq!((spent[1], spent[3], spent[5]), (0, 0, 0), "{spent:?}");
    }
}
