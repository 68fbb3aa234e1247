//! The tree of the thread that runs, found without a lock and without asking the interpreter.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use pystrobe_calls::{ThreadTree, ticks};

use crate::python::{
    ExceptionAside, Owned, PyDict_GetItem, PyDict_GetItemString, PyLong_FromUnsignedLong,
    PyModule_GetDict, PyObject, imported, pthread_self, syscall, text_attribute,
};

/// Which recording the threads' trees have to be of, to be used: 0 while none is.
pub(crate) static GENERATION: AtomicU32 = AtomicU32::new(0);
/// How often this process is a fork of one in which this was counted.
pub(crate) static FORKS: AtomicU32 = AtomicU32::new(0);

/// A thread that is recorded.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) tree: ThreadTree,
    pub(crate) ident: u64,
    /// How often to look for its name yet: `threading` knows it only some calls after the first.
    looks_for_name: u8,
}

/// The threads of a recording that have not ended.
pub(crate) type Threads = Arc<Mutex<Vec<ThreadPointer>>>;

/// Of a box that lives as long as it is in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadPointer(pub(crate) *mut Thread);

// SAFETY: what it points to is used by its own thread, and by who holds the GIL when the recording ends, in which that thread cannot be at work.
unsafe impl Send for ThreadPointer {}

thread_local! {
    /// The generation and the thread. Without a destructor and constant at first, so that it is a load and not a call.
    static CURRENT: Cell<(u32, *mut Thread)> = const { Cell::new((u32::MAX, ptr::null_mut())) };
    /// Says that the thread has ended.
    static GUARD: RefCell<Option<Guard>> = const { RefCell::new(None) };
}

/// The thread that asked last, by its pointer: with the GIL there is one at a time, and mostly the same one. 0 is nobody.
static LAST: AtomicUsize = AtomicUsize::new(0);
static LAST_THREAD: AtomicPtr<Thread> = AtomicPtr::new(ptr::null_mut());

/// What is another number in each thread that lives: the thread pointer, by one instruction.
/// A library that is loaded at run time gets at its thread-local variables only by a call, which takes longer than all else that is done to find a node.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: on x86-64 Linux the first word of the thread's control block is its own address (the ABI for thread-local storage, variant II).
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, preserves_flags, readonly, pure))
    };
    pointer
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn thread_pointer() -> usize {
    CURRENT.with(|current| ptr::from_ref(current) as usize)
}

/// The tree of this thread, if there is one of this recording.
#[inline(always)]
pub(crate) fn current() -> Option<&'static mut Thread> {
    if LAST.load(Relaxed) == thread_pointer() {
        // SAFETY: see `current_slowly`, which put it there for this thread. It is taken back when the generation passes, and when the thread ends.
        Some(unsafe { &mut *LAST_THREAD.load(Relaxed) })
    } else {
        current_slowly()
    }
}

#[cold]
#[inline(never)]
fn current_slowly() -> Option<&'static mut Thread> {
    let (generation, thread) = CURRENT.get();
    if generation != GENERATION.load(Relaxed) {
        return None;
    }
    LAST_THREAD.store(thread, Relaxed);
    LAST.store(thread_pointer(), Relaxed);
    // SAFETY: a pointer with this generation was put there by `adopt` in this thread, and is taken back only after the generation has passed. Callbacks do
    // not nest in a thread, so nobody else has it.
    Some(unsafe { &mut *thread })
}

/// From now on the trees of this generation are used, and no others.
pub(crate) fn set_generation(generation: u32) {
    GENERATION.store(generation, Relaxed);
    LAST.store(0, Relaxed);
}

/// What tells when a thread ends.
struct Guard {
    threads: Threads,
    thread: ThreadPointer,
    forks: u32,
}

