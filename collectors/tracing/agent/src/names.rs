//! What functions are called: code objects by their attributes, C functions as cProfile names them.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use pystrobe_calls::{Function, Kind};

use crate::python::{
    Owned, PyCFunction_Type, PyDict_GetItemString, PyErr_Clear, PyEval_GetGlobals, PyLong_AsLong,
    PyMethodDef, PyMethodDescr_Type, PyModule_GetName, PyObject, PyObject_Repr, PyType_IsSubtype,
    PyUnicode_FromString, symbol, text, text_attribute,
};

/// A code object's name and place; what cannot be told (it always can) is `?`.
///
/// # Safety
///
/// A code object that lives, with the GIL.
pub(crate) unsafe fn of_code(code: *mut PyObject) -> Function {
    // SAFETY: the caller's promise.
    unsafe {
        let line =
            Owned::attribute(code, c"co_firstlineno").map_or(0, |line| PyLong_AsLong(line.get()));
        Function {
            file: text_attribute(code, c"co_filename").unwrap_or_else(|| "?".to_owned()),
            name: text_attribute(code, c"co_name").unwrap_or_else(|| "?".to_owned()),
            qualified_name: text_attribute(code, c"co_qualname").unwrap_or_default(),
            first_line: u32::try_from(line).unwrap_or(0),
            kind: Kind::Python,
        }
    }
}

/// `__name__` of the globals of the frame that runs; empty where there is none.
///
/// # Safety
///
/// With the GIL.
pub(crate) unsafe fn running_module() -> String {
    // SAFETY: the caller's promise; the globals are borrowed for as long as they are looked at, during which no Python runs.
    unsafe { module_of(PyEval_GetGlobals()) }
}

/// `__name__` of globals; empty where there is none.
///
/// # Safety
///
/// A dict or null, with the GIL.
pub(crate) unsafe fn module_of(globals: *mut PyObject) -> String {
    // SAFETY: the caller's promise; the name is borrowed for as long as it is looked at, during which no Python runs.
    unsafe {
        if globals.is_null() {
            return String::new();
        }
        let name = PyDict_GetItemString(globals, c"__name__".as_ptr());
        if name.is_null() {
            String::new()
        } else {
            text(name).unwrap_or_default()
        }
    }
}

/// A C function that is about to be called: what cProfile keeps of it. `PyMethodDef` is what it is known by.
#[derive(Clone, Copy)]
pub(crate) struct Builtin {
    pub(crate) definition: *const PyMethodDef,
    /// What it is a method of, or its module; may be null.
    pub(crate) own: *mut PyObject,
    /// A string, or a module; may be null.
    module: *mut PyObject,
}

/// The heads of the two structures; see `python`.
#[repr(C)]
struct CFunction {
    object: PyObject,
    definition: *const PyMethodDef,
    own: *mut PyObject,
    module: *mut PyObject,
}

#[repr(C)]
struct MethodDescriptor {
    object: PyObject,
    kind: *mut PyObject,
    name: *mut PyObject,
    qualified_name: *mut PyObject,
    definition: *const PyMethodDef,
}

impl Builtin {
    /// A `PyCFunction`.
    ///
    /// # Safety
    ///
    /// An object that lives and is a `builtin_function_or_method`, or of a type derived from that.
    #[inline(always)]
    pub(crate) unsafe fn of_function(function: *mut PyObject) -> Builtin {
        // SAFETY: the caller's promise: the structure begins like this in all versions.
        let function = unsafe { &*function.cast::<CFunction>() };
        Builtin {
            definition: function.definition,
            own: function.own,
            module: function.module,
        }
    }

    /// Whether it is exactly a `builtin_function_or_method`.
    ///
    /// # Safety
    ///
    /// An object that lives.
    pub(crate) unsafe fn is_function(object: *mut PyObject) -> bool {
        // SAFETY: the caller's promise.
        unsafe { (*object).kind == &raw mut PyCFunction_Type }
    }

