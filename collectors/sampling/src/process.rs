//! What `/proc` says about a process: whether it lives, what it runs, and its threads.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Bytes of a command line that are read; a program may be given megabytes.
const COMMAND_LINE_LIMIT: u64 = 64 << 10;
/// Bytes of a `status` or `stat` that are read. The longest lists the CPUs of a large machine.
const STATUS_LIMIT: u64 = 64 << 10;

/// The command line, words joined by spaces. Where there is none (a kernel thread, a zombie), the name
/// that the kernel gives it, in brackets as `ps` shows it. Empty where the process is gone.
#[must_use]
pub fn command_line(pid: u32) -> String {
    let bytes = read(&format!("/proc/{pid}/cmdline"), COMMAND_LINE_LIMIT).unwrap_or_default();
    let words: Vec<_> = bytes
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    let line = words.join(" ").trim_end().to_owned();
    if !line.is_empty() {
        return line;
    }
    match read(&format!("/proc/{pid}/comm"), STATUS_LIMIT) {
        Ok(name) => format!("[{}]", String::from_utf8_lossy(&name).trim_end()),
        Err(_) => String::new(),
    }
}

/// What is left of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// It has ended; its parent has not asked for its exit status.
    Zombie,
    Gone,
}

/// What is left of the process.
pub(crate) fn life(pid: u32) -> Life {
    match run_state(&format!("/proc/{pid}/stat")) {
        Some(b'Z') => Life::Zombie,
        None | Some(b'X' | b'x') => Life::Gone,
        Some(_) => Life::Alive,
    }
}

/// Whether the process exists and has not ended. A zombie has.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    life(pid) == Life::Alive
}

/// Whether a thread exists and has not ended.
#[must_use]
pub fn thread_is_alive(pid: u32, thread: u32) -> bool {
    let state = run_state(&format!("/proc/{pid}/task/{thread}/stat"));
    !matches!(state, None | Some(b'Z' | b'X' | b'x'))
}

/// When it started, in ticks since the machine did: tells it from an earlier process with the same id.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)
}

/// Whether the process has begun to end, or has. Its memory goes some time before it counts as ended.
#[must_use]
pub fn is_ending(pid: u32) -> bool {
    /// `include/linux/sched.h`.
    const PF_EXITING: u64 = 0x4;
    stat_field(pid, 9).is_none_or(|flags| flags & PF_EXITING != 0) || !is_alive(pid)
}

/// A number in `/proc/PID/stat`, counted from 1 as in proc(5), behind the name.
fn stat_field(pid: u32, number: usize) -> Option<u64> {
    stat_fields(pid, [number]).map(|[field]| field)
}

fn stat_fields<const N: usize>(pid: u32, numbers: [usize; N]) -> Option<[u64; N]> {
    let stat = read(&format!("/proc/{pid}/stat"), STATUS_LIMIT).ok()?;
    // The name is the second field, and may hold spaces.
    let behind_name = stat.get(name_end(&stat)? + 1..)?;
    let fields = std::str::from_utf8(behind_name).ok()?.split_whitespace();
    let fields: Vec<&str> = fields.collect();
    let mut found = [0; N];
    for (value, number) in found.iter_mut().zip(numbers) {
        *value = fields.get(number.checked_sub(3)?)?.parse().ok()?;
    }
    Some(found)
}

/// Where the program, the heap, the stack and the arguments of a process start, which the kernel chose by chance when it was
/// executed, and which a fork copies. `None` where that was not left to chance, or may not be known.
pub(crate) fn random_addresses(pid: u32) -> Option<[u64; 4]> {
    /// `include/uapi/linux/personality.h`.
    const ADDR_NO_RANDOMIZE: u64 = 0x4_0000;
    // With 1 the heap is where it always is.
    let is_random = read("/proc/sys/kernel/randomize_va_space", STATUS_LIMIT).ok()?;
    let addresses = stat_fields(pid, [26, 47, 28, 48])?;
    let personality = read(&format!("/proc/{pid}/personality"), STATUS_LIMIT).ok()?;
    let personality = std::str::from_utf8(&personality).ok()?.trim().to_owned();
    let chosen = u64::from_str_radix(&personality, 16).ok()? & ADDR_NO_RANDOMIZE == 0;
    // Whoever may not know is told 0 or 1.
    let told = addresses.iter().all(|address| *address > 1);
    (is_random.trim_ascii() == b"2" && chosen && told).then_some(addresses)
}

/// The parent of a process that has not ended. `None` also for the id of a thread, which `/proc` knows as well.
pub(crate) fn parent_of_process(id: u32) -> Option<u32> {
    let status = status(&format!("/proc/{id}/status"))?;
    let number = |name| line(&status, name)?.trim().parse::<u32>().ok();
    let ended = line(&status, "State:")?
        .trim_start()
        .starts_with(['Z', 'X']);
    (number("Tgid:")? == id && !ended).then(|| number("PPid:"))?
}

