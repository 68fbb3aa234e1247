//! What is remembered of a code object: a number, kept in the code object itself (PEP 523's `co_extra`).
//!
//! So the way from a code object to its function is one call of the interpreter's, holds no reference to it, and cannot be deceived by another code object at the
//! same address: a new one has nothing. The number says in its upper half for which recording it is valid.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicUsize, Ordering::Relaxed};

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
/// Where a code object has its `co_extra`, in words; 0 where that was not found.
static WORD: AtomicUsize = AtomicUsize::new(0);

/// Takes an index for this process, which has 255 in all and never gets one back: so it is kept where the next agent in the same process finds it.
///
/// # Safety
///
/// With the GIL, in the main interpreter; `frame` lives or is null.
pub(crate) unsafe fn prepare(frame: *mut PyObject) -> bool {
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
        if index >= 0
            && !frame.is_null()
            && let Some(code) = Owned::attribute(frame, c"f_code")
        {
            find_word(code.get());
        }
        index >= 0
    }
}

/// Finds `co_extra` in a code object that has none yet: the word that is not null any more when it has. To read it there is half as long as to ask the interpreter.
///
/// # Safety
///
/// A code object that lives, with the GIL.
// By its name `tests/memcheck.supp` knows what reads padding.
#[inline(never)]
unsafe fn find_word(code: *mut PyObject) {
    const MARK: u64 = 0x7079_7374_726f_6265;
    /// `tp_basicsize` in a type object: behind the head of an object with a size, and the name.
    const BASIC_SIZE_WORD: usize = 4;
    // SAFETY: a code object is as long as its type says, at least, and starts with a whole number of words. What was null and is not any more was stored by `set`; there is nothing
    // else that it stores in the object but a pointer to a size and as many words (`_PyCodeObjectExtra` in `Objects/codeobject.c`, 3.8 to 3.15).
    unsafe {
        let words = code.cast::<usize>();
        let count = *(*code).kind.cast::<usize>().add(BASIC_SIZE_WORD) / size_of::<usize>();
        let empty: Vec<usize> = (2..count.min(64))
            .filter(|&word| *words.add(word) == 0)
            .collect();
        if get(code) != 0 {
            return;
        }
        set(code, MARK);
        let mut filled = empty.into_iter().filter(|&word| *words.add(word) != 0);
        if let (Some(word), None) = (filled.next(), filled.next()) {
            let extra = *words.add(word) as *const u64;
            let index = INDEX.load(Relaxed) as usize;
            if *extra as usize > index && *extra.add(1 + index) == MARK {
                WORD.store(word, Relaxed);
            }
        }
        set(code, 0);
    }
}

/// What was remembered last; 0 if nothing was.
///
/// # Safety
///
/// A code object that lives, after [`prepare`], with the GIL.
#[inline(always)]
pub(crate) unsafe fn get(code: *mut PyObject) -> u64 {
    let word = WORD.load(Relaxed);
    if word != 0 {
        // SAFETY: the caller's promise; `find_word` has found it there. It is a pointer to a size and as many words, or null.
        unsafe {
            let extra = *code.cast::<*const u64>().add(word);
            let index = INDEX.load(Relaxed) as usize;
            return if !extra.is_null() && *extra as usize > index {
                *extra.add(1 + index)
            } else {
                0
            };
        }
    }
    // SAFETY: as the caller promises.
    unsafe { ask(code) }
}

/// The same by the interpreter's function.
unsafe fn ask(code: *mut PyObject) -> u64 {
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
