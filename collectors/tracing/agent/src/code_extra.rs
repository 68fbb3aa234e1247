//! What is remembered of a code object: a number, kept in the code object itself (PEP 523's `co_extra`).
//!
//! So the way from a code object to its function is one call of the interpreter's, holds no reference to it, and cannot be deceived by another code object at the
//! same address: a new one has nothing. The number says in its upper half for which recording it is valid.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, Ordering::Relaxed};

use crate::python::{
    Owned, PyDict_GetItemString, PyDict_SetItemString, PyErr_Clear, PyInterpreterState_GetDict,
    PyInterpreterState_Main, PyLong_AsUnsignedLongMask, PyLong_FromUnsignedLong, PyObject, symbol,
};

type Request = unsafe extern "C" fn(Option<unsafe extern "C" fn(*mut c_void)>) -> isize;
type Get = unsafe extern "C" fn(*mut PyObject, isize, *mut *mut c_void) -> i32;
type Set = unsafe extern "C" fn(*mut PyObject, isize, *mut c_void) -> i32;

static INDEX: AtomicIsize = AtomicIsize::new(-1);
static GET: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static SET: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Takes an index for this process, which has 255 in all and never gets one back: so it is kept where the next agent in the same process finds it.
///
/// # Safety
///
/// With the GIL, in the main interpreter.
pub(crate) unsafe fn prepare() -> bool {
    if INDEX.load(Relaxed) >= 0 {
        return true;
    }
    let first = |new, old| {
        let found = symbol(new);
        if found.is_null() { symbol(old) } else { found }
    };
    let request = first(
        c"PyUnstable_Eval_RequestCodeExtraIndex",
        c"_PyEval_RequestCodeExtraIndex",
    );
    let get = first(c"PyUnstable_Code_GetExtra", c"_PyCode_GetExtra");
    let set = first(c"PyUnstable_Code_SetExtra", c"_PyCode_SetExtra");
    if request.is_null() || get.is_null() || set.is_null() {
        return false;
    }
    // SAFETY: the caller's promise. The function has that signature since 3.6; nothing has to be freed with a code object.
    unsafe {
        let kept = PyInterpreterState_GetDict(PyInterpreterState_Main());
        let name = c"pystrobe.code_extra_index";
        let before = if kept.is_null() {
            ptr::null_mut()
        } else {
            PyDict_GetItemString(kept, name.as_ptr())
        };
        let index = if before.is_null() {
            let request: Request = std::mem::transmute(request);
            let index = request(None);
            if index >= 0
                && !kept.is_null()
                && let Some(number) =
                    Owned::or_clear(PyLong_FromUnsignedLong(index as std::ffi::c_ulong))
                && PyDict_SetItemString(kept, name.as_ptr(), number.get()) != 0
            {
                PyErr_Clear();
            }
            index
        } else {
            PyLong_AsUnsignedLongMask(before) as isize
        };
        GET.store(get, Relaxed);
        SET.store(set, Relaxed);
        INDEX.store(index, Relaxed);
        index >= 0
    }
}

/// What was remembered last; 0 if nothing was.
///
/// # Safety
///
/// A code object that lives, after [`prepare`], with the GIL.
#[inline(always)]
pub(crate) unsafe fn get(code: *mut PyObject) -> u64 {
    let mut value = ptr::null_mut();
    // SAFETY: the caller's promise; `prepare` has put a function of that signature there.
    unsafe {
        let get: Get = std::mem::transmute(GET.load(Relaxed));
        get(code, INDEX.load(Relaxed), &raw mut value);
    }
    value as u64
}

/// Remembers a number. Where there is no memory for it, it will be asked for again.
///
/// # Safety
///
/// As for [`get`].
pub(crate) unsafe fn set(code: *mut PyObject, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let set: Set = std::mem::transmute(SET.load(Relaxed));
        if set(code, INDEX.load(Relaxed), value as *mut c_void) != 0 {
            PyErr_Clear();
        }
    }
}