/// The ids of all processes.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether two processes execute the same file.
pub(crate) fn same_program(one: u32, other: u32) -> bool {
    let program = |pid| fs::read_link(format!("/proc/{pid}/exe"));
    matches!((program(one), program(other)), (Ok(one), Ok(other)) if one == other)
}

/// The process that started it, and that is told how it ends.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let status = status(&format!("/proc/{pid}/status"))?;
    line(&status, "PPid:")?.trim().parse().ok()
}

/// The ids of the process's threads as the process itself sees them: in its own PID namespace.
///
/// Empty where the process is gone; a thread that ends meanwhile may be missing.
#[must_use]
pub fn native_ids(pid: u32) -> Vec<u64> {
    threads(pid).map(|thread| inner_id(pid, thread)).collect()
}

/// Whether the process numbers its threads as we do: it is in our PID namespace.
pub(crate) fn is_in_our_namespace(pid: u32) -> bool {
    let Some(status) = status(&format!("/proc/{pid}/status")) else {
        return true;
    };
    line(&status, "NSpid:").is_none_or(|ids| ids.split_whitespace().count() == 1)
}

/// The threads of a process by the ids that they have in its own PID namespace.
pub(crate) fn threads_by_inner_id(pid: u32) -> HashMap<u64, u32> {
    let threads = threads(pid).map(|thread| (inner_id(pid, thread), thread));
    threads.collect()
}

/// Whether a thread is on a CPU or waits for one. `native_id` is its id in the process's own PID namespace.
#[must_use]
pub fn thread_runs(pid: u32, native_id: u64) -> bool {
    // Mostly both namespaces are the same one, and the first look finds it.
    let same = u32::try_from(native_id)
        .ok()
        .filter(|thread| inner_id(pid, *thread) == native_id);
    let found = same
        .filter(|thread| fs::exists(format!("/proc/{pid}/task/{thread}")).unwrap_or(false))
        .or_else(|| threads(pid).find(|thread| inner_id(pid, *thread) == native_id));
    found.is_some_and(|thread| is_running(pid, thread))
}

/// Whether the main thread of a process was stopped by a signal of job control.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    run_state(&format!("/proc/{pid}/task/{pid}/stat")) == Some(b'T')
}

/// Whether the main thread of a process stands still for who traces it.
#[must_use]
pub fn is_held(pid: u32) -> bool {
    run_state(&format!("/proc/{pid}/task/{pid}/stat")) == Some(b't')
}

