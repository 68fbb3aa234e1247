//! 3.8 to 3.13: the main thread is stopped and made to queue a call for itself.
//!
//! `Py_AddPendingCall(PyRun_SimpleString, text)` only puts two words into the interpreter's queue; the main thread makes the
//! call itself, when its evaluation loop comes to a place where that may happen (`Python/ceval.c`, `Python/ceval_gil.c`).
//! It has to be the main thread that queues it: up to 3.12 a call that another thread queues is not noticed before the main thread
//! next takes the GIL (`_Py_ThreadCanHandlePendingCalls`). The function takes one lock (`pending_lock`) and allocates
//! nothing, so that it may be called wherever the thread was stopped.
//!
//! The text has to be there until the call is made: it is in a page that is mapped before and unmapped after. A text that
//! could not be taken back, because the call was not made in time, finds no script any more and does nothing.
//!
//! The next call is not queued before this one has returned. The interpreter would make it in the same round, with the flag still
//! set that says there is one; and in 3.11 a function that is traced does not get past its first instruction while that
//! flag is set and nobody clears it (`DO_TRACING` in `Python/ceval.c` looks at the flag before it goes on).

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use pystrobe_sampling::AttachError;
use pystrobe_sampling::discovery::{self, Interpreter};
use pystrobe_sampling::memory::{Fields, RemoteMemory};
use pystrobe_sampling::process::{self, ExecWatch};
use pystrobe_sampling::process_memory::ProcessMemory;

use super::InjectionError;
use super::pending_lock::{PendingLock, State};
use super::remote_exec::{unread, write};
use super::stopped_thread::{Call, StoppedThread, SystemCall, has_shadow_stack};

/// How long the main thread may take to stop, and to queue the call. In uninterruptible sleep it does not stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// The page of the text.
const TEXT_SIZE: u64 = 4096;
/// Behind it. `Py_AddPendingCall` needs some hundred bytes, the dynamic linker some thousand where it is called for the first time.
const STACK_SIZE: u64 = 64 << 10;
/// What is read of an image at once in search of an instruction.
const CHUNK: u64 = 1 << 20;
/// The `syscall` instruction.
const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];

/// System calls that end when the thread is stopped, where others are restarted (signal(7)).
const ENDED_BY_A_STOP: [i64; 7] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_io_getevents,
];
/// Between two looks at a thread that is in one of them: short, because it may come out of it only for a moment.
const LOOK: Duration = Duration::from_micros(100);

