//! The program's own profilers, on 3.8 to 3.11, where a thread has one profile function: ours, which passes on to theirs.
//!
//! Python sets one by `sys.setprofile` (`threading.setprofile` comes down to that) or by `_lsprof.Profiler.enable`. The C functions of these are exchanged, in their `PyMethodDef`, for
//! ones that call the original and then put ours in front of what that has set. The function's object stays the thread's, so that `sys.getprofile()` says what it would.
//! A profiler in C that calls `PyEval_SetProfile` itself is not seen: it gets its events, and we have none of that thread from then on.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::names::Builtin;
use crate::profile;
use crate::python::{
    ExceptionAside, METH_KEYWORDS, METH_NOARGS, METH_O, METH_VARARGS, Owned, PyMethodDef, PyObject,
    PyType_IsSubtype, TraceFunction, imported,
};

/// A C function of the interpreter that has been exchanged.
struct Exchanged {
    definition: AtomicPtr<PyMethodDef>,
    original: AtomicPtr<c_void>,
}

impl Exchanged {
    const fn not_yet() -> Exchanged {
        Exchanged {
            definition: AtomicPtr::new(ptr::null_mut()),
            original: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// # Safety
    ///
    /// A definition that stays, and a function of the signature that its flags say; with the GIL.
    unsafe fn exchange(
        &self,
        definition: *const PyMethodDef,
        flags: c_int,
        function: *const c_void,
    ) {
        // SAFETY: the caller's promise. The interpreter's definitions are not constants, and whoever calls reads them with the GIL.
        unsafe {
            if (*definition).flags == flags && self.definition.load(Relaxed).is_null() {
                self.original
                    .store((*definition).method.cast_mut(), Relaxed);
                self.definition.store(definition.cast_mut(), Relaxed);
                (&raw mut (*definition.cast_mut()).method).write(function);
            }
        }
    }

    /// # Safety
    ///
    /// With the GIL.
    unsafe fn put_back(&self) {
        let definition = self.definition.swap(ptr::null_mut(), Relaxed);
        if !definition.is_null() {
            // SAFETY: it was exchanged by `exchange`, and still is.
            unsafe { (&raw mut (*definition).method).write(self.original.load(Relaxed)) };
        }
    }
}

static SET_PROFILE: Exchanged = Exchanged::not_yet();
static ENABLE: Exchanged = Exchanged::not_yet();
static DISABLE: Exchanged = Exchanged::not_yet();

/// What `sys.setprofile` sets, and what `_lsprof` sets: known when one was set.
static OF_PYTHON: AtomicUsize = AtomicUsize::new(0);
static OF_LSPROF: AtomicUsize = AtomicUsize::new(0);
/// `_lsprof.Profiler`
static PROFILER: AtomicPtr<PyObject> = AtomicPtr::new(ptr::null_mut());
static ON: AtomicBool = AtomicBool::new(false);

/// From now on the program's profilers are passed on to.
///
/// # Safety
///
/// With the GIL.
pub(crate) unsafe fn switch_on() {
    ON.store(true, Relaxed);
    // SAFETY: the caller's promise; the function's module keeps its definition.
    unsafe {
        if let Some(function) =
            imported(c"sys").and_then(|sys| Owned::attribute(sys, c"setprofile"))
            && Builtin::is_function(function.get())
        {
            let definition = Builtin::of_function(function.get()).definition;
            SET_PROFILE.exchange(definition, METH_O, set_profile as *const c_void);
        }
    }
}

/// The program's profilers are passed on to.
pub(crate) fn is_on() -> bool {
    ON.load(Relaxed)
}

/// # Safety
///
/// With the GIL.
pub(crate) unsafe fn switch_off() {
    ON.store(false, Relaxed);
    for exchanged in [&SET_PROFILE, &ENABLE, &DISABLE] {
        // SAFETY: the caller's promise.
        unsafe { exchanged.put_back() };
    }
}

/// A C function is about to be called: is it one of `_lsprof.Profiler`'s, which there is only once it has been imported?
///
/// # Safety
///
/// As `Builtin::of_function` made it, of a function that lives; with the GIL.
#[inline(always)]
pub(crate) unsafe fn look_at(builtin: Builtin) {
    // SAFETY: the caller's promise; a name has at least its final zero.
    unsafe {
        let name = (*builtin.definition).name;
        // Most names begin with something else.
        if matches!(*name.cast::<u8>(), b'e' | b'd')
            && ENABLE.definition.load(Relaxed).is_null()
                | DISABLE.definition.load(Relaxed).is_null()
        {
            look_closer(builtin, name);
        }
    }
}

#[inline(never)]
unsafe fn look_closer(builtin: Builtin, name: *const c_char) {
    // SAFETY: the caller's promise. A type's name ends with a zero, and its bases live as long as it does.
    unsafe {
        let which = CStr::from_ptr(name);
        if !matches!(which.to_bytes(), b"enable" | b"disable") || builtin.own.is_null() {
            return;
        }
        if !is_lsprof(builtin.own) {
            return;
        }
        if which.to_bytes() == b"enable" {
            ENABLE.exchange(
                builtin.definition,
                METH_VARARGS | METH_KEYWORDS,
                enable as *const c_void,
            );
        } else {
            DISABLE.exchange(builtin.definition, METH_NOARGS, disable as *const c_void);
        }
    }
}

/// Whether it is a `_lsprof.Profiler`, or of a type derived from that. The type is known from then on.
///
/// # Safety
///
/// An object that lives, with the GIL.
unsafe fn is_lsprof(object: *mut PyObject) -> bool {
    // SAFETY: the caller's promise. A type's name ends with a zero, and its bases live as long as it does.
    unsafe {
        let mut kind = (*object).kind;
        while !kind.is_null() {
            let name = *kind.cast::<*const c_char>().add(TYPE_NAME_WORD);
            if CStr::from_ptr(name).to_bytes() == b"_lsprof.Profiler" {
                PROFILER.store(kind, Relaxed);
                return true;
            }
            kind = *kind.cast::<*mut PyObject>().add(TYPE_BASE_WORD);
        }
        false
    }
}

/// Remembers the profile function that a thread had before us, with its object, to be passed on to. `false` if events cannot be passed on to it: of those
/// that are neither Python's nor `_lsprof`'s nobody knows which function belongs to which object.
///
/// # Safety
///
/// A profile function and an object that lives, with the GIL.
pub(crate) unsafe fn keep(function: usize, object: *mut PyObject) -> bool {
    // SAFETY: the caller's promise.
    let known = if unsafe { is_lsprof(object) } {
        &OF_LSPROF
    } else {
        &OF_PYTHON
    };
    match known.compare_exchange(0, function, Relaxed, Relaxed) {
        Ok(_) => true,
        Err(other) => other == function,
    }
}

/// Words of a type object: `tp_name` and `tp_base`, by counting the members of `struct _typeobject` (`Include/cpython/object.h`, 3.8 to 3.11).
const TYPE_NAME_WORD: usize = 3;
const TYPE_BASE_WORD: usize = 32;

/// Passes an event on to whoever the program's profile function is.
///
/// # Safety
///
/// What the interpreter calls a profile function with, with an object that is not null; with the GIL.
#[cold]
#[inline(never)]
pub(crate) unsafe fn pass_on(
    object: *mut PyObject,
    frame: *mut PyObject,
    event: c_int,
    argument: *mut PyObject,
) -> c_int {
    // SAFETY: the caller's promise; both numbers are profile functions, seen in a thread state.
    unsafe {
        let function = theirs(object);
        if function == 0 {
            return 0;
        }
        let function: TraceFunction = std::mem::transmute::<usize, TraceFunction>(function);
        let result = function(object, frame, event, argument);
        if result != 0 {
            // What raised an exception has taken itself out, and us with it.
            let _aside = ExceptionAside::new();
            profile::front();
        }
        result
    }
}

/// The function that belongs to an object; 0 if none was seen.
///
/// # Safety
///
/// An object that lives, with the GIL.
pub(crate) unsafe fn theirs(object: *mut PyObject) -> usize {
    let profiler = PROFILER.load(Relaxed);
    // SAFETY: the caller's promise.
    if !profiler.is_null() && unsafe { PyType_IsSubtype((*object).kind, profiler) } != 0 {
        OF_LSPROF.load(Relaxed)
    } else {
        OF_PYTHON.load(Relaxed)
    }
}

/// Puts ours in front of what this thread's profile function is now, which `theirs` keeps.
unsafe fn get_in_front(theirs: &AtomicUsize) {
    if !ON.load(Relaxed) {
        return;
    }
    // SAFETY: the caller's promise: with the GIL.
    unsafe {
        let set = profile::front();
        if set != 0 {
            theirs.store(set, Relaxed);
        }
    }
}

/// In place of `sys.setprofile`.
unsafe extern "C" fn set_profile(module: *mut PyObject, function: *mut PyObject) -> *mut PyObject {
    type Original = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;
    // SAFETY: called by the interpreter as the original would have been.
    unsafe {
        let original: Original = std::mem::transmute(SET_PROFILE.original.load(Relaxed));
        let result = original(module, function);
        let _aside = ExceptionAside::new();
        get_in_front(&OF_PYTHON);
        result
    }
}

/// In place of `_lsprof.Profiler.enable`.
unsafe extern "C" fn enable(
    profiler: *mut PyObject,
    arguments: *mut PyObject,
    named: *mut PyObject,
) -> *mut PyObject {
    type Original =
        unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
    // SAFETY: as above.
    unsafe {
        let original: Original = std::mem::transmute(ENABLE.original.load(Relaxed));
        let result = original(profiler, arguments, named);
        let _aside = ExceptionAside::new();
        get_in_front(&OF_LSPROF);
        result
    }
}

/// In place of `_lsprof.Profiler.disable`.
unsafe extern "C" fn disable(profiler: *mut PyObject, nothing: *mut PyObject) -> *mut PyObject {
    type Original = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;
    // SAFETY: as above.
    unsafe {
        let original: Original = std::mem::transmute(DISABLE.original.load(Relaxed));
        let result = original(profiler, nothing);
        let _aside = ExceptionAside::new();
        get_in_front(&OF_LSPROF);
        result
    }
}