/// The number of the system call in which the main thread of a process sleeps.
#[must_use]
pub fn system_call(pid: u32) -> Option<i64> {
    let call = read(&format!("/proc/{pid}/task/{pid}/syscall"), STATUS_LIMIT).ok()?;
    let number = call.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Whether a signal waits for the main thread of a process, and is not blocked by it.
#[must_use]
pub fn has_signal(pid: u32) -> bool {
    let Some(status) = status(&format!("/proc/{pid}/task/{pid}/status")) else {
        return false;
    };
    let set = |name| u64::from_str_radix(line(&status, name)?.trim(), 16).ok();
    let pending = set("SigPnd:").unwrap_or(0) | set("ShdPnd:").unwrap_or(0);
    pending & !set("SigBlk:").unwrap_or(0) != 0
}

/// The process that traces this one, as a debugger does.
#[must_use]
pub fn tracer(pid: u32) -> Option<u32> {
    let status = status(&format!("/proc/{pid}/status"))?;
    let tracer: u32 = line(&status, "TracerPid:")?.trim().parse().ok()?;
    // It is the thread that traces, as the kernel sees it.
    let process = || {
        let status = self::status(&format!("/proc/{tracer}/status"))?;
        line(&status, "Tgid:")?.trim().parse().ok()
    };
    (tracer != 0).then(|| process().unwrap_or(tracer))
}

/// The effective user and group of the process: who it is to other processes, and to files.
#[must_use]
pub fn owner(pid: u32) -> Option<(u32, u32)> {
    let status = status(&format!("/proc/{pid}/status"))?;
    let effective = |name| line(&status, name)?.split_whitespace().nth(1)?.parse().ok();
    Some((effective("Uid:")?, effective("Gid:")?))
}

/// Whether a thread is on a CPU or waits for one, by its id in our namespace.
#[must_use]
pub fn is_running(pid: u32, thread: u32) -> bool {
    run_state(&format!("/proc/{pid}/task/{thread}/stat")) == Some(b'R')
}

/// The ids of its threads as our `/proc` numbers them.
pub fn threads(pid: u32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The id that a thread has for itself: the last of `NSpid`, which lists it from our namespace inwards.
/// Kernels without that line have no namespaces worth speaking of.
#[must_use]
pub fn inner_id(pid: u32, thread: u32) -> u64 {
    let status = status(&format!("/proc/{pid}/task/{thread}/status")).unwrap_or_default();
    let ids = line(&status, "NSpid:").and_then(|ids| ids.split_whitespace().last()?.parse().ok());
    ids.unwrap_or(u64::from(thread))
}

/// The real, effective, saved and file system user of the process.
pub(crate) fn users(pid: u32) -> Option<Vec<u32>> {
    let status = status(&format!("/proc/{pid}/status"))?;
    line(&status, "Uid:")?
        .split_whitespace()
        .map(|user| user.parse().ok())
        .collect()
}

/// The effective capabilities of the process, a bit each.
pub(crate) fn effective_capabilities(pid: u32) -> Option<u64> {
    let status = status(&format!("/proc/{pid}/status"))?;
    u64::from_str_radix(line(&status, "CapEff:")?.trim(), 16).ok()
}

fn status(path: &str) -> Option<String> {
    let bytes = read(path, STATUS_LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn line<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

/// The letter for the state in a `stat` file.
fn run_state(path: &str) -> Option<u8> {
    state_letter(&read(path, STATUS_LIMIT).ok()?)
}

/// The state stands behind the name, which is in parentheses and may hold some itself.
fn state_letter(stat: &[u8]) -> Option<u8> {
    stat.get(name_end(stat)? + 2).copied()
}

fn name_end(stat: &[u8]) -> Option<usize> {
    stat.iter().rposition(|byte| *byte == b')')
}

fn read(path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Notices when a process executes another program.
///
/// `/proc/PID/mem` belongs to the address space that the process had when the file was opened. An
/// `exec`, like the end of the process, takes that away, and reading then gives nothing at all
/// (`mem_rw` in `fs/proc/base.c`); as long as it is there, address 0 gives an error. The link
/// `/proc/PID/exe` was the other way: it does not change when a Python executes itself again.
#[derive(Debug)]
pub struct ExecWatch {
    memory: File,
}

impl ExecWatch {
    /// Watches the program that the process executes now.
    ///
    /// # Errors
    ///
    /// Where the process has ended or may not be read.
    pub fn new(pid: u32) -> io::Result<Self> {
        Ok(Self {
            memory: File::open(format!("/proc/{pid}/mem"))?,
        })
    }

    /// Whether the process has executed another program since, or has ended. One system call.
    #[must_use]
    pub fn replaced(&self) -> bool {
        matches!(self.memory.read_at(&mut [0], 0), Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A process that echoes, and has begun to.
    fn cat() -> Child {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn a_process_is_alive_then_a_zombie_then_gone() {
        let mut child = cat();
        let pid = child.id();
        assert_eq!(life(pid), Life::Alive);
        assert_eq!(command_line(pid), "cat");
        let watch = ExecWatch::new(pid).unwrap();
        assert!(!watch.replaced());
        assert_eq!(parent_of_process(pid), Some(std::process::id()));
        assert!(all().any(|one| one == pid));
        let (own, its) = (start_time(std::process::id()), start_time(pid));
        assert!(own.is_some() && own <= its, "{own:?} {its:?}");
        assert!(!is_ending(pid));
        let own = random_addresses(std::process::id());
        assert!(own.is_none() || own != random_addresses(pid), "{own:?}");

        child.kill().unwrap();
        // The pipe closes when the process ends, a moment before it is a zombie.
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_to_end(&mut Vec::new())
            .unwrap();
        while life(pid) == Life::Alive {
            std::thread::yield_now();
        }
        assert_eq!(life(pid), Life::Zombie);
        assert_eq!(parent_of_process(pid), None);
        assert!(is_ending(pid));
        assert_eq!(command_line(pid), "[cat]");
        assert!(watch.replaced());

        child.wait().unwrap();
        assert_eq!(life(pid), Life::Gone);
        assert_eq!(command_line(pid), "");
        assert!(native_ids(pid).is_empty());
    }

    #[test]
    fn an_exec_is_noticed() {
        let script = "echo ready; read go; exec cat";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        let watch = ExecWatch::new(child.id()).unwrap();
        assert!(!watch.replaced());
        // What cat echoes shows that it runs.
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\nx").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert!(watch.replaced());
        assert!(!ExecWatch::new(child.id()).unwrap().replaced());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn threads_are_known_by_their_own_ids() {
        let own = u64::from(nix::unistd::gettid().as_raw().cast_unsigned());
        let pid = std::process::id();
        assert!(native_ids(pid).contains(&own));
        let thread = u32::try_from(own).unwrap();
        assert!(thread == pid || parent_of_process(thread).is_none());
        assert!(thread_runs(pid, own));
        assert!(!thread_runs(pid, u64::MAX));
        assert!(!thread_runs(pid, 1), "a thread of another process");
    }

    #[test]
    fn the_state_is_found_behind_any_name() {
        assert_eq!(state_letter(b"12 (cat) S 1 12"), Some(b'S'));
        assert_eq!(state_letter(b"12 (a) Z (b) R 1 12"), Some(b'R'));
        assert_eq!(state_letter(b"12 (cat)"), None);
        assert_eq!(state_letter(b""), None);
    }
}
