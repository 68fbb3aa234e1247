//! Events by `sys.monitoring`: 3.12 and later.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use pystrobe_calls::ticks;

use crate::names::Builtin;
use crate::python::{
    _Py_NoneStruct, FastFunction, METH_FASTCALL, METH_KEYWORDS, Owned, Py_IncRef,
    PyCFunction_NewEx, PyLong_AsLong, PyMethodDef, PyObject, PyObject_CallFunction,
    PyObject_CallMethod, PySys_GetObject, PyWeakref_NewRef, symbol,
};
use crate::thread;
use crate::tracer::{self, Event};

/// `sys.monitoring.MISSING` and `DISABLE`, which live as long as the process.
static MISSING: AtomicPtr<PyObject> = AtomicPtr::new(ptr::null_mut());
static DISABLE: AtomicPtr<PyObject> = AtomicPtr::new(ptr::null_mut());

/// The tool that we are to the interpreter.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    id: c_int,
    /// Of all code.
    global: c_int,
    /// Of the code that is asked for, where not all is.
    local: c_int,
}

const NAME: &CStr = c"pystrobe";

/// The events and who is called.
const CALLBACKS: [(&CStr, &PyMethodDef); 9] = [
    (c"PY_START", &callback(c"py_start", py_start)),
    (c"PY_RESUME", &callback(c"py_resume", py_resume)),
    (c"PY_THROW", &callback(c"py_throw", py_resume)),
    (c"PY_RETURN", &callback(c"py_return", py_return)),
    (c"PY_YIELD", &callback(c"py_yield", py_return)),
    (c"PY_UNWIND", &callback(c"py_unwind", py_return)),
    (c"CALL", &callback(c"call", call)),
    (c"C_RETURN", &callback(c"c_return", c_return)),
    (c"C_RAISE", &callback(c"c_raise", c_return)),
];

const fn callback(name: &'static CStr, function: FastFunction) -> PyMethodDef {
    PyMethodDef {
        name: name.as_ptr(),
        method: function as *const c_void,
        flags: METH_FASTCALL | METH_KEYWORDS,
        doc: ptr::null(),
    }
}

/// Lets the interpreter call the callback itself, and not its own function which does that (`cfunction_vectorcall_FASTCALL_KEYWORDS`, a tenth of what an event takes):
/// `PyCFunctionObject` ends with the address of what a call of the object calls.
///
/// # Safety
///
/// A `builtin_function_or_method` of this definition, of `METH_FASTCALL | METH_KEYWORDS`, with the GIL.
unsafe fn call_directly(function: *mut PyObject, definition: &PyMethodDef) {
    /// `vectorcall`, behind the object's head, `m_ml`, `m_self`, `m_module` and `m_weakreflist` (`Include/cpython/methodobject.h`, 3.9 to 3.15).
    const WORD: usize = 6;
    type Called = unsafe extern "C" fn(*mut PyObject) -> *const c_void;
    let called = symbol(c"PyVectorcall_Function");
    if called.is_null() {
        return;
    }
    // SAFETY: the caller's promise. The function has that signature since 3.9. The structure has that word at least, and it is written only if it holds what the
    // interpreter says that it calls; what is put there takes the same arguments.
    unsafe {
        let called: Called = std::mem::transmute(called);
        let word = function.cast::<*const c_void>().add(WORD);
        if *word == called(function) {
            *word = definition.method;
        }
    }
}

unsafe fn monitoring() -> Option<*mut PyObject> {
    // SAFETY: with the GIL; `sys.monitoring` is borrowed, and nobody takes it away.
    let module = unsafe { PySys_GetObject(c"monitoring".as_ptr()) };
    (!module.is_null()).then_some(module)
}

