//! How busy the process is: by the kernel's accounts, and by what the samples say of its GIL.

use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

/// The kernel counts in ticks of 10 ms: over less time than this a share would jump about.
const OVER: Duration = Duration::from_secs(1);

/// What the header says of the process as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Load {
    /// Processor time a second of wall clock: 1.0 is one core. `None` while it is not known.
    pub(super) cpu: Option<f64>,
    /// The part of the time, now, in which some thread held the GIL. `None` where that is not known.
    pub(super) gil: Option<f64>,
}

/// Reads it again and again.
#[derive(Debug)]
pub(super) struct Meter {
    pid: u32,
    ticks_per_second: f64,
    before: Option<(Instant, u64)>,
    load: Load,
}

impl Meter {
    /// For a process.
    pub(super) fn new(pid: u32) -> Meter {
        // Linux has had 100 for as long as it has had /proc.
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Meter {
            pid,
            ticks_per_second: ticks as f64,
            before: None,
            load: Load::default(),
        }
    }

    /// The processor time over the last second or so; nothing is known of a process that has ended.
    pub(super) fn read(&mut self) -> Load {
        let now = Instant::now();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        let Some(ticks) = stat.ok().and_then(|stat| processor_ticks(&stat)) else {
            self.load = Load::default();
            return self.load;
        };
        let (since, ticks_then) = *self.before.get_or_insert((now, ticks));
        let passed = now.saturating_duration_since(since);
        if passed >= OVER {
            let spent = ticks.saturating_sub(ticks_then) as f64 / self.ticks_per_second;
            self.load.cpu = Some(spent / passed.as_secs_f64());
            self.before = Some((now, ticks));
        }
        self.load
    }
}

/// `utime` and `stime` of /proc/PID/stat, fields 14 and 15 (proc_pid_stat(5)). The second field is a name in brackets that may
/// hold anything, brackets and spaces too.
fn processor_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 40 2 0 0";
        assert_eq!(processor_ticks(&format!("7 (python) {rest}")), Some(42));
        assert_eq!(processor_ticks(&format!("7 (a) b (c) {rest}")), Some(42));
        assert_eq!(processor_ticks("7 (python) S 1 2"), None);
        assert_eq!(processor_ticks(""), None);
    }

    #[test]
    fn a_process_that_does_not_exist_has_no_load() {
        let mut meter = Meter::new(u32::MAX);
        assert_eq!(meter.read(), Load::default());
    }
}
