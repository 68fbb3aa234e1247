//! Counts the calls of a CPython process from inside it.
//!
//! An extension module without a trace in `sys.modules`: it is loaded from a file by `_imp.create_dynamic`, and has three functions.
//! `launch(directory)` records the program that the interpreter is about to run, `attach(file, skip)` begins in the midst of one, `detach()` takes all
//! out again. What is to be recorded stands in the file ([`pystrobe_calls::Options`]), and so does what was.
//!
//! One library serves 3.8 to 3.15: it uses exported functions only, which the interpreter that loads it resolves.

mod code_extra;
mod cost;
mod monitoring;
mod names;
mod profile;
mod python;
mod thread;
mod tracer;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::path::Path;
use std::ptr;

use pystrobe_calls::{OpenError, Recording};

use crate::python::{
    _Py_NoneStruct, METH_NOARGS, METH_VARARGS, Py_IncRef, PyArg_ParseTuple, PyErr_SetString,
    PyExc_RuntimeError, PyMethodDef, PyModuleDef, PyModuleDef_Init, PyObject,
};

/// The file in a launched program's directory that its first process records into.
pub const FIRST_RECORDING: &str = "first.calls";

static METHODS: [PyMethodDef; 4] = [
    PyMethodDef {
        name: c"launch".as_ptr(),
        method: launch as *const c_void,
        flags: METH_VARARGS,
        doc: ptr::null(),
    },
    PyMethodDef {
        name: c"attach".as_ptr(),
        method: attach as *const c_void,
        flags: METH_VARARGS,
        doc: ptr::null(),
    },
    PyMethodDef {
        name: c"detach".as_ptr(),
        method: detach as *const c_void,
        flags: METH_NOARGS,
        doc: ptr::null(),
    },
    PyMethodDef {
        name: ptr::null(),
        method: ptr::null(),
        flags: 0,
        doc: ptr::null(),
    },
];

/// Writable: the interpreter counts references to it.
static mut MODULE: PyModuleDef = PyModuleDef {
    object: PyObject::HEAD,
    init: ptr::null(),
    index: 0,
    copy: ptr::null_mut(),
    name: c"pystrobe_agent".as_ptr(),
    doc: ptr::null(),
    size: 0,
    methods: METHODS.as_ptr(),
    slots: ptr::null(),
    traverse: ptr::null(),
    clear: ptr::null(),
    free: ptr::null(),
};

/// What `_imp.create_dynamic` calls. Initialisation in phases (PEP 489), so that the module is entered nowhere.
///
/// # Safety
///
/// By the interpreter, with the GIL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit_pystrobe_agent() -> *mut PyObjectPointer {
    // SAFETY: the definition is static and of the layout that builds with a GIL have.
    unsafe { PyModuleDef_Init(&raw mut MODULE).cast() }
}

/// Opaque: a pointer to a `PyObject`, for the only function that is exported.
#[repr(C)]
#[derive(Debug)]
pub struct PyObjectPointer(u8);

/// `launch(directory)`
unsafe extern "C" fn launch(_: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject {
    let mut directory: *const c_char = ptr::null();
    // SAFETY: the interpreter calls with a tuple, and with the GIL; the text belongs to it.
    unsafe {
        if PyArg_ParseTuple(arguments, c"s".as_ptr(), &raw mut directory) == 0 {
            return ptr::null_mut();
        }
        let directory = CStr::from_ptr(directory).to_string_lossy();
        let directory = Path::new(directory.as_ref());
        let first = directory.join(FIRST_RECORDING);
        let recording = match Recording::open(&first) {
            // Another process came first: this is a descendant of it.
            Err(OpenError::Used) => Recording::open_like(&first, &own_file(directory)),
            other => other,
        };
        let started = recording
            .map_err(|error| error.to_string())
            .and_then(|recording| {
                Py_AtExit(tracer::at_exit);
                tracer::launch(recording, directory)
            });
        answer(started)
    }
}

/// A name that this process has not used: it may execute one program after the other.
fn own_file(directory: &Path) -> std::path::PathBuf {
    let pid = std::process::id();
    (0..)
        .map(|n: u32| directory.join(format!("{pid}-{n}.calls")))
        .find(|path| fs::symlink_metadata(path).is_err())
        .unwrap_or_else(|| directory.join(format!("{pid}.calls")))
}

/// `attach(file, skip)`
unsafe extern "C" fn attach(_: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject {
    let mut file: *const c_char = ptr::null();
    let mut skip: c_int = 0;
    // SAFETY: as above.
    unsafe {
        if PyArg_ParseTuple(arguments, c"si".as_ptr(), &raw mut file, &raw mut skip) == 0 {
            return ptr::null_mut();
        }
        let file = CStr::from_ptr(file).to_string_lossy();
        let file = Path::new(file.as_ref());
        let recording = Recording::open(file).map_err(|error| error.to_string());
        let directory = file.parent().unwrap_or(Path::new("/"));
        answer(recording.and_then(|recording| {
            tracer::attach(recording, directory, usize::try_from(skip).unwrap_or(0))
        }))
    }
}

/// `detach()`
unsafe extern "C" fn detach(_: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by the interpreter, with the GIL.
    unsafe { tracer::detach() };
    answer(Ok(()))
}

/// None, or a `RuntimeError`.
fn answer(result: Result<(), String>) -> *mut PyObject {
    // SAFETY: with the GIL, as all functions above.
    unsafe {
        match result {
            Ok(()) => {
                Py_IncRef(&raw mut _Py_NoneStruct);
                &raw mut _Py_NoneStruct
            }
            Err(why) => {
                let why = CString::new(why.replace('\0', " ")).unwrap_or_default();
                PyErr_SetString(PyExc_RuntimeError, why.as_ptr());
                ptr::null_mut()
            }
        }
    }
}

unsafe extern "C" {
    fn Py_AtExit(function: extern "C" fn()) -> c_int;
}
