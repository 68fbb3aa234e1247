//! What a call costs because it is recorded, found out where it will be paid: in this interpreter, on this machine, at the start.
//!
//! A loop that calls an empty function, and one that calls `len(())`, are timed without and with events, a few times each; the shortest time of each is the one without
//! interruptions. The difference is the cost of a call. What part of it is counted as the called function's own time is what the tree says of that function then, less
//! the time that it really takes, which is taken to be half of what the call takes without events.
//!
//! That is done in several turns, of which the middle one counts: a processor that is shared may be half as fast a millisecond later. If all was timed without events
//! first and with them then, a call could cost nothing; and the shortest times of all turns would be of the fastest moment, at which the program will not run.

use std::ffi::{CStr, c_long};

use pystrobe_calls::ticks;

use crate::python::{
    FILE_INPUT, Owned, PyDict_GetItemString, PyDict_New, PyDict_SetItemString, PyObject,
    PyObject_CallFunction, PyRun_String, imported,
};

/// Calls in a loop: fewer than take long enough to be interrupted by the next tick of a scheduler.
const CALLS: u64 = 500;
/// How often each loop runs in a turn.
const RUNS: usize = 4;
/// How many turns without and with events there are.
pub(crate) const TURNS: usize = 7;

const SOURCE: &CStr = c"def called():
    pass
def nothing(n):
    for _ in range(n):
        pass
def python(n):
    for _ in range(n):
        called()
def builtin(n):
    for _ in range(n):
        len(())
";

/// The name of the empty function, as the tree will know it.
pub(crate) const CALLED: &str = "called";

/// The loops, in a namespace of their own.
pub(crate) struct Loops(Owned);

/// Ticks of each loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    nothing: u64,
    python: u64,
    builtin: u64,
}

impl Times {
    /// Of nothing so far: longer than any.
    pub(crate) const NEVER: Times = Times {
        nothing: u64::MAX,
        python: u64::MAX,
        builtin: u64::MAX,
    };
}

impl Loops {
    /// # Safety
    ///
    /// With the GIL, and no exception set.
    pub(crate) unsafe fn new() -> Option<Loops> {
        // SAFETY: the caller's promise.
        unsafe {
            let names = Owned::or_clear(PyDict_New())?;
            if PyDict_SetItemString(
                names.get(),
                c"__builtins__".as_ptr(),
                imported(c"builtins")?,
            ) != 0
            {
                return None;
            }
            drop(Owned::or_clear(PyRun_String(
                SOURCE.as_ptr(),
                FILE_INPUT,
                names.get(),
                names.get(),
            ))?);
            Some(Loops(names))
        }
    }

    /// Runs one of them, and tells how long it took.
    unsafe fn run(&self, name: &CStr) -> Option<u64> {
        // SAFETY: the caller's promise; the function is borrowed from the namespace. The format is of a `long`.
        unsafe {
            let function: *mut PyObject = PyDict_GetItemString(self.0.get(), name.as_ptr());
            if function.is_null() {
                return None;
            }
            let from = ticks();
            let done = PyObject_CallFunction(function, c"l".as_ptr(), CALLS as c_long);
            let took = ticks().wrapping_sub(from);
            Owned::or_clear(done).map(|_| took)
        }
    }

    /// Runs each loop a few times: what was shorter than the shortest so far becomes that.
    ///
    /// # Safety
    ///
    /// With the GIL, and no exception set.
    pub(crate) unsafe fn time(&self, best: &mut Times) -> Option<()> {
        for _ in 0..RUNS {
            // SAFETY: the caller's promise.
            unsafe {
                best.nothing = best.nothing.min(self.run(c"nothing")?);
                best.python = best.python.min(self.run(c"python")?);
                best.builtin = best.builtin.min(self.run(c"builtin")?);
            }
        }
        Some(())
    }

    /// The same for what `own` (the ticks that the tree gives to the functions that the loops call, so far) grows by in a run of each loop.
    ///
    /// # Safety
    ///
    /// With the GIL, and no exception set.
    pub(crate) unsafe fn own(
        &self,
        best: &mut (u64, u64),
        mut own: impl FnMut() -> (u64, u64),
    ) -> Option<()> {
        for _ in 0..RUNS {
            let before = own();
            // SAFETY: the caller's promise.
            unsafe {
                self.run(c"python")?;
                self.run(c"builtin")?;
            }
            let after = own();
            *best = (
                best.0.min(after.0.wrapping_sub(before.0)),
                best.1.min(after.1.wrapping_sub(before.1)),
            );
        }
        Some(())
    }
}

/// What a call of a Python function costs, and one of a C function, in ticks; and the part of that inside the called function.
pub(crate) type Costs = [(u64, u64); 2];

/// Of a turn: the times `without` events and `with` them, and the `own` time of the called functions with them, of a whole loop.
pub(crate) fn of(without: Times, with: Times, own: (u64, u64)) -> Costs {
    let one = |without: u64, with: u64, own: u64, nothing: u64| {
        let cost = with.saturating_sub(without) / CALLS;
        let really = without.saturating_sub(nothing) / 2;
        (cost, (own.saturating_sub(really) / CALLS).min(cost))
    };
    [
        one(without.python, with.python, own.0, without.nothing),
        one(without.builtin, with.builtin, own.1, without.nothing),
    ]
}

/// The middle one of each of the figures.
pub(crate) fn median(turns: &[Costs]) -> Costs {
    let middle = |figure: &dyn Fn(&Costs) -> u64| {
        let mut figures: Vec<u64> = turns.iter().map(figure).collect();
        figures.sort_unstable();
        figures.get(figures.len() / 2).copied().unwrap_or(0)
    };
    [0, 1].map(|kind| (middle(&|turn| turn[kind].0), middle(&|turn| turn[kind].1)))
}
