//! Whether an interpreter that is found in a child is the child's own.
//!
//! After a `fork` the child has all of its parent: the same program at the same addresses, and, until
//! `PyOS_AfterFork_Child` (`Modules/posixmodule.c`) has cleaned up, the states of threads that were not copied
//! with it. After a `vfork`, by which `subprocess` and `posix_spawn` start programs, it even *is* in its
//! parent's memory until it executes another program: what is read there is the parent.
//!
//! The C library tells the two apart. Its record of a thread, which `threading.get_ident()` is the address of,
//! holds the kernel's id of the thread; `fork` writes the new one, `vfork` must not.

use std::time::Duration;

use crate::discovery::{Interpreter, Roots};
use crate::memory::{ReadError, RemoteMemory};
use crate::process;
use crate::process_memory::ProcessMemory;
use crate::python_image::has_thread;
use crate::thread_names::native_id;

/// How long states of threads that are not the child's are waited for to go. An interpreter may have such for
/// good, which a program in C made in advance.
const CLEANED_UP: Duration = Duration::from_millis(5);
/// How long a child may have its parent's memory. Where the C library is one that is not known, this is how
/// late a child is met.
const BORROWED: Duration = Duration::from_millis(100);
/// Interpreters, and threads of one, that are looked at.
const MOST: usize = 1000;

/// The interpreter of a child that executes what its parent does; `None` where it does not, or no longer.
pub(crate) fn inherited(parent: &Interpreter, child: u32) -> Option<Interpreter> {
    if parent.legacy || !process::same_program(parent.pid, child) {
        return None;
    }
    let memory = ProcessMemory::new(child);
    match has_thread(&memory, &parent.layout, parent.roots) {
        Ok(true) => Some(Interpreter {
            pid: child,
            ..parent.clone()
        }),
        Ok(false) | Err(_) => None,
    }
}

/// Whether the threads of an interpreter are those of its process, as far as that shows after `waited`.
pub(crate) fn is_its_own(interpreter: &Interpreter, waited: Duration) -> bool {
    if waited > BORROWED {
        return true;
    }
    let memory = ProcessMemory::new(interpreter.pid);
    match count(&memory, interpreter, &process::native_ids(interpreter.pid)) {
        Ok((own, foreign)) => own > 0 && (foreign == 0 || waited > CLEANED_UP),
        Err(_) => false,
    }
}

/// How many thread states are of threads with these ids, and how many are not.
fn count(
    memory: &impl RemoteMemory,
    found: &Interpreter,
    ids: &[u64],
) -> Result<(usize, usize), ReadError> {
    let layout = &found.layout;
    let field = |address: u64, offset: u64| memory.read_u64(address.wrapping_add(offset));
    let mut interpreter = match found.roots {
        Roots::Runtime(runtime) => field(runtime, layout.runtime.interpreters_head)?,
        Roots::Interpreter(interpreter) => interpreter,
    };
    let (mut own, mut foreign) = (0, 0);
    for _ in 0..MOST {
        if interpreter == 0 {
            break;
        }
        let mut thread = field(interpreter, layout.interpreter.threads_head)?;
        for _ in 0..MOST {
            if thread == 0 {
                break;
            }
            let ident = field(thread, layout.thread.thread_id)?;
            match native_id(memory, ident, ids) {
                Some(_) => own += 1,
                None => foreign += 1,
            }
            thread = field(thread, layout.thread.next)?;
        }
        interpreter = field(interpreter, layout.interpreter.next)?;
    }
    Ok((own, foreign))
}
