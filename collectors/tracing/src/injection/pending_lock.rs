//! The lock that guards an interpreter's queue of pending calls, 3.8 to 3.13.
//!
//! `Py_AddPendingCall` takes it, and it is not recursive: a thread that was stopped while it holds the lock would wait for
//! itself. So the lock is looked at while the thread stands still. If it is free then, the thread does not have it, wherever
//! it was stopped; and any other thread that takes it goes on and gives it back. To judge by the place at which the thread was
//! stopped was the other way: that takes the bounds of every function that has the lock, which no symbol of a stripped build tells.

use pystrobe_sampling::discovery::{Interpreter, Roots};
use pystrobe_sampling::layout::Minor;
use pystrobe_sampling::memory::{Fields, ReadError, RemoteMemory};

/// What the lock is, and where: offsets that `layout.c` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// 3.8 to 3.12: `PyThread_type_lock`, a pointer to a `sem_t`, at an offset in `_PyRuntimeState`.
    OfRuntime(u64),
    /// 3.9 to 3.11: the same, in the main `PyInterpreterState`, to which `interpreters.main` leads.
    OfInterpreter {
        /// Offset of `interpreters.main` in `_PyRuntimeState`.
        main: u64,
        /// Offset of `ceval.pending.lock`.
        lock: u64,
    },
    /// 3.13: a `PyMutex`, a byte, at an offset in `_PyRuntimeState`.
    Mutex(u64),
}

const KINDS: [(Minor, Kind); 6] = [
    (Minor(3, 8), Kind::OfRuntime(608)),
    (Minor(3, 9), Kind::OfInterpreter { main: 40, lock: 80 }),
    (Minor(3, 10), Kind::OfInterpreter { main: 40, lock: 80 }),
    (
        Minor(3, 11),
        Kind::OfInterpreter {
            main: 48,
            lock: 112,
        },
    ),
    (Minor(3, 12), Kind::OfRuntime(2024)),
    (Minor(3, 13), Kind::Mutex(2648)),
];

/// `MAXPENDINGCALLS_MAIN` (`Include/internal/pycore_ceval_state.h`): stands in 3.13 behind the lock, and no other number does.
const MAX_PENDING: u32 = 32;

/// The lock of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingLock {
    place: Place,
    /// Address of `finishing`: 3.8 only.
    finishing: Option<u64>,
    /// Address of `_PyRuntimeState._finalizing`.
    finalizing: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Semaphore(u64),
    Mutex(u64),
}

/// What the lock tells of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has it.
    Free,
    /// Some thread has it.
    Held,
    /// The interpreter comes to its end, and takes no calls any more.
    Ending,
}

impl PendingLock {
    /// Finds it. `None` where something else is there.
    pub(super) fn find(
        memory: &impl RemoteMemory,
        interpreter: &Interpreter,
    ) -> Result<Option<Self>, ReadError> {
        let layout = &interpreter.layout;
        let kind = KINDS.iter().find(|(minor, _)| *minor == layout.version);
        let (Roots::Runtime(runtime), Some((_, kind))) = (interpreter.roots, kind) else {
            return Ok(None);
        };
        let semaphore =
            |pointer: u64| -> Result<Option<Place>, ReadError> {
                let semaphore = memory.read_u64(pointer)?;
                if semaphore == 0 {
                    return Ok(None);
                }
                Ok(matches!(low_half(memory, semaphore)?, 0 | 1)
                    .then_some(Place::Semaphore(semaphore)))
            };
        let place = match *kind {
            Kind::OfRuntime(lock) => semaphore(runtime.wrapping_add(lock))?,
            Kind::OfInterpreter { main, lock } => {
                let interpreter = memory.read_u64(runtime.wrapping_add(main))?;
                semaphore(interpreter.wrapping_add(lock))?
            }
            Kind::Mutex(mutex) => {
                let mutex = runtime.wrapping_add(mutex);
                // The lock, `npending`, `max`, `maxloop`.
                let found = memory.read_vec(mutex, 16)?;
                let fits = found
                    .u32_at(4)
                    .is_some_and(|waiting| waiting <= MAX_PENDING)
                    && found.u32_at(8) == Some(MAX_PENDING);
                fits.then_some(Place::Mutex(mutex))
            }
        };
        let is_3_8 = layout.version == Minor(3, 8);
        Ok(place.map(|place| Self {
            place,
            finishing: match kind {
                Kind::OfRuntime(lock) if is_3_8 => Some(runtime.wrapping_add(lock - 8)),
                _ => None,
            },
            finalizing: runtime.wrapping_add(layout.runtime.finalizing),
        }))
    }

    /// What is true of it now: worth something while a thread that may have it stands still.
    pub(super) fn state(&self, memory: &impl RemoteMemory) -> Result<State, ReadError> {
        let finishing = match self.finishing {
            Some(address) => low_half(memory, address)? != 0,
            None => false,
        };
        if finishing || memory.read_u64(self.finalizing)? != 0 {
            return Ok(State::Ending);
        }
        let is_free = match self.place {
            // glibc and musl keep the value in the first four bytes: 1 is free.
            Place::Semaphore(semaphore) => low_half(memory, semaphore)? == 1,
            Place::Mutex(mutex) => low_half(memory, mutex)? & 0xff == 0,
        };
        Ok(if is_free { State::Free } else { State::Held })
    }
}

fn low_half(memory: &impl RemoteMemory, address: u64) -> Result<u32, ReadError> {
    let mut bytes = [0; 4];
    memory.read(address, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
