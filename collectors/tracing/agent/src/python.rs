//! What is used of CPython's C API: names, and the few words of its structures that have been the same since 3.8.
//!
//! Objects are opaque. What is looked into is `ob_type`, which every build with a GIL has behind eight bytes of reference count, and the heads of
//! `PyCFunctionObject` (`Include/cpython/methodobject.h`) and `PyMethodDescrObject` (`Include/cpython/descrobject.h`).

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr;

/// Any object.
#[repr(C)]
pub(crate) struct PyObject {
    count: isize,
    pub(crate) kind: *mut PyObject,
}

/// `PyMethodDef`.
#[repr(C)]
pub(crate) struct PyMethodDef {
    pub(crate) name: *const c_char,
    pub(crate) method: *const c_void,
    pub(crate) flags: c_int,
    pub(crate) doc: *const c_char,
}

// SAFETY: the ones that are static here are never changed.
unsafe impl Sync for PyMethodDef {}

/// `PyModuleDef`, of a build with a GIL.
#[repr(C)]
pub(crate) struct PyModuleDef {
    pub(crate) object: PyObject,
    pub(crate) init: *const c_void,
    pub(crate) index: isize,
    pub(crate) copy: *mut PyObject,
    pub(crate) name: *const c_char,
    pub(crate) doc: *const c_char,
    pub(crate) size: isize,
    pub(crate) methods: *const PyMethodDef,
    pub(crate) slots: *const c_void,
    pub(crate) traverse: *const c_void,
    pub(crate) clear: *const c_void,
    pub(crate) free: *const c_void,
}

impl PyObject {
    /// `PyObject_HEAD_INIT(NULL)`
    pub(crate) const HEAD: PyObject = PyObject {
        count: 1,
        kind: ptr::null_mut(),
    };
}

pub(crate) const METH_VARARGS: c_int = 0x1;
pub(crate) const METH_KEYWORDS: c_int = 0x2;
pub(crate) const METH_NOARGS: c_int = 0x4;
pub(crate) const METH_O: c_int = 0x8;
pub(crate) const METH_FASTCALL: c_int = 0x80;

/// `Py_tracefunc`: the argument of `PyEval_SetProfile`, a frame, what happened, and with what.
pub(crate) type TraceFunction =
    unsafe extern "C" fn(*mut PyObject, *mut PyObject, c_int, *mut PyObject) -> c_int;

/// A callback of `METH_FASTCALL | METH_KEYWORDS`: self, arguments, how many, and the names of those that have one. A `vectorcallfunc` is the same, but for the
/// first, which is the callable, and the third, of which the topmost bit may be set.
pub(crate) type FastFunction = unsafe extern "C" fn(
    *mut PyObject,
    *const *mut PyObject,
    usize,
    *mut PyObject,
) -> *mut PyObject;

