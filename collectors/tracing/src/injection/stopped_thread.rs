//! The main thread of a process, stopped and made to run something else for a moment: x86-64.
//!
//! It is seized and interrupted, which leaves no signal behind. All its registers and its mask of signals are kept; while
//! something else runs, every signal that can be blocked is, so that each is delivered afterwards to what it was meant for. What
//! runs instead has a stack of its own, and returns to a `syscall` instruction, where the kernel stops it without a
//! signal. To return to an address that faults was the other way: a fault that the thread blocks or ignores resets what
//! the program has installed for it.
//!
//! In the end the thread is made to stop once more where the kernel looks for signals. It goes on from there like after any
//! interruption: from the registers alone the kernel knows that it was in a system call and how that is restarted
//! (`arch_do_signal_or_restart`, `arch/x86/kernel/signal.c`). Some calls return `EINTR` after a stop in any case (signal(7)); a
//! thread that had just begun with one is sent back to begin again.
//!
//! The kernel lets a tracee go when the thread that traces it ends: use this on a thread of its own.

use std::ffi::c_int;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace::{Options, getregs, interrupt, seize, setregs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pystrobe_sampling::{AttachError, process};

use super::InjectionError;
use super::ptrace::{self, Stop};

/// Looks at a thread that is about to stop before the first pause: mostly it takes some microseconds.
const LOOKS: u32 = 500;
const PAUSE: Duration = Duration::from_micros(50);
/// The direction and the trap flag. The System V ABI wants the first clear at each call.
const FLAGS: u64 = 0x400 | 0x100;
/// Bytes of a `syscall` instruction.
const SYSTEM_CALL_SIZE: u64 = 2;

/// A system call: its number and its arguments.
pub(super) type SystemCall = (i64, [u64; 6]);

/// A function to call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) function: u64,
    pub(super) arguments: [u64; 2],
    /// Where it finds its return address; a multiple of 16 plus 8.
    pub(super) stack: u64,
}

/// A thread that stands still until this is dropped, and is then what it was.
#[derive(Debug)]
pub(super) struct StoppedThread {
    pid: u32,
    thread: Pid,
    saved: Saved,
    /// Its registers are not the saved ones any more.
    is_changed: bool,
    runs: bool,
    /// It was stopped by a signal of job control meanwhile.
    stop_again: bool,
    /// When it is given up that something happens.
    deadline: Instant,
}

#[derive(Debug)]
struct Saved {
    registers: user_regs_struct,
    extended: Vec<u8>,
    mask: u64,
}

impl StoppedThread {
    /// Stops the main thread.
    pub(super) fn stop(pid: u32, deadline: Instant) -> Result<Self, InjectionError> {
        let thread = Pid::from_raw(pid.cast_signed());
        let failed = |what| move |errno| failure(pid, what, errno);
        seize(thread, Options::PTRACE_O_TRACESYSGOOD).map_err(failed("PTRACE_SEIZE"))?;
        interrupt(thread).map_err(failed("PTRACE_INTERRUPT"))?;
        loop {
            match wait(pid, thread, deadline)? {
                Stop::Trap(libc::SIGTRAP) => break,
                Stop::Trap(_) => {
                    ptrace::detach(thread.as_raw()).map_err(failed("PTRACE_DETACH"))?;
                    return Err(InjectionError::Stopped { pid });
                }
                // It first gets what was on its way.
                Stop::Signal(signal) => {
                    ptrace::go_on(thread.as_raw(), signal).map_err(failed("PTRACE_CONT"))?;
                }
                Stop::SystemCall => {
                    ptrace::go_on(thread.as_raw(), 0).map_err(failed("PTRACE_CONT"))?;
                }
                Stop::Ended => return Err(AttachError::Ended { pid }.into()),
            }
        }
        let save = || {
            Ok(Saved {
                registers: getregs(thread)?,
                extended: ptrace::extended_state(thread.as_raw())?,
                mask: ptrace::signal_mask(thread.as_raw())?,
            })
        };
        match save() {
            Ok(mut saved) => {
                let is_changed = is_ended_by_us(pid, &saved.registers);
                if is_changed {
                    saved.registers.rip -= SYSTEM_CALL_SIZE;
                    saved.registers.rax = saved.registers.orig_rax;
                    saved.registers.orig_rax = u64::MAX;
                }
                Ok(Self {
                    pid,
                    thread,
                    saved,
                    is_changed,
                    runs: false,
                    stop_again: false,
                    deadline,
                })
            }
            Err(errno) => {
                // If this fails too, the thread has ended.
                let _ = ptrace::detach(thread.as_raw());
                Err(failure(pid, "PTRACE_GETREGS", errno))
            }
        }
    }