/// Waits until the main thread can be stopped without ending what it waits for. `false` where it comes to no such place in
/// time; it would execute no Python code meanwhile either.
pub(super) fn may_be_stopped(pid: u32, until: Instant) -> bool {
    while let Some(call) = process::system_call(pid) {
        if !ENDED_BY_A_STOP.contains(&call) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

/// Bytes of a stack that are searched.
const LONGEST_STACK: u64 = 1 << 20;
/// Bytes of `PyRun_SimpleStringFlags`: 60 to 121 in the builds that were looked at.
const RUN_SIZE: u64 = 128;
/// How often it is looked whether a call has returned, and how long apart: what it still has to do takes microseconds, but it
/// may have to wait for the GIL.
const RETURNS: u32 = 500;
const RETURN_PAUSE: Duration = Duration::from_millis(1);

/// A call that the main thread has queued.
#[derive(Debug)]
pub(super) struct PendingCall {
    pid: u32,
    exec: ExecWatch,
    /// Address of the text.
    text: u64,
    content: Vec<u8>,
    /// Address of a `syscall` instruction.
    instruction: u64,
    /// Address of `PyRun_SimpleStringFlags`.
    run: u64,
    /// How often that was on the stack before the call was queued.
    runs: usize,
}

/// What has to be known of the target before it is stopped.
struct Plan {
    pid: u32,
    memory: ProcessMemory,
    lock: PendingLock,
    add_pending_call: u64,
    run_simple_string: u64,
    run: u64,
    instruction: u64,
    content: Vec<u8>,
}

impl PendingCall {
    /// Queues the execution of a script.
    pub(super) fn queue(
        interpreter: &Interpreter,
        script: &str,
        size: usize,
    ) -> Result<Self, InjectionError> {
        let pid = interpreter.pid;
        if has_shadow_stack(pid) {
            return Err(InjectionError::ShadowStack { pid });
        }
        let exec = ExecWatch::new(pid).map_err(|_| AttachError::Ended { pid })?;
        let memory = ProcessMemory::new(pid);
        let hidden = |what| InjectionError::Hidden { pid, what };
        let names = [
            "Py_AddPendingCall",
            "PyRun_SimpleString",
            "PyRun_SimpleStringFlags",
        ];
        let [Some(add_pending_call), Some(run_simple_string), Some(run)] =
            discovery::exported(interpreter, names)?
        else {
            return Err(hidden("Py_AddPendingCall"));
        };
        let lock = PendingLock::find(&memory, interpreter)
            .map_err(|error| unread(pid, &error))?
            .ok_or_else(|| hidden("the lock of its pending calls"))?;
        let instruction =
            find_instruction(pid, &memory).ok_or_else(|| hidden("a syscall instruction"))?;
        let content = text(script, size);
        let plan = Plan {
            pid,
            memory,
            lock,
            add_pending_call,
            run_simple_string,
            run,
            instruction,
            content: content.clone(),
        };
        let (text, runs) = on_a_thread(pid, move || plan.carry_out())?;
        Ok(Self {
            pid,
            exec,
            text,
            content,
            instruction,
            run,
            runs,
        })
    }

    /// Waits until a call that has done its work has returned, and unmaps its text.
    ///
    /// Where the thread does not stop in time, the page stays; nothing else depends on it.
    pub(super) fn forget(&self) -> Result<(), InjectionError> {
        on_a_thread(self.pid, || {
            let memory = ProcessMemory::new(self.pid);
            let mut looks = 0;
            let mut thread = loop {
                let thread = StoppedThread::stop(self.pid, Instant::now() + PATIENCE)?;
                looks += 1;
                // A word that is left of an earlier call looks the same: so there is an end to the waiting.
                if looks >= RETURNS || runs_on_stack(&memory, &thread, self.run) <= self.runs {
                    break thread;
                }
                thread.release()?;
                thread::sleep(RETURN_PAUSE);
            };
            let found = memory.read_vec(self.text, self.content.len());
            // Where the process has executed another program, another thing may be at the address.
            if !self.exec.replaced() && found.as_ref() == Ok(&self.content) {
                thread.system_call(self.instruction, unmap(self.text, TEXT_SIZE))?;
            }
            thread.release()
        })
    }
}

impl Plan {
    /// Gives the address of the text, and how often `PyRun_SimpleStringFlags` was on the stack.
    fn carry_out(&self) -> Result<(u64, usize), InjectionError> {
        let pid = self.pid;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let thread = StoppedThread::stop(pid, deadline)?;
            let state = self.lock.state(&self.memory);
            match state.map_err(|error| unread(pid, &error))? {
                State::Free => {
                    let runs = runs_on_stack(&self.memory, &thread, self.run);
                    return Ok((self.queue(thread)?, runs));
                }
                State::Ending => return Err(AttachError::Ended { pid }.into()),
                State::Held if Instant::now() >= deadline => {
                    return Err(InjectionError::Busy { pid });
                }
                State::Held => thread.release()?,
            }
        }
    }

    fn queue(&self, mut thread: StoppedThread) -> Result<u64, InjectionError> {
        let pid = self.pid;
        let size = TEXT_SIZE + STACK_SIZE;
        let mapped = thread.system_call(self.instruction, map(size))?;
        let Ok(text) = u64::try_from(mapped) else {
            let errno = i32::try_from(-mapped).unwrap_or(Errno::UnknownErrno as i32);
            let what = "mmap";
            return Err(InjectionError::System { pid, what, errno });
        };
        let stack = text + size - 8;
        let prepare = || {
            write(pid, text, &self.content)?;
            write(pid, stack, &self.instruction.to_le_bytes())
        };
        if let Err(error) = prepare() {
            thread.system_call(self.instruction, unmap(text, size))?;
            return Err(error);
        }
        let call = Call {
            function: self.add_pending_call,
            arguments: [self.run_simple_string, text],
            stack,
        };
        // The stack is not needed any more, and neither is the text of a call that was not queued.
        let result = thread.call(self.instruction, call, |result| match result {
            0 => unmap(text + TEXT_SIZE, STACK_SIZE),
            _ => unmap(text, size),
        })?;
        thread.release()?;
        match result {
            0 => Ok(text),
            _ => Err(InjectionError::Busy { pid }),
        }
    }
}

/// How many return addresses into `PyRun_SimpleStringFlags` are on the stack of a thread.
fn runs_on_stack(memory: &ProcessMemory, thread: &StoppedThread, run: u64) -> usize {
    let mut start = thread.stack();
    let end = start.saturating_add(LONGEST_STACK);
    let mut found = 0;
    // Page by page, to where the stack begins.
    while start < end {
        let length = TEXT_SIZE - start % TEXT_SIZE;
        let Ok(bytes) = memory.read_vec(start, usize::try_from(length).unwrap_or(0)) else {
            break;
        };
        let is_return = |word: &&[u8]| {
            let address = word.u64_at(0);
            address.is_some_and(|address| (run + 1..run + RUN_SIZE).contains(&address))
        };
        found += bytes.chunks_exact(8).filter(is_return).count();
        start += length;
    }
    found
}

/// The kernel ties a tracee to the thread that traces it, and lets it go when that thread ends: whatever goes wrong.
fn on_a_thread<T: Send>(
    pid: u32,
    work: impl FnOnce() -> Result<T, InjectionError> + Send,
) -> Result<T, InjectionError> {
    let failed = |errno: i32| InjectionError::System {
        pid,
        what: "a thread that traces it",
        errno,
    };
    thread::scope(|scope| {
        let tracer = thread::Builder::new()
            .name(String::from("tracer"))
            .spawn_scoped(scope, work)
            .map_err(|error| failed(error.raw_os_error().unwrap_or_default()))?;
        tracer.join().unwrap_or_else(|_| Err(failed(0)))
    })
}

/// What `PyRun_SimpleString` is given: executes the file at `script` and lets no exception out, which would end the call with
/// an error for the program. It binds no name in `__main__`, and looks up none that the program may have bound there but
/// `__import__` and `KeyboardInterrupt`.
fn text(script: &str, size: usize) -> Vec<u8> {
    let text = format!(
        "try:
 (lambda exec, p: (lambda f: exec((p.read(f, {size}), p.close(f))[0], {{'__name__': '<pystrobe>'}}))(p.open('{script}', p.O_RDONLY | p.O_CLOEXEC)))(__import__('builtins').exec, __import__('posix'))
except KeyboardInterrupt:
 __import__('_thread').interrupt_main()
except:
 pass
\0"
    );
    text.into_bytes()
}

fn map(size: u64) -> SystemCall {
    let protection = (libc::PROT_READ | libc::PROT_WRITE).cast_unsigned();
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).cast_unsigned();
    let arguments = [0, size, protection.into(), flags.into(), u64::MAX, 0];
    (libc::SYS_mmap, arguments)
}

fn unmap(address: u64, size: u64) -> SystemCall {
    (libc::SYS_munmap, [address, size, 0, 0, 0, 0])
}

/// Finds a `syscall` instruction in what the process may execute, in the vDSO if it has one: that is the shortest.
fn find_instruction(pid: u32, memory: &ProcessMemory) -> Option<u64> {
    let maps = fs::read(format!("/proc/{pid}/maps")).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let executable = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        let range = (address(start)?, address(end)?);
        // That of vsyscall can be read, but is not what is executed.
        let is_usable = rest.starts_with("r-x") && !rest.ends_with("[vsyscall]");
        is_usable.then(|| (!rest.ends_with("[vdso]"), range))
    });
    let mut executable: Vec<_> = executable.collect();
    executable.sort_unstable();
    executable.iter().find_map(|(_, (start, end))| {
        (*start..*end)
            .step_by(usize::try_from(CHUNK).ok()?)
            .find_map(|start| {
                let length = usize::try_from(CHUNK.min(end - start)).ok()?;
                let code = memory.read_vec(start, length).ok()?;
                let found = code.windows(2).position(|bytes| bytes == SYSTEM_CALL)?;
                Some(start + found as u64)
            })
    })
}
