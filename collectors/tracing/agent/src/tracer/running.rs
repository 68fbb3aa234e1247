//! The frames that run when a recording begins in the midst of a program, and when it ends: they are the roots of what follows, but for those
//! of the line that asked for it.

use std::ptr;

use pystrobe_calls::{ThreadTree, ticks};

use super::get;
use crate::names;
use crate::python::{
    ExceptionAside, Owned, PyDict_Next, PyEval_GetFrame, PyLong_AsUnsignedLongMask, PyObject,
    PyObject_CallMethod, imported, text_attribute,
};
use crate::thread;

/// The outermost frame of who asked for a recording in the midst of a program. What it calls before it returns is not the program's.
pub(super) struct Asking {
    /// Of its thread.
    ident: u64,
    /// How many frames are below it.
    below: usize,
    code: Owned,
}

/// What the topmost frames of this thread have called is not part of the recording, nor are they: they are about to end it, as many as those that began it.
///
/// # Safety
///
/// With the GIL, from a function that Python called.
pub(crate) unsafe fn discard_running() {
    let Some(skip) = get().map(|tracer| tracer.skip).filter(|&skip| skip > 0) else {
        return;
    };
    // SAFETY: the caller's promise.
    let outermost = unsafe {
        let _aside = ExceptionAside::new();
        let frames = frames_from(PyEval_GetFrame());
        let first = frames.len().checked_sub(skip);
        first
            .and_then(|first| frames.get(first))
            .and_then(|frame| code_of(frame))
    };
    if let Some(code) = outermost
        && let Some(thread) = thread::current()
    {
        thread.tree.discard(code.get() as usize);
    }
}

/// Whether this thread still executes what asked for the recording.
pub(super) unsafe fn is_asking() -> bool {
    let Some(asking) = get().and_then(|tracer| tracer.asking.as_ref()) else {
        return false;
    };
    let (ident, below, code) = (asking.ident, asking.below, asking.code.get());
    if ident != thread::ident() {
        return false;
    }
    // SAFETY: the caller's promise.
    let asks = unsafe {
        let _aside = ExceptionAside::new();
        frames_from(PyEval_GetFrame())
            .get(below)
            .and_then(|frame| code_of(frame))
            .is_some_and(|other| other.get() == code)
    };
    if !asks && let Some(tracer) = get() {
        tracer.asking = None;
    }
    asks
}

/// Gives each thread that runs a tree with its frames as roots.
pub(super) unsafe fn seed_all(skip: usize) {
    // SAFETY: the caller's promise: with the GIL, so that no thread's frames change. The dict is ours.
    unsafe {
        let _aside = ExceptionAside::new();
        let Some(frames) = imported(c"sys").and_then(|sys| {
            Owned::or_clear(PyObject_CallMethod(
                sys,
                c"_current_frames".as_ptr(),
                ptr::null(),
            ))
        }) else {
            return;
        };
        let (mut place, mut key, mut frame) = (0, ptr::null_mut(), ptr::null_mut());
        while PyDict_Next(frames.get(), &raw mut place, &raw mut key, &raw mut frame) != 0 {
            let ident = PyLong_AsUnsignedLongMask(key);
            let skip = if ident == thread::ident() { skip } else { 0 };
            let mut frames = frames_from(frame);
            let below = frames.len().saturating_sub(skip);
            let asking = frames.drain(below..).next();
            let asking = asking.and_then(|frame| code_of(&frame));
            if let (Some(tracer), Some(code)) = (get(), asking) {
                tracer.asking = Some(Asking { ident, below, code });
            }
            let python_thread = thread::python_thread(ident);
            let number = |name| {
                python_thread
                    .and_then(|thread| Owned::attribute(thread, name))
                    .map(|number| PyLong_AsUnsignedLongMask(number.get()))
            };
            let native_id = number(c"_native_id").unwrap_or(0);
            let name = python_thread.and_then(|thread| text_attribute(thread, c"_name"));
            seed(ident, native_id, name.as_deref(), &frames);
        }
    }
}

/// A frame and those below it, the outermost first.
///
/// # Safety
///
/// A frame object that lives, or null; with the GIL.
pub(super) unsafe fn frames_from(frame: *mut PyObject) -> Vec<Owned> {
    let mut frames = Vec::new();
    // SAFETY: the caller's promise.
    unsafe {
        let mut next = Owned::or_none(frame);
        while let Some(frame) = next {
            next = Owned::attribute(frame.get(), c"f_back").filter(|frame| !frame.is_none());
            frames.push(frame);
        }
    }
    frames.reverse();
    frames
}

/// # Safety
///
/// A frame, with the GIL.
unsafe fn code_of(frame: &Owned) -> Option<Owned> {
    // SAFETY: the caller's promise.
    unsafe { Owned::attribute(frame.get(), c"f_code") }
}

/// Gives a thread a tree with these frames, the outermost first, as entered without a call.
///
/// # Safety
///
/// Frames that live, with the GIL, and no exception set.
pub(super) unsafe fn seed(ident: u64, native_id: u64, name: Option<&str>, frames: &[Owned]) {
    let Some(tracer) = get() else { return };
    let Some(mut tree) = ThreadTree::new(&tracer.recording, native_id, ident, 0, ticks()) else {
        return;
    };
    if let Some(name) = name {
        tree.set_name(name);
    }
    for frame in frames {
        // SAFETY: the caller's promise.
        let (code, module) = unsafe {
            let Some(code) = code_of(frame) else { continue };
            let globals = Owned::attribute(frame.get(), c"f_globals");
            let module = globals.map(|globals| names::module_of(globals.get()));
            (code, module.unwrap_or_default())
        };
        // SAFETY: the caller's promise.
        let function = unsafe { names::of_code(code.get()) };
        if !tracer.asked_for(&function, &module) {
            continue;
        }
        if let Some(id) = tracer.intern(code.get() as usize, function) {
            tree.resume(id, code.get() as usize);
        }
    }
    tracer.waiting.insert(ident, tree);
}
