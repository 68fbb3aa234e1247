//! The requests of ptrace(2) and waitid(2) that the crate `nix` does not have, or not for every signal.
//!
//! Each is one call of the kernel with buffers of ours, whose lengths the kernel is told: that is the whole argument for
//! the `unsafe` in here.

use std::ffi::{c_int, c_long, c_void};
use std::mem::size_of;
use std::ptr;

use nix::errno::Errno;
use nix::libc::{self, iovec, pid_t, siginfo_t};

/// `NT_X86_XSTATE` (`include/uapi/linux/elf.h`): all that `XSAVE` saves.
const NT_X86_XSTATE: usize = 0x202;
/// Bytes that are offered for it. With AMX it is some 11 KiB.
const LARGEST_XSTATE: usize = 64 << 10;
/// `sizeof(sigset_t)` of the kernel, a bit a signal.
const MASK_SIZE: usize = 8;

/// What a thread stopped at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It was interrupted as it was asked to, or stands with its process in a group stop, which the signal names.
    Trap(c_int),
    /// It enters or leaves a system call.
    SystemCall,
    /// This signal is about to be delivered to it.
    Signal(c_int),
    /// It has ended. Its exit status was left to its parent.
    Ended,
}

/// The mask of blocked signals.
pub(super) fn signal_mask(thread: pid_t) -> Result<u64, Errno> {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes 8 bytes, as it is told, and `mask` has 8.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETSIGMASK,
            thread,
            MASK_SIZE,
            ptr::from_mut(&mut mask),
        )
    };
    Errno::result(result).map(|_| mask)
}

/// Replaces the mask of blocked signals.
pub(super) fn set_signal_mask(thread: pid_t, mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads 8 bytes, as it is told, and `mask` has 8.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_SETSIGMASK,
            thread,
            MASK_SIZE,
            ptr::from_ref(&mask),
        )
    };
    Errno::result(result).map(drop)
}

/// The x87, SSE, AVX and further registers.
pub(super) fn extended_state(thread: pid_t) -> Result<Vec<u8>, Errno> {
    let mut state = vec![0_u8; LARGEST_XSTATE];
    let mut buffer = iovec {
        iov_base: state.as_mut_ptr().cast::<c_void>(),
        iov_len: state.len(),
    };
    // SAFETY: the kernel writes at most `iov_len` bytes to `iov_base`, which points to as many, and then the number of
    // bytes to `iov_len`.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGSET,
            thread,
            NT_X86_XSTATE,
            ptr::from_mut(&mut buffer),
        )
    };
    Errno::result(result)?;
    state.truncate(buffer.iov_len);
    Ok(state)
}

/// Replaces the x87, SSE, AVX and further registers.
pub(super) fn set_extended_state(thread: pid_t, state: &[u8]) -> Result<(), Errno> {
    let mut buffer = iovec {
        iov_base: state.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: state.len(),
    };
    // SAFETY: of `iov_base` the kernel only reads, and at most the `iov_len` bytes that are there.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_SETREGSET,
            thread,
            NT_X86_XSTATE,
            ptr::from_mut(&mut buffer),
        )
    };
    Errno::result(result).map(drop)
}

/// Lets a thread go on to the next system call or its end, and hands it a signal (0 is none).
pub(super) fn go_to_system_call(thread: pid_t, signal: c_int) -> Result<(), Errno> {
    resume(libc::PTRACE_SYSCALL, thread, signal)
}

/// Lets a thread go on, and hands it a signal (0 is none).
pub(super) fn go_on(thread: pid_t, signal: c_int) -> Result<(), Errno> {
    resume(libc::PTRACE_CONT, thread, signal)
}

/// Lets a thread go for good.
pub(super) fn detach(thread: pid_t) -> Result<(), Errno> {
    resume(libc::PTRACE_DETACH, thread, 0)
}

fn resume(request: libc::c_uint, thread: pid_t, signal: c_int) -> Result<(), Errno> {
    // SAFETY: these requests take a number as their last argument, and touch no memory of ours.
    let result = unsafe {
        libc::ptrace(
            request,
            thread,
            ptr::null_mut::<c_void>(),
            c_long::from(signal),
        )
    };
    Errno::result(result).map(drop)
}

/// Looks whether a traced thread has stopped. `None` as long as it runs.
pub(super) fn stop_of(thread: pid_t) -> Result<Option<Stop>, Errno> {
    // How it ended is for whoever started it, and that may be us: so looks first, and takes only what was a stop.
    let Some((code, status)) = look(thread, libc::WEXITED | libc::WNOWAIT)? else {
        return Ok(None);
    };
    if code != libc::CLD_TRAPPED {
        return Ok(Some(Stop::Ended));
    }
    look(thread, 0)?;
    let (signal, event) = (status & 0xff, status >> 8);
    Ok(Some(match (signal, event) {
        (signal, libc::PTRACE_EVENT_STOP) => Stop::Trap(signal),
        (signal, 0) if signal == libc::SIGTRAP | 0x80 => Stop::SystemCall,
        (signal, 0) => Stop::Signal(signal),
        // No other event was asked for.
        (signal, _) => Stop::Trap(signal),
    }))
}

/// `si_code` and `si_status` of what there is to tell of a thread.
fn look(thread: pid_t, how: c_int) -> Result<Option<(c_int, c_int)>, Errno> {
    debug_assert_eq!(size_of::<siginfo_t>(), 128);
    // SAFETY: a `siginfo_t` is plain numbers, for which all zeros are values.
    let mut news: siginfo_t = unsafe { std::mem::zeroed() };
    let how = how | libc::WSTOPPED | libc::WNOHANG | libc::__WALL;
    let id = thread.cast_unsigned();
    // SAFETY: the kernel writes one `siginfo_t`, which `news` is.
    let result = unsafe { libc::waitid(libc::P_PID, id, ptr::from_mut(&mut news), how) };
    Errno::result(result)?;
    // SAFETY: waitid fills in the fields of SIGCHLD, or leaves all at zero where there is nothing to tell.
    let (pid, status) = unsafe { (news.si_pid(), news.si_status()) };
    Ok((pid != 0).then_some((news.si_code, status)))
}
