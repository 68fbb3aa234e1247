//! What this machine charges a profiler that does nothing: `cargo bench --bench floor -- PID`.
//!
//! No profiler that reads from outside can be faster than one `process_vm_readv` of 8 bytes a sample, so this is what
//! `benches/peers` measures pystrobe against; and none that sleeps between its samples costs less than the sleeping, which
//! `benches/cost` prints beside what pystrobe costs. This reads the first bytes of the first mapping of PID again and again, then
//! sleeps until each next millisecond, and prints as JSON the nanoseconds of a call, in the median and at best, and
//! the processor time that goes with a sleep, in nanoseconds.

use std::error::Error;
use std::io::IoSliceMut;
use std::time::{Duration, Instant};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Calls between two looks at the clock, so that looking at it is not what is measured.
const CALLS: u32 = 100;
/// Measurements of [`CALLS`] calls each: about a second in all.
const MEASUREMENTS: usize = 4000;
/// Sleeps of a millisecond.
const SLEEPS: u32 = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds an argument of its own, `--bench`.
    let pid: i32 = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
        .ok_or("say the id of a process")?
        .parse()?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let (start, _) = maps.split_once('-').ok_or("the process has no memory")?;
    let remote = [RemoteIoVec {
        base: usize::from_str_radix(start, 16)?,
        len: 8,
    }];

    let mut nanoseconds = Vec::with_capacity(MEASUREMENTS);
    for _ in 0..MEASUREMENTS {
        let began = Instant::now();
        for _ in 0..CALLS {
            let mut bytes = [0; 8];
            let read = process_vm_readv(
                Pid::from_raw(pid),
                &mut [IoSliceMut::new(&mut bytes)],
                &remote,
            )?;
            if read != 8 {
                return Err(format!("{read} bytes were read instead of 8").into());
            }
        }
        nanoseconds.push(began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    nanoseconds.sort_by(f64::total_cmp);
    println!(
        "{{\"median\": {:.1}, \"best\": {:.1}, \"sleep\": {:.1}}}",
        nanoseconds[MEASUREMENTS / 2],
        nanoseconds[0],
        sleep_costs()?
    );
    Ok(())
}

/// The processor time of a sleep until the next millisecond, in nanoseconds, with the slack that the sampler of pystrobe allows.
fn sleep_costs() -> nix::Result<f64> {
    nix::sys::prctl::set_timerslack(1_000)?;
    let spent = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let (began, before) = (Instant::now(), spent()?);
    for number in 1..=SLEEPS {
        let due = Duration::from_millis(number.into());
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Ok((spent()? - before).as_secs_f64() * 1e9 / f64::from(SLEEPS))
}