    /// Makes the thread do a system call by a `syscall` instruction that it has at `instruction`. Gives what the kernel
    /// answers: an error is a negative number.
    pub(super) fn system_call(
        &mut self,
        instruction: u64,
        call: SystemCall,
    ) -> Result<i64, InjectionError> {
        let mut registers = self.saved.registers;
        registers.rip = instruction;
        registers.rax = call.0.cast_unsigned();
        set_arguments(&mut registers, call.1);
        self.set(registers)?;
        self.run_to_system_call()?;
        self.run_to_system_call()?;
        Ok(self.registers()?.rax.cast_signed())
    }

    /// Makes the thread call a function that returns an `int`, and to whose `stack` the address `instruction` was written. What
    /// is there is a `syscall` instruction; the kernel is given `then` to do in place of the call that its registers
    /// happen to name.
    pub(super) fn call(
        &mut self,
        instruction: u64,
        call: Call,
        then: impl FnOnce(i32) -> SystemCall,
    ) -> Result<i32, InjectionError> {
        let mut registers = self.saved.registers;
        registers.rip = call.function;
        registers.rsp = call.stack;
        registers.rax = 0;
        let [first, second] = call.arguments;
        set_arguments(&mut registers, [first, second, 0, 0, 0, 0]);
        self.set(registers)?;
        loop {
            self.run_to_system_call()?;
            registers = self.registers()?;
            // It may do system calls of its own, to wait for a lock.
            if registers.rip == instruction + SYSTEM_CALL_SIZE && registers.rsp == call.stack + 8 {
                break;
            }
        }
        // In the number of a system call only the lower half counts, as in an `int`.
        let [low, _] = halves(registers.orig_rax);
        let result = low.cast_signed();
        let (number, arguments) = then(result);
        set_arguments(&mut registers, arguments);
        registers.orig_rax = number.cast_unsigned();
        setregs(self.thread, registers).map_err(|errno| self.failed("PTRACE_SETREGS", errno))?;
        self.run_to_system_call()?;
        Ok(result)
    }

    /// Where its stack ends, which grows towards lower addresses.
    pub(super) fn stack(&self) -> u64 {
        self.saved.registers.rsp
    }

    /// Lets the thread go on with what it was at.
    pub(super) fn release(mut self) -> Result<(), InjectionError> {
        self.restore()
    }

    fn registers(&self) -> Result<user_regs_struct, InjectionError> {
        getregs(self.thread).map_err(|errno| self.failed("PTRACE_GETREGS", errno))
    }

    /// Sets the registers to something else than the thread's own.
    fn set(&mut self, mut registers: user_regs_struct) -> Result<(), InjectionError> {
        // It is in no system call that could be restarted.
        registers.orig_rax = u64::MAX;
        registers.eflags &= !FLAGS;
        self.is_changed = true;
        let set = || {
            ptrace::set_signal_mask(self.thread.as_raw(), u64::MAX)?;
            setregs(self.thread, registers)
        };
        set().map_err(|errno| self.failed("PTRACE_SETREGS", errno))
    }

    /// Lets the thread run to where it next enters or leaves a system call.
    fn run_to_system_call(&mut self) -> Result<(), InjectionError> {
        loop {
            ptrace::go_to_system_call(self.thread.as_raw(), 0)
                .map_err(|errno| self.failed("PTRACE_SYSCALL", errno))?;
            self.runs = true;
            match self.wait()? {
                Stop::SystemCall => return Ok(()),
                // It goes on although its process stands still, and stands still when it is let go.
                Stop::Trap(_) => {}
                Stop::Signal(libc::SIGSTOP) => self.stop_again = true,
                // All others are blocked, so this is a fault.
                Stop::Signal(_) => return Err(self.failed("a call inside", Errno::EFAULT)),
                Stop::Ended => return Err(AttachError::Ended { pid: self.pid }.into()),
            }
        }
    }

    fn wait(&mut self) -> Result<Stop, InjectionError> {
        let stop = wait(self.pid, self.thread, self.deadline)?;
        self.runs = false;
        Ok(stop)
    }