    /// What a call of `callable` with `first` as its first argument (or the marker `missing`) calls, if cProfile counts it
    /// (3.12 and later: `get_cfunc_from_callable` in `Modules/_lsprof.c`): a `PyCFunction`, or the method that a descriptor and its object make.
    ///
    /// # Safety
    ///
    /// Objects that live, with the GIL.
    #[inline(always)]
    pub(crate) unsafe fn of_call(
        callable: *mut PyObject,
        first: *mut PyObject,
        missing: *mut PyObject,
    ) -> Option<Builtin> {
        // SAFETY: the caller's promise. The type is compared before the structure is looked into.
        unsafe {
            let kind = (*callable).kind;
            if kind == &raw mut PyCFunction_Type {
                Some(Builtin::of_function(callable))
            } else if kind == &raw mut PyMethodDescr_Type {
                if first == missing {
                    return None;
                }
                let descriptor = &*callable.cast::<MethodDescriptor>();
                // Of another type it is no method, and the call is an error.
                if (*first).kind != descriptor.kind
                    && PyType_IsSubtype((*first).kind, descriptor.kind) == 0
                {
                    return None;
                }
                Some(Builtin {
                    definition: descriptor.definition,
                    own: first,
                    module: ptr::null_mut(),
                })
            } else {
                Builtin::of_derived(callable)
            }
        }
    }

    /// A method that is told its class (`PyCMethod`) is of a type derived from `PyCFunction`.
    ///
    /// # Safety
    ///
    /// As for [`Builtin::of_call`].
    #[inline(always)]
    unsafe fn of_derived(callable: *mut PyObject) -> Option<Builtin> {
        // `PyCMethod_Type` cannot be derived from, nor can `PyCFunction_Type` in any other way.
        // SAFETY: the caller's promise.
        unsafe {
            ((*callable).kind == C_METHOD.load(Relaxed)).then(|| Builtin::of_function(callable))
        }
    }

    /// The key of its calls in the tree: odd, so that it is never that of a code object.
    #[inline(always)]
    pub(crate) fn key(self) -> usize {
        self.definition as usize | 1
    }

    /// The name that cProfile gives it (`normalizeUserObj` in `Modules/_lsprof.c`, 3.8 to 3.15).
    ///
    /// # Safety
    ///
    /// The callable lives, with the GIL. May run Python: a `__repr__`.
    pub(crate) unsafe fn describe(self) -> Function {
        // SAFETY: the caller's promise.
        let name = unsafe { self.name() };
        Function {
            file: "~".to_owned(),
            name,
            qualified_name: String::new(),
            first_line: 0,
            kind: Kind::Builtin,
        }
    }

    unsafe fn name(self) -> String {
        // SAFETY: the caller's promise; a definition's name is a string with a zero behind it.
        unsafe {
            let short = CStr::from_ptr((*self.definition).name);
            let plain = short.to_string_lossy();
            if self.own.is_null() {
                return match self.module_name(true).as_deref() {
                    None | Some("builtins") => format!("<{plain}>"),
                    Some(module) => format!("<{module}.{plain}>"),
                };
            }
            if let Some(key) = Owned::or_clear(PyUnicode_FromString(short.as_ptr())) {
                let of_type = lookup((*self.own).kind, key.get());
                if !of_type.is_null()
                    && let Some(name) =
                        Owned::or_clear(PyObject_Repr(of_type)).and_then(|repr| text(repr.get()))
                {
                    return name;
                }
                PyErr_Clear();
            }
            match self.module_name(false) {
                Some(module) => format!("<built-in method {module}.{plain}>"),
                None => format!("<built-in method {plain}>"),
            }
        }
    }

    /// Of `m_module`: a string, or (where that may be) a module.
    unsafe fn module_name(self, or_module: bool) -> Option<String> {
        if self.module.is_null() {
            return None;
        }
        // SAFETY: the caller's promise; `PyModule_GetName` tells whether it is a module.
        unsafe {
            let name = text(self.module);
            if name.is_some() || !or_module {
                return name;
            }
            let name = PyModule_GetName(self.module);
            if name.is_null() {
                PyErr_Clear();
                return None;
            }
            Some(CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }
}

/// `PyCMethod_Type`, which 3.8 does not have.
static C_METHOD: AtomicPtr<PyObject> = AtomicPtr::new(ptr::null_mut());
/// `_PyType_Lookup`
static TYPE_LOOKUP: AtomicPtr<std::ffi::c_void> = AtomicPtr::new(ptr::null_mut());

/// Looks up what not every version has. Once, before anything else here.
pub(crate) fn prepare() {
    C_METHOD.store(symbol(c"PyCMethod_Type").cast(), Relaxed);
    TYPE_LOOKUP.store(symbol(c"_PyType_Lookup"), Relaxed);
}

/// A borrowed attribute of a type or null, without a descriptor's `__get__`.
///
/// # Safety
///
/// A type and a `str`, with the GIL.
unsafe fn lookup(kind: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    let function = TYPE_LOOKUP.load(Relaxed);
    if function.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: `_PyType_Lookup(PyTypeObject *, PyObject *)` is that in every version that exports it.
    unsafe {
        let function: unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject =
            std::mem::transmute(function);
        function(kind, name)
    }
}
