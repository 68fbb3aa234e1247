//! Comparisons that the machine may disturb: of times, shares and numbers of samples with what the target knows of itself.
//!
//! What is a bias of pystrobe is there in every attempt. What is the machine's noise is not: a virtual processor may be taken away for a
//! third of a second, and that from the target alone, from pystrobe alone, or while one of them begins. So such a comparison is made in a
//! closure that may be called again for a new run, and ends it by [`ensure!`]. What must never be (a stack that is impossible, a name that
//! is wrong, a file that breaks its laws) is asserted there instead, and so has to hold in each attempt.
//!
//! The bounds have to be such that a biased run does not pass them by chance: what would pass one in five times would pass here.

use std::io::Write;
use std::panic::Location;

/// Where noise spoils every fourth run, one comparison of a thousand fails.
const ATTEMPTS: u32 = 5;

/// Makes attempts until one holds; that none does is a failure. Those that did not are told on stderr itself, which is shown of tests that
/// pass, too.
#[track_caller]
pub(crate) fn holds_once(mut attempt: impl FnMut() -> Result<(), String>) {
    let at = Location::caller();
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test");
    let mut reasons = Vec::new();
    for number in 1..=ATTEMPTS {
        let Err(why) = attempt() else {
            return;
        };
        let line = format!("{test}: attempt {number} of {ATTEMPTS} at {at} did not hold: {why}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        reasons.push(why);
    }
    panic!("none of {ATTEMPTS} attempts held:\n{}", reasons.join("\n"));
}

/// Ends an attempt that does not hold, and says why: `ensure!(condition, "{what}")`.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err(format!($($why)+));
        }
    };
}
pub(crate) use ensure;