unsafe extern "C" {
    pub(crate) static mut PyCFunction_Type: PyObject;
    pub(crate) static mut PyMethodDescr_Type: PyObject;
    pub(crate) static mut _Py_NoneStruct: PyObject;
    pub(crate) static PyExc_RuntimeError: *mut PyObject;

    pub(crate) fn Py_IncRef(object: *mut PyObject);
    pub(crate) fn Py_DecRef(object: *mut PyObject);
    pub(crate) fn Py_GetVersion() -> *const c_char;
    pub(crate) fn Py_AddPendingCall(
        function: unsafe extern "C" fn(*mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;

    pub(crate) fn PyModuleDef_Init(definition: *mut PyModuleDef) -> *mut PyObject;
    pub(crate) fn PyArg_ParseTuple(arguments: *mut PyObject, format: *const c_char, ...) -> c_int;
    pub(crate) fn PyCFunction_NewEx(
        definition: *const PyMethodDef,
        own: *mut PyObject,
        module: *mut PyObject,
    ) -> *mut PyObject;

    pub(crate) fn PyErr_Clear();
    pub(crate) fn PyErr_Fetch(
        kind: *mut *mut PyObject,
        value: *mut *mut PyObject,
        traceback: *mut *mut PyObject,
    );
    pub(crate) fn PyErr_Restore(
        kind: *mut PyObject,
        value: *mut PyObject,
        traceback: *mut PyObject,
    );
    pub(crate) fn PyErr_SetString(kind: *mut PyObject, text: *const c_char);

    pub(crate) fn PyObject_GetAttrString(
        object: *mut PyObject,
        name: *const c_char,
    ) -> *mut PyObject;
    pub(crate) fn PyObject_Repr(object: *mut PyObject) -> *mut PyObject;
    pub(crate) fn PyObject_CallMethod(
        object: *mut PyObject,
        name: *const c_char,
        format: *const c_char,
        ...
    ) -> *mut PyObject;
    pub(crate) fn PyObject_CallFunction(
        function: *mut PyObject,
        format: *const c_char,
        ...
    ) -> *mut PyObject;
    pub(crate) fn PyType_IsSubtype(kind: *mut PyObject, of: *mut PyObject) -> c_int;

    pub(crate) fn PyUnicode_AsUTF8AndSize(text: *mut PyObject, size: *mut isize) -> *const c_char;
    pub(crate) fn PyUnicode_AsEncodedString(
        text: *mut PyObject,
        encoding: *const c_char,
        errors: *const c_char,
    ) -> *mut PyObject;
    pub(crate) fn PyUnicode_FromString(text: *const c_char) -> *mut PyObject;
    pub(crate) fn PyBytes_AsString(bytes: *mut PyObject) -> *const c_char;
    pub(crate) fn PyBytes_Size(bytes: *mut PyObject) -> isize;
    pub(crate) fn PyLong_AsLong(number: *mut PyObject) -> c_long;
    pub(crate) fn PyLong_FromUnsignedLong(number: std::ffi::c_ulong) -> *mut PyObject;
    pub(crate) fn PyLong_AsUnsignedLongMask(number: *mut PyObject) -> std::ffi::c_ulong;

    pub(crate) fn PyDict_New() -> *mut PyObject;
    pub(crate) fn PyDict_GetItem(dict: *mut PyObject, key: *mut PyObject) -> *mut PyObject;
    pub(crate) fn PyDict_GetItemString(dict: *mut PyObject, key: *const c_char) -> *mut PyObject;
    pub(crate) fn PyDict_SetItemString(
        dict: *mut PyObject,
        key: *const c_char,
        value: *mut PyObject,
    ) -> c_int;
    pub(crate) fn PyDict_Next(
        dict: *mut PyObject,
        place: *mut isize,
        key: *mut *mut PyObject,
        value: *mut *mut PyObject,
    ) -> c_int;
    pub(crate) fn PyImport_GetModuleDict() -> *mut PyObject;
    pub(crate) fn PyModule_GetDict(module: *mut PyObject) -> *mut PyObject;
    pub(crate) fn PyModule_GetName(module: *mut PyObject) -> *const c_char;
    pub(crate) fn PySys_GetObject(name: *const c_char) -> *mut PyObject;

    pub(crate) fn PyEval_GetFrame() -> *mut PyObject;
    pub(crate) fn PyEval_GetGlobals() -> *mut PyObject;
    pub(crate) fn PyEval_SetProfile(function: Option<TraceFunction>, argument: *mut PyObject);
    pub(crate) fn PyThreadState_Get() -> *mut c_void;
    pub(crate) fn PyThreadState_Swap(thread: *mut c_void) -> *mut c_void;
    pub(crate) fn PyThreadState_Next(thread: *mut c_void) -> *mut c_void;
    pub(crate) fn PyInterpreterState_Main() -> *mut c_void;
    pub(crate) fn PyInterpreterState_ThreadHead(interpreter: *mut c_void) -> *mut c_void;
    pub(crate) fn PyInterpreterState_GetDict(interpreter: *mut c_void) -> *mut PyObject;
    pub(crate) fn PyRun_String(
        source: *const c_char,
        start: c_int,
        globals: *mut PyObject,
        locals: *mut PyObject,
    ) -> *mut PyObject;

    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    pub(crate) fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
    pub(crate) fn pthread_self() -> std::ffi::c_ulong;
    pub(crate) fn syscall(number: c_long, ...) -> c_long;
}

/// `Py_file_input`
pub(crate) const FILE_INPUT: c_int = 257;

/// What not every version exports; null where there is none.
pub(crate) fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: null is RTLD_DEFAULT: what the process has loaded for all. The name ends with a zero.
    unsafe { dlsym(ptr::null_mut(), name.as_ptr()) }
}

/// A reference that is ours, given back at the end.
pub(crate) struct Owned(*mut PyObject);

impl Owned {
    /// Takes over a new reference. A null, with an exception set, becomes `None`, and the exception is gone.
    ///
    /// # Safety
    ///
    /// A new reference or null, with the GIL.
    pub(crate) unsafe fn or_clear(object: *mut PyObject) -> Option<Owned> {
        if object.is_null() {
            // SAFETY: the GIL is held.
            unsafe { PyErr_Clear() };
            None
        } else {
            Some(Owned(object))
        }
    }

    /// An attribute, if there is one.
    ///
    /// # Safety
    ///
    /// An object that lives, with the GIL.
    pub(crate) unsafe fn attribute(object: *mut PyObject, name: &CStr) -> Option<Owned> {
        // SAFETY: the caller's promise.
        unsafe { Owned::or_clear(PyObject_GetAttrString(object, name.as_ptr())) }
    }

    /// A reference to something borrowed, unless it is null.
    ///
    /// # Safety
    ///
    /// An object that lives or null, with the GIL.
    pub(crate) unsafe fn or_none(object: *mut PyObject) -> Option<Owned> {
        if object.is_null() {
            return None;
        }
        // SAFETY: the caller's promise.
        unsafe { Py_IncRef(object) };
        Some(Owned(object))
    }

    /// It is `None`.
    pub(crate) fn is_none(&self) -> bool {
        self.0 == &raw mut _Py_NoneStruct
    }

    pub(crate) fn get(&self) -> *mut PyObject {
        self.0
    }

    pub(crate) fn into_raw(self) -> *mut PyObject {
        let object = self.0;
        std::mem::forget(self);
        object
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it is one reference, ours, and who has one has the GIL.
        unsafe { Py_DecRef(self.0) };
    }
}

/// Puts an exception aside that is on its way, and back at the end: what is done in between must neither see nor lose it.
pub(crate) struct ExceptionAside([*mut PyObject; 3]);

impl ExceptionAside {
    /// # Safety
    ///
    /// With the GIL.
    pub(crate) unsafe fn new() -> ExceptionAside {
        let mut parts = [ptr::null_mut(); 3];
        let [kind, value, traceback] = &mut parts;
        // SAFETY: the caller's promise.
        unsafe { PyErr_Fetch(kind, value, traceback) };
        ExceptionAside(parts)
    }
}

impl Drop for ExceptionAside {
    fn drop(&mut self) {
        let [kind, value, traceback] = self.0;
        // SAFETY: these are the references that were fetched; the GIL is held as long as this lives.
        unsafe { PyErr_Restore(kind, value, traceback) };
    }
}

/// The text of a `str`; what is not UTF-8 (a lone surrogate) is escaped as Python would. `None` for anything else.
///
/// # Safety
///
/// An object that lives, with the GIL.
pub(crate) unsafe fn text(object: *mut PyObject) -> Option<String> {
    let mut size = 0;
    // SAFETY: the caller's promise; for what is no string it sets an exception and returns null. The bytes belong to the string.
    unsafe {
        let bytes = PyUnicode_AsUTF8AndSize(object, &raw mut size);
        if !bytes.is_null() {
            let bytes =
                std::slice::from_raw_parts(bytes.cast(), usize::try_from(size).unwrap_or(0));
            return Some(String::from_utf8_lossy(bytes).into_owned());
        }
        PyErr_Clear();
        let escaped = Owned::or_clear(PyUnicode_AsEncodedString(
            object,
            c"utf-8".as_ptr(),
            c"backslashreplace".as_ptr(),
        ))?;
        let bytes = std::slice::from_raw_parts(
            PyBytes_AsString(escaped.get()).cast(),
            usize::try_from(PyBytes_Size(escaped.get())).unwrap_or(0),
        );
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// A text attribute, or nothing.
///
/// # Safety
///
/// An object that lives, with the GIL.
pub(crate) unsafe fn text_attribute(object: *mut PyObject, name: &CStr) -> Option<String> {
    // SAFETY: the caller's promise.
    unsafe { text(Owned::attribute(object, name)?.get()) }
}

/// A module that has been imported, borrowed. It is never imported here.
///
/// # Safety
///
/// With the GIL.
pub(crate) unsafe fn imported(name: &CStr) -> Option<*mut PyObject> {
    // SAFETY: the caller's promise; both are borrowed, and the module dict lives as long as the interpreter.
    let module = unsafe { PyDict_GetItemString(PyImport_GetModuleDict(), name.as_ptr()) };
    (!module.is_null()).then_some(module)
}
