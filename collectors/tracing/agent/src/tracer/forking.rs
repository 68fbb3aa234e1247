//! What becomes of a recording when the process forks: the child has one of its own, or none.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::running::{frames_from, seed};
use super::{Event, FORKED, Phase, begin_file, detach, get, new_generation};
use crate::python::{ExceptionAside, Py_AddPendingCall, PyEval_GetFrame, pthread_atfork};
use crate::thread::{self, FORKS};

/// Once in a process: what happens when it forks.
pub(super) fn register_fork() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Relaxed) {
        // SAFETY: the function stays: extension modules are never unloaded.
        unsafe { pthread_atfork(None, None, Some(in_child)) };
    }
}

/// In the child, right after the fork: from now on no thread has a tree.
extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
    thread::set_generation(0);
    FORKED.store(true, Relaxed);
}

/// The first event in a child: it records into a file of its own, or not at all.
pub(super) unsafe fn after_fork(event: Event) {
    let Some(tracer) = get() else { return };
    // What belongs to the parent is neither used nor dropped: its list may be locked by a thread that is not here, and its trees are the parent's to write.
    std::mem::forget(std::mem::take(&mut tracer.threads));
    std::mem::forget(std::mem::take(&mut tracer.waiting));
    let own = if tracer.options.subprocesses && tracer.phase != Phase::Over {
        let path = tracer
            .directory
            .join(format!("{}.calls", std::process::id()));
        tracer.recording.open_for_child(&path).ok()
    } else {
        None
    };
    let Some(own) = own else {
        tracer.phase = Phase::Over;
        // Not from within a callback: what it takes out is being called.
        // SAFETY: the function has no preconditions but the GIL, which pending calls have.
        unsafe { Py_AddPendingCall(take_out, ptr::null_mut()) };
        return;
    };
    begin_file(&own);
    let was_recording = tracer.phase == Phase::Recording;
    tracer.recording = Arc::new(own);
    tracer.functions.clear();
    tracer.builtins.clear();
    tracer.generation = new_generation();
    tracer.phase = Phase::Waiting;
    if !was_recording {
        return;
    }
    tracer.launched = false;
    // SAFETY: with the GIL, from a callback. The function that begins is on the stack already, and will be entered.
    unsafe {
        let _aside = ExceptionAside::new();
        let mut frames = frames_from(PyEval_GetFrame());
        if matches!(event, Event::Start(_)) {
            frames.pop();
        }
        seed(thread::ident(), thread::native_id(), None, &frames);
    }
    if let Some(tracer) = get() {
        tracer.begin();
    }
}

unsafe extern "C" fn take_out(_: *mut c_void) -> c_int {
    // SAFETY: a pending call has the GIL, and runs in the main interpreter.
    unsafe { detach() };
    0
}
