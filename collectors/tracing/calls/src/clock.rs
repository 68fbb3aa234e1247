//! The clocks: the processor's counter for the calls, the kernel's for what a tick of it means.
//!
//! `clock_gettime` takes 20 to 30 ns on the machines this was tried on, the counter 7; a call needs two of either.

/// The processor's time stamp counter. Linux trusts it as a clock where it runs at a constant rate and alike on all processors,
/// as it does on every x86-64 processor of the last fifteen years.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: RDTSC is part of the base instruction set, touches no memory, and is not disabled by Linux for ordinary processes.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Nanoseconds of the monotonic clock, where there is no counter that can be read without the kernel.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    monotonic_ns()
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the same in all processes of the machine.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970.
#[must_use]
pub fn unix_ns() -> u64 {
    read(CLOCK_REALTIME)
}

/// Nanoseconds / 2^32 in a tick, if `ticks`, which are not none, took `ns`.
pub(crate) fn tick_ns(ns: u64, ticks: u64) -> u64 {
    u64::try_from((u128::from(ns) << 32) / u128::from(ticks.max(1))).unwrap_or(u64::MAX)
}

const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

fn read(clock: i32) -> u64 {
    let mut time = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: the structure is the kernel's, alive, and ours to write; both clocks exist on every Linux.
    unsafe { clock_gettime(clock, &raw mut time) };
    (time.seconds as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.nanoseconds as u64)
}