impl Tool {
    /// Takes an id and registers the callbacks; no event comes yet.
    ///
    /// The ids without a name come first: a program's own cProfile insists on the profiler's, coverage on its own.
    ///
    /// # Safety
    ///
    /// With the GIL, in the main interpreter.
    pub(crate) unsafe fn take(builtins: bool, only: bool) -> Result<Tool, String> {
        const IDS: [c_int; 6] = [4, 3, 2, 5, 1, 0];
        // SAFETY: the caller's promise; formats and arguments belong together.
        unsafe {
            let monitoring = monitoring().ok_or("the interpreter has no sys.monitoring")?;
            for (name, place) in [(c"MISSING", &MISSING), (c"DISABLE", &DISABLE)] {
                let object = Owned::attribute(monitoring, name)
                    .ok_or("sys.monitoring is not what it should be")?;
                place.store(object.into_raw(), Relaxed);
            }
            let id = IDS
                .into_iter()
                .find(|&id| {
                    let method = c"use_tool_id".as_ptr();
                    Owned::or_clear(PyObject_CallMethod(
                        monitoring,
                        method,
                        c"is".as_ptr(),
                        id,
                        NAME.as_ptr(),
                    ))
                    .is_some()
                })
                .ok_or("all tool ids of sys.monitoring are taken")?;
            let mut tool = Tool {
                id,
                global: 0,
                local: 0,
            };
            let events =
                Owned::attribute(monitoring, c"events").ok_or("sys.monitoring has no events")?;
            for (name, definition) in CALLBACKS {
                if !builtins && matches!(name.to_bytes(), b"CALL" | b"C_RETURN" | b"C_RAISE") {
                    continue;
                }
                let Some(event) = Owned::attribute(events.get(), name)
                    .map(|event| PyLong_AsLong(event.get()) as c_int)
                else {
                    tool.give_back();
                    return Err(format!("sys.monitoring has no {}", name.to_string_lossy()));
                };
                let function = Owned::or_clear(PyCFunction_NewEx(
                    definition,
                    ptr::null_mut(),
                    ptr::null_mut(),
                ));
                if let Some(function) = &function {
                    call_directly(function.get(), definition);
                }
                let registered = function.and_then(|function| tool.register(event, function.get()));
                if registered.is_none() {
                    tool.give_back();
                    return Err("sys.monitoring takes no callback".to_owned());
                }
                // These two exist for all code or for none.
                let everywhere =
                    !only || matches!(name.to_bytes(), b"PY_START" | b"PY_UNWIND" | b"PY_THROW");
                if everywhere {
                    tool.global |= event;
                } else {
                    tool.local |= event;
                }
            }
            Ok(tool)
        }
    }

    unsafe fn register(&self, event: c_int, function: *mut PyObject) -> Option<Owned> {
        // SAFETY: with the GIL; the format is of two numbers and an object.
        unsafe {
            let method = c"register_callback".as_ptr();
            Owned::or_clear(PyObject_CallMethod(
                monitoring()?,
                method,
                c"iiO".as_ptr(),
                self.id,
                event,
                function,
            ))
        }
    }

    unsafe fn set_events(&self, events: c_int) -> Option<Owned> {
        // SAFETY: with the GIL; the format is of two numbers.
        unsafe {
            Owned::or_clear(PyObject_CallMethod(
                monitoring()?,
                c"set_events".as_ptr(),
                c"ii".as_ptr(),
                self.id,
                events,
            ))
        }
    }

    /// Events come from now on.
    ///
    /// # Safety
    ///
    /// With the GIL, in the main interpreter.
    pub(crate) unsafe fn switch_on(&self) -> Result<(), String> {
        // What was not asked for in an earlier recording is still disabled where it has not run since.
        // SAFETY: the caller's promise; there are no arguments.
        let restarted = unsafe {
            monitoring().and_then(|monitoring| {
                Owned::or_clear(PyObject_CallMethod(
                    monitoring,
                    c"restart_events".as_ptr(),
                    ptr::null(),
                ))
            })
        };
        drop(restarted);
        // SAFETY: the caller's promise.
        unsafe { self.set_events(self.global) }
            .map(drop)
            .ok_or_else(|| "sys.monitoring gives no events".to_owned())
    }

    /// No events come until they are switched on again.
    ///
    /// # Safety
    ///
    /// With the GIL, in the main interpreter.
    pub(crate) unsafe fn pause(&self) {
        // SAFETY: the caller's promise.
        drop(unsafe { self.set_events(0) });
    }

    /// Asks for all events of a code object, where they do not come from everywhere. What is returned is to be [given back](Tool::give_back_code) at the end.
    ///
    /// # Safety
    ///
    /// A code object that lives, with the GIL, in the main interpreter.
    pub(crate) unsafe fn watch(&self, code: *mut PyObject) -> Option<Watched> {
        if self.local == 0 {
            return None;
        }
        // SAFETY: the caller's promise. If it fails the function has calls and no time of its own.
        unsafe {
            self.set_local_events(code, self.local)?;
            Owned::or_clear(PyWeakref_NewRef(code, ptr::null_mut())).map(Watched)
        }
    }

    /// Asks for no events of a code object any more, if it still is.
    ///
    /// # Safety
    ///
    /// With the GIL, in the main interpreter.
    pub(crate) unsafe fn give_back_code(&self, watched: &Watched) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(code) = watched.code() {
                drop(self.set_local_events(code.get(), 0));
            }
        }
    }

    unsafe fn set_local_events(&self, code: *mut PyObject, events: c_int) -> Option<Owned> {
        // SAFETY: with the GIL; the format is of a number, an object and a number.
        unsafe {
            Owned::or_clear(PyObject_CallMethod(
                monitoring()?,
                c"set_local_events".as_ptr(),
                c"iOi".as_ptr(),
                self.id,
                code,
                events,
            ))
        }
    }

    /// Nothing of ours is left in the interpreter. Where the program has taken the id from us meanwhile, there is nothing to give back.
    ///
    /// # Safety
    ///
    /// With the GIL, in the main interpreter.
    pub(crate) unsafe fn give_back(&self) {
        // SAFETY: the caller's promise; the formats are of numbers. None is the argument that takes a callback out.
        unsafe {
            let Some(monitoring) = monitoring() else {
                return;
            };
            let holder = Owned::or_clear(PyObject_CallMethod(
                monitoring,
                c"get_tool".as_ptr(),
                c"i".as_ptr(),
                self.id,
            ));
            let ours = holder
                .and_then(|holder| crate::python::text(holder.get()))
                .is_some_and(|holder| holder.as_bytes() == NAME.to_bytes());
            if !ours {
                return;
            }
            drop(self.set_events(0));
            if let Some(events) = Owned::attribute(monitoring, c"events") {
                for (name, _) in CALLBACKS {
                    if let Some(event) = Owned::attribute(events.get(), name) {
                        drop(self.register(PyLong_AsLong(event.get()) as c_int, none()));
                    }
                }
            }
            drop(Owned::or_clear(PyObject_CallMethod(
                monitoring,
                c"free_tool_id".as_ptr(),
                c"i".as_ptr(),
                self.id,
            )));
        }
    }
}