impl Drop for Guard {
    /// At the end of the thread, without the GIL.
    fn drop(&mut self) {
        // The next thread may have the same pointer.
        let _ = LAST.compare_exchange(thread_pointer(), 0, Relaxed, Relaxed);
        CURRENT.set((u32::MAX, ptr::null_mut()));
        // In a forked child the list may be locked for ever, by a thread that is not there.
        if self.forks != FORKS.load(Relaxed) {
            return;
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let before = threads.len();
        threads.retain(|thread| *thread != self.thread);
        if threads.len() < before {
            // SAFETY: it was in the list, so it lives, and is nobody's but ours now.
            let mut thread = unsafe { Box::from_raw(self.thread.0) };
            thread.tree.end(ticks());
        }
    }
}

/// Makes a tree the one of this thread, for a generation. It is named as the kernel's main thread where it is that.
/// `None` in a thread that is ending: nobody would hear of that any more.
pub(crate) fn adopt(
    threads: &Threads,
    mut tree: ThreadTree,
    generation: u32,
) -> Option<*mut Thread> {
    let old = GUARD
        .try_with(|place| {
            place
                .try_borrow_mut()
                .ok()
                .and_then(|mut place| place.take())
        })
        .ok()?;
    drop(old);
    let main = native_id() == u64::from(std::process::id());
    if main {
        tree.set_name("MainThread");
    }
    let thread = Box::into_raw(Box::new(Thread {
        tree,
        ident: ident(),
        looks_for_name: if main { 0 } else { 100 },
    }));
    let pointer = ThreadPointer(thread);
    threads
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(pointer);
    CURRENT.set((generation, thread));
    let guard = Guard {
        threads: Arc::clone(threads),
        thread: pointer,
        forks: FORKS.load(Relaxed),
    };
    GUARD.set(Some(guard));
    Some(thread)
}

/// `threading.get_ident()` of this thread: on Linux, what `pthread_self` says.
pub(crate) fn ident() -> u64 {
    // SAFETY: it has no preconditions.
    unsafe { pthread_self() }
}

/// The kernel's id of this thread.
pub(crate) fn native_id() -> u64 {
    #[cfg(target_arch = "x86_64")]
    const GETTID: std::ffi::c_long = 186;
    #[cfg(not(target_arch = "x86_64"))]
    const GETTID: std::ffi::c_long = 178;
    // SAFETY: it takes nothing and cannot fail.
    unsafe { syscall(GETTID) as u64 }
}

impl Thread {
    /// Looks for the name that `threading` gives the thread, if it is not known yet.
    ///
    /// # Safety
    ///
    /// With the GIL.
    #[inline(always)]
    pub(crate) unsafe fn name_if_unknown(&mut self) {
        if self.looks_for_name > 0 {
            // SAFETY: the caller's promise.
            unsafe { self.look_for_name() };
        }
    }

    /// Looks for the name anew: it may have changed.
    ///
    /// # Safety
    ///
    /// With the GIL.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn look_for_name(&mut self) {
        self.looks_for_name = self.looks_for_name.saturating_sub(1);
        // SAFETY: the caller's promise.
        if let Some(name) = unsafe { python_attribute(self.ident, c"_name") } {
            self.tree.set_name(&name);
            self.looks_for_name = 0;
        }
    }
}

/// An attribute of the `threading.Thread` with this ident, if the program has one and it is a text.
///
/// # Safety
///
/// With the GIL.
unsafe fn python_attribute(ident: u64, name: &CStr) -> Option<String> {
    // SAFETY: the caller's promise.
    unsafe {
        let _aside = ExceptionAside::new();
        text_attribute(python_thread(ident)?, name)
    }
}

/// The `threading.Thread` with this ident, borrowed.
///
/// # Safety
///
/// With the GIL, and no exception set.
pub(crate) unsafe fn python_thread(ident: u64) -> Option<*mut PyObject> {
    // SAFETY: the caller's promise; all is borrowed from what lives on.
    unsafe {
        let active = PyDict_GetItemString(
            PyModule_GetDict(imported(c"threading")?),
            c"_active".as_ptr(),
        );
        if active.is_null() {
            return None;
        }
        let key = Owned::or_clear(PyLong_FromUnsignedLong(ident))?;
        let thread = PyDict_GetItem(active, key.get());
        (!thread.is_null()).then_some(thread)
    }
}