    fn restore(&mut self) -> Result<(), InjectionError> {
        let thread = self.thread.as_raw();
        if self.runs {
            // It did not come back in time. This time is given to it in any case.
            self.deadline = Instant::now() + Duration::from_secs(1);
            self.interrupt_and_wait()?;
        }
        if self.is_changed {
            let restore = || {
                ptrace::set_extended_state(thread, &self.saved.extended)?;
                setregs(self.thread, self.saved.registers)?;
                ptrace::set_signal_mask(thread, self.saved.mask)
            };
            restore().map_err(|errno| self.failed("PTRACE_SETREGS", errno))?;
            self.is_changed = false;
            let interrupted = interrupt(self.thread).and_then(|()| ptrace::go_on(thread, 0));
            interrupted.map_err(|errno| self.failed("PTRACE_INTERRUPT", errno))?;
            self.runs = true;
            self.wait_for_trap()?;
        }
        ptrace::detach(thread).map_err(|errno| self.failed("PTRACE_DETACH", errno))?;
        // From here on there is nothing to let go.
        self.runs = true;
        if self.stop_again {
            kill(self.thread, Signal::SIGSTOP).map_err(|errno| self.failed("SIGSTOP", errno))?;
        }
        Ok(())
    }

    fn interrupt_and_wait(&mut self) -> Result<(), InjectionError> {
        interrupt(self.thread).map_err(|errno| self.failed("PTRACE_INTERRUPT", errno))?;
        self.wait_for_trap()
    }

    fn wait_for_trap(&mut self) -> Result<(), InjectionError> {
        loop {
            let signal = match self.wait()? {
                Stop::Trap(_) => return Ok(()),
                Stop::SystemCall => 0,
                Stop::Signal(signal) => signal,
                Stop::Ended => return Err(AttachError::Ended { pid: self.pid }.into()),
            };
            self.runs = true;
            ptrace::go_on(self.thread.as_raw(), signal)
                .map_err(|errno| self.failed("PTRACE_CONT", errno))?;
        }
    }

    fn failed(&self, what: &'static str, errno: Errno) -> InjectionError {
        failure(self.pid, what, errno)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        if self.is_changed || !self.runs {
            // Only after an error, which is what will be reported; where this fails too, the thread has ended.
            let _ = self.restore();
        }
    }
}

/// Whether it is our stop for which a system call is about to return `EINTR`, and no signal.
fn is_ended_by_us(pid: u32, registers: &user_regs_struct) -> bool {
    let is_in_call = registers.orig_rax.cast_signed() >= 0;
    let is_ended = registers.rax.cast_signed() == -i64::from(libc::EINTR);
    is_in_call && is_ended && !process::has_signal(pid)
}

/// Whether the thread's processor keeps a second stack of return addresses for it.
pub(super) fn has_shadow_stack(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let features = status
        .lines()
        .find_map(|line| line.strip_prefix("x86_Thread_features:"));
    features.is_some_and(|features| features.split_whitespace().any(|word| word == "shstk"))
}

fn wait(pid: u32, thread: Pid, deadline: Instant) -> Result<Stop, InjectionError> {
    let mut looks: u32 = 0;
    loop {
        match ptrace::stop_of(thread.as_raw()) {
            Ok(Some(stop)) => return Ok(stop),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failure(pid, "waitid", errno)),
        }
        if Instant::now() >= deadline {
            return Err(failure(pid, "stopping the main thread", Errno::ETIMEDOUT));
        }
        looks = looks.saturating_add(1);
        if looks < LOOKS {
            thread::yield_now();
        } else {
            thread::sleep(PAUSE);
        }
    }
}

/// What an error of the kernel says about the process.
fn failure(pid: u32, what: &'static str, errno: Errno) -> InjectionError {
    if process::is_ending(pid) || matches!(errno, Errno::ESRCH | Errno::ECHILD) {
        return AttachError::Ended { pid }.into();
    }
    match process::tracer(pid) {
        Some(tracer) if tracer != std::process::id() => InjectionError::Traced { pid, tracer },
        _ => InjectionError::System {
            pid,
            what,
            errno: errno as c_int,
        },
    }
}

fn set_arguments(registers: &mut user_regs_struct, arguments: [u64; 6]) {
    [
        registers.rdi,
        registers.rsi,
        registers.rdx,
        registers.r10,
        registers.r8,
        registers.r9,
    ] = arguments;
}

fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}
