//! The names that Python gives its threads, and the ids that the kernel gives them.
//!
//! Names are where the program keeps them: `threading._active` maps `threading.get_ident()` to `Thread`
//! objects, which have a `_name` (3.8 to 3.15, `Lib/threading.py`). Code that runs in the target could be
//! asked instead, but nothing here changes the target.

use std::collections::HashMap;

use crate::dict::Objects;
use crate::layout::Layout;
use crate::memory::{Fields, ReadError, RemoteMemory};
use crate::strings::read_string;

/// Threads of an interpreter that are looked at for the oldest one.
const MAX_THREADS: usize = 1 << 17;

/// Where `pthread_self()` of the C library keeps the kernel's thread id.
///
/// `struct pthread`: of glibc (`nptl/descr.h`: behind a header of 704 or 192 bytes and a list of two
/// pointers, since 2.4), then of musl (`src/internal/pthread_impl.h`: 1.2, then 1.1 on x86-64).
#[cfg(target_arch = "x86_64")]
const TID_OFFSETS: &[u64] = &[720, 48, 56];
#[cfg(target_arch = "aarch64")]
const TID_OFFSETS: &[u64] = &[208, 32];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const TID_OFFSETS: &[u64] = &[];

/// The names of the threads of the interpreter at `interpreter` (a `PyInterpreterState`), by
/// `threading.get_ident()`.
///
/// What cannot be read at the moment is missing: a thread that starts or ends, or all of them while the
/// program imports `threading`. Where it never does, the first thread of the main interpreter is
/// `MainThread`, as `threading` would say.
#[must_use]
pub fn thread_names<M: RemoteMemory>(
    memory: &M,
    layout: &Layout,
    interpreter: u64,
) -> HashMap<u64, String> {
    names(memory, layout, interpreter).unwrap_or_default()
}

fn names<M: RemoteMemory>(
    memory: &M,
    layout: &Layout,
    interpreter: u64,
) -> Result<HashMap<u64, String>, ReadError> {
    let mut objects = Objects::new(memory, layout);
    let modules = memory.read_u64(interpreter.wrapping_add(layout.interpreter.modules))?;
    let Some(threading) = objects.item(modules, "threading")? else {
        let main = first_thread(memory, layout, interpreter)?;
        return Ok(main
            .map(|ident| (ident, "MainThread".to_owned()))
            .into_iter()
            .collect());
    };
    // `md_dict` is what a module begins with.
    let variables = memory.read_u64(threading.wrapping_add(objects.header()))?;
    let Some(active) = objects.item(variables, "_active")? else {
        return Ok(HashMap::new());
    };
    let mut names = HashMap::new();
    for entry in objects.entries(active)? {
        // An identifier is an address in the target, and an integer below 2**61 - 1 is its own hash.
        let name = objects.attribute(entry.value, "_name");
        if let Ok(Some(name)) = name
            && let Ok(name) = read_string(memory, layout, name)
        {
            names.insert(entry.hash, name);
        }
    }
    Ok(names)
}

/// `threading.get_ident()` of the main interpreter's oldest thread: it is the last of the list.
fn first_thread<M: RemoteMemory>(
    memory: &M,
    layout: &Layout,
    interpreter: u64,
) -> Result<Option<u64>, ReadError> {
    let field = |address: u64, offset: u64| memory.read_u64(address.wrapping_add(offset));
    if field(interpreter, layout.interpreter.id)? != 0 {
        return Ok(None);
    }
    let mut thread = field(interpreter, layout.interpreter.threads_head)?;
    for _ in 0..MAX_THREADS {
        if thread == 0 {
            break;
        }
        match field(thread, layout.thread.next)? {
            0 => return field(thread, layout.thread.thread_id).map(Some),
            next => thread = next,
        }
    }
    Ok(None)
}

/// The kernel's id of the thread that `threading.get_ident()` calls `ident`, read from the C library's own
/// record of the thread. `tids` are the ids of all threads of the process, in its own PID namespace: any
/// other number is not taken for one.
#[must_use]
pub fn native_id<M: RemoteMemory>(memory: &M, ident: u64, tids: &[u64]) -> Option<u64> {
    let read = |offset: &u64| {
        memory
            .read_vec(ident.wrapping_add(*offset), 4)
            .ok()?
            .u32_at(0)
    };
    TID_OFFSETS
        .iter()
        .filter_map(read)
        .map(u64::from)
        .find(|id| tids.contains(id))
}
