//! Which processes are new, a moment after they start, without asking for all of them each time.
//!
//! The last number in `/proc/loadavg` is the process or thread id that was given out last in our PID namespace
//! (`fs/proc/loadavg.c`), and ids are given out in order. So one small read tells that nothing has started, and
//! otherwise which ids to look at. The other ways were `/proc/PID/task/TID/children`, a read for each thread of
//! each process that is known and not in every kernel, and the kernel's process connector, which needs
//! CAP_NET_ADMIN and hears nothing inside of a container.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::process;

/// More new ids than this, and to list all processes is quicker.
const MOST_IDS: u32 = 1000;
/// For how many looks an id is waited for that was given out and is not there: it is taken before the process is shown, and
/// on a busy machine whoever starts one may lose his turn in between. It is looked at less and less often.
const LOOKS: u32 = 128;
/// Between two lists of all processes, for what came without an id of its own turn (`set_tid` of `clone3`), or
/// was not there when it was looked at.
const LIST_EVERY: Duration = Duration::from_secs(2);
/// The same where the last id is not told (gVisor), and lists are all there is.
const LIST_OFTEN: Duration = Duration::from_millis(5);
/// To list all processes takes at most one part in so many of the time.
const SHARE: u32 = 50;

/// A process and who started it; where that one has ended, who adopted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Born {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct NewProcesses {
    load: Option<File>,
    last: Option<u32>,
    /// Ids that were given out and are not there, with the number of looks since.
    awaited: Vec<(u32, u32)>,
    next_list: Instant,
}

impl NewProcesses {
    /// To begin with all processes are new.
    pub(crate) fn new() -> Self {
        Self {
            load: File::open("/proc/loadavg").ok(),
            last: None,
            awaited: Vec::new(),
            next_list: Instant::now(),
        }
    }

    /// The processes that are new since the last call; now and then all that there are.
    pub(crate) fn look(&mut self) -> Vec<Born> {
        // Asked before the processes are: what starts meanwhile is new the next time.
        let last = self.last_id();
        let before = std::mem::replace(&mut self.last, last);
        let fresh = match (before, last) {
            (Some(before), Some(last)) if before == last => 0..0,
            (Some(before), Some(last)) if before < last && last - before <= MOST_IDS => {
                before + 1..last + 1
            }
            // The ids have begun again, or too many were given out.
            (Some(_), Some(_)) => {
                self.next_list = Instant::now();
                0..0
            }
            _ => 0..0,
        };
        let mut looks: Vec<(u32, u32)> = std::mem::take(&mut self.awaited);
        looks.extend(fresh.map(|id| (id, 0)));
        let mut born = Vec::new();
        for (id, age) in looks {
            let look = age == 0 || age.is_power_of_two();
            match look.then(|| process::parent_of_process(id)).flatten() {
                Some(parent) => born.push(Born { pid: id, parent }),
                None if age < LOOKS => self.awaited.push((id, age + 1)),
                None => {}
            }
        }
        if Instant::now() >= self.next_list {
            born.extend(self.list());
            born.sort_unstable_by_key(|one| one.pid);
            born.dedup_by_key(|one| one.pid);
        }
        born
    }

    fn list(&mut self) -> Vec<Born> {
        let began = Instant::now();
        let born = process::all()
            .filter_map(|pid| {
                let parent = process::parent_of_process(pid)?;
                Some(Born { pid, parent })
            })
            .collect();
        let pause = if self.last.is_some() {
            LIST_EVERY
        } else {
            LIST_OFTEN
        };
        self.next_list = Instant::now() + pause.max(began.elapsed() * SHARE);
        born
    }

    fn last_id(&self) -> Option<u32> {
        let mut text = [0; 128];
        let length = self.load.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let id = text.split_whitespace().last()?.parse().ok()?;
        (id != 0).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_child_is_new_once_it_starts() {
        let mut news = NewProcesses::new();
        let own = std::process::id();
        assert!(news.look().iter().any(|born| born.pid == own));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let expected = Born {
            pid: child.id(),
            parent: own,
        };
        let began = Instant::now();
        let mut seen = false;
        while !seen && began.elapsed() < Duration::from_secs(60) {
            seen = news.look().contains(&expected);
        }
        assert!(seen);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn without_the_last_id_there_are_lists() {
        let mut news = NewProcesses {
            load: None,
            ..NewProcesses::new()
        };
        let own = std::process::id();
        for _twice in 0..2 {
            news.next_list = Instant::now();
            assert!(news.look().iter().any(|born| born.pid == own));
        }
        news.next_list = Instant::now() + Duration::from_secs(3600);
        assert!(news.look().is_empty());
    }

    #[test]
    fn what_starts_before_the_ids_begin_again_is_found_by_a_list() {
        let mut news = NewProcesses::new();
        news.look();
        let own = std::process::id();
        news.last = Some(u32::MAX - 1);
        assert!(news.look().iter().any(|born| born.pid == own));
    }
}