/// A code object that has events of its own; held weakly, so that it ends when the program has no use for it.
pub(crate) struct Watched(Owned);

impl Watched {
    /// `None` if it has ended.
    ///
    /// # Safety
    ///
    /// With the GIL.
    pub(crate) unsafe fn code(&self) -> Option<Owned> {
        // SAFETY: the caller's promise; a weak reference is called without arguments (the function that does the same from C is not in every version).
        unsafe { Owned::or_clear(PyObject_CallFunction(self.0.get(), ptr::null())) }
            .filter(|code| !code.is_none())
    }
}

fn none() -> *mut PyObject {
    &raw mut _Py_NoneStruct
}

/// What a callback returns. None is immortal from 3.12 on: no reference is counted.
#[inline(always)]
fn go_on() -> *mut PyObject {
    none()
}

/// `(code, instruction offset)`
unsafe extern "C" fn py_start(
    _: *mut PyObject,
    arguments: *const *mut PyObject,
    _: usize,
    _: *mut PyObject,
) -> *mut PyObject {
    let now = ticks();
    // SAFETY: the interpreter calls with these arguments, and with the GIL.
    unsafe {
        let code = *arguments;
        let Some(thread) = thread::current().or_else(|| tracer::meet_thread(Event::Start(code)))
        else {
            return go_on();
        };
        if tracer::enter(thread, code, now) {
            return go_on();
        }
        // This function is not asked for: it will not be heard of again.
        let disable = DISABLE.load(Relaxed);
        Py_IncRef(disable);
        disable
    }
}

/// `(code, instruction offset)`, and the exception of a throw
unsafe extern "C" fn py_resume(
    _: *mut PyObject,
    arguments: *const *mut PyObject,
    _: usize,
    _: *mut PyObject,
) -> *mut PyObject {
    let now = ticks();
    // SAFETY: the interpreter calls with these arguments, and with the GIL.
    unsafe {
        let code = *arguments;
        if let Some(thread) = thread::current().or_else(|| tracer::meet_thread(Event::Start(code)))
        {
            tracer::enter(thread, code, now);
        }
    }
    go_on()
}

/// `(code, instruction offset, value)`: returned, yielded, or the exception that leaves the function
unsafe extern "C" fn py_return(
    _: *mut PyObject,
    arguments: *const *mut PyObject,
    _: usize,
    _: *mut PyObject,
) -> *mut PyObject {
    let now = ticks();
    // SAFETY: the interpreter calls with these arguments, and with the GIL.
    unsafe {
        if let Some(thread) = thread::current().or_else(|| tracer::meet_thread(Event::Other)) {
            thread.tree.leave(*arguments as usize, now);
        }
    }
    go_on()
}

/// `(code, instruction offset, callable, first argument)`
unsafe extern "C" fn call(
    _: *mut PyObject,
    arguments: *const *mut PyObject,
    _: usize,
    _: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the interpreter calls with these arguments, and with the GIL.
    unsafe {
        if let Some(builtin) =
            Builtin::of_call(*arguments.add(2), *arguments.add(3), MISSING.load(Relaxed))
        {
            let now = ticks();
            if let Some(thread) = thread::current().or_else(|| tracer::meet_thread(Event::Other)) {
                tracer::enter_builtin(thread, builtin, now);
            }
        }
    }
    go_on()
}

/// `(code, instruction offset, callable, first argument)`: it returned, or raised an exception
unsafe extern "C" fn c_return(
    _: *mut PyObject,
    arguments: *const *mut PyObject,
    _: usize,
    _: *mut PyObject,
) -> *mut PyObject {
    let now = ticks();
    // SAFETY: the interpreter calls with these arguments, and with the GIL.
    unsafe {
        if let Some(builtin) =
            Builtin::of_call(*arguments.add(2), *arguments.add(3), MISSING.load(Relaxed))
            && let Some(thread) = thread::current().or_else(|| tracer::meet_thread(Event::Other))
        {
            thread.tree.leave(builtin.key(), now);
        }
    }
    go_on()
}
