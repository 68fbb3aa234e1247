//! Where the batches of one source go, and what of it is news at all.
//!
//! A batch for which there is no room goes back to the sampler, and out with the next one: it never waits for whoever takes
//! them. What is seen of a process of a tree is held back at first, since it may have been a copy of its parent that was about
//! to execute another program.

use std::collections::HashMap;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use pystrobe_profile::{Batch, NodeId, Process};

use crate::schedule::nanoseconds;

/// How long a process of a tree that has done nothing but stand in one place is taken for a copy that may be about to execute
/// another program. Mostly that takes a millisecond, but on a busy machine it may have to wait for its turn.
const STANDS_STILL: Duration = Duration::from_secs(1);
/// Samples elsewhere that make no difference to that.
const PASSING: u64 = 2;

/// Where the batches of one source go, and what they say of it.
pub(crate) struct News {
    sender: Sender<Batch>,
    source: u32,
    /// When the source began, after the recording did.
    began: Duration,
    /// The process, until it has been described.
    process: Option<Process>,
    /// Whether anything went out. Until then a process of a tree may prove to be something that nobody asked for:
    /// a copy of its parent that was about to execute another program.
    sent: bool,
    /// It has proven to be that, and nothing came after it so far.
    void: bool,
}

impl News {
    /// Those of the only process, which is described already.
    pub(crate) fn of_only_process(sender: Sender<Batch>) -> Self {
        Self {
            sender,
            source: 0,
            began: Duration::ZERO,
            process: None,
            sent: true,
            void: false,
        }
    }

    /// Those of a process of a tree. It is described with the first time that was seen of it.
    pub(crate) fn of_process(
        sender: Sender<Batch>,
        source: u32,
        began: Duration,
        process: Process,
    ) -> Self {
        Self {
            sender,
            source,
            began,
            process: Some(process),
            sent: false,
            void: false,
        }
    }

    /// Whether anything of the process went out.
    pub(crate) fn has_begun(&self) -> bool {
        self.sent
    }

    /// The process executes another program, or what will be none: if nothing went out so far, nothing of what it was will.
    pub(crate) fn forget_unsent(&mut self) {
        self.void |= !self.sent;
    }

    /// What it has become is worth telling again. It is called so where nothing has been told of it.
    pub(crate) fn go_on_as(&mut self, process: Process) {
        if !self.sent {
            self.void = false;
            self.process = Some(process);
        }
    }

    /// Sends a batch. Gives it back if it is no news, or there is no room.
    pub(crate) fn send(&mut self, mut batch: Batch) -> Option<Batch> {
        if !self.address(&mut batch, false) {
            return Some(batch);
        }
        match self.sender.try_send(batch) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(batch)) => Some(batch),
        }
    }

    /// Sends the last batch, which may wait for room.
    pub(crate) fn send_last(&mut self, mut batch: Batch) {
        if self.address(&mut batch, true) {
            // That nobody is listening any more is no reason to complain.
            let _ = self.sender.send(batch);
        }
    }

    /// Makes the batch one of this source, where it is worth sending: a process that was never seen is none, and what stands
    /// still since its beginning is not one yet, unless this is the `last` that is seen of it.
    fn address(&mut self, batch: &mut Batch, last: bool) -> bool {
        if self.void || (!self.sent && batch.observations.is_empty()) {
            return false;
        }
        let is_young = batch.elapsed < nanoseconds(STANDS_STILL);
        if !self.sent && !last && is_young && stands_still(batch) {
            return false;
        }
        self.sent = true;
        batch.source = self.source;
        batch.elapsed = batch.elapsed.saturating_add(nanoseconds(self.began));
        batch.processes.extend(self.process.take());
        true
    }
}

/// Whether hardly anything was seen but one place. What runs in a copy right after a `fork` (`os.register_at_fork`) may
/// have been seen too.
fn stands_still(batch: &Batch) -> bool {
    let mut samples: HashMap<NodeId, u64> = HashMap::new();
    for seen in &batch.observations {
        *samples.entry(seen.node).or_default() += seen.samples.wall;
    }
    let (all, most) = (samples.values().sum::<u64>(), samples.values().max());
    most.is_none_or(|most| all - most <= PASSING)
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, bounded};
    use pystrobe_profile::{Clocks, Observation};

    use super::*;

    fn process(pid: u32) -> Process {
        Process {
            pid,
            command: String::from("python"),
            python: String::from("3.12.1"),
        }
    }

    fn news() -> (News, Receiver<Batch>) {
        let (sender, batches) = bounded(1);
        let news = News::of_process(sender, 3, Duration::from_secs(5), process(7));
        (news, batches)
    }

    /// A process that was seen at these nodes, ten times at each.
    fn batch(nodes: &[usize], milliseconds: u64) -> Batch {
        let observation = |node: &usize| Observation {
            node: NodeId::from_index(*node),
            nanoseconds: Clocks::of_wall(10_000_000),
            samples: Clocks::of_wall(10),
        };
        Batch {
            observations: nodes.iter().map(observation).collect(),
            elapsed: nanoseconds(Duration::from_millis(milliseconds)),
            ..Batch::default()
        }
    }

    #[test]
    fn what_moves_is_told_at_once() {
        let (mut news, batches) = news();
        assert!(news.send(batch(&[], 50)).is_some());
        assert!(news.send(batch(&[1, 2], 100)).is_none() && news.has_begun());
        let told = batches.recv().unwrap();
        assert_eq!((told.source, told.processes), (3, vec![process(7)]));
        assert_eq!(told.elapsed, nanoseconds(Duration::from_millis(5100)));
        assert!(news.send(batch(&[1], 150)).is_none());
        assert!(batches.recv().unwrap().processes.is_empty());
    }

    #[test]
    fn what_stands_still_is_told_when_it_is_old_or_has_ended() {
        let (mut news, _batches) = news();
        assert!(news.send(batch(&[1, 1], 900)).is_some() && !news.has_begun());
        assert!(news.send(batch(&[1, 1], 1100)).is_none());

        let (mut news, batches) = self::news();
        news.send_last(batch(&[1], 50));
        assert_eq!(batches.len(), 1);
    }

    #[test]
    fn a_copy_that_executes_another_program_was_nothing() {
        let (mut news, batches) = news();
        assert!(news.send(batch(&[1], 50)).is_some());
        news.forget_unsent();
        assert!(news.send(batch(&[1, 2], 2000)).is_some());
        news.go_on_as(process(8));
        assert!(news.send(batch(&[1, 2], 2000)).is_none());
        assert_eq!(batches.recv().unwrap().processes, [process(8)]);
        // What was told stays, whatever is executed then.
        news.forget_unsent();
        assert!(news.send(batch(&[1], 2100)).is_none());
    }

    #[test]
    fn without_room_a_batch_comes_back() {
        let (mut news, batches) = news();
        assert!(news.send(batch(&[1, 2], 100)).is_none());
        assert!(news.send(batch(&[1, 2], 150)).is_some());
        drop(batches);
        assert!(news.send(batch(&[1, 2], 200)).is_none(), "nobody listens");
    }
}
