//! Which function an event is about: its number in the recording, known by what was called.

use std::sync::atomic::Ordering::Relaxed;

use pystrobe_calls::{Function, FunctionId, Place};

use super::{BUSY, Events, Tracer, get};
use crate::code_extra;
use crate::monitoring::Watched;
use crate::names::{self, Builtin};
use crate::python::{ExceptionAside, PyMethodDef, PyObject};
use crate::thread::{GENERATION, Thread};

/// What is remembered of a code object that is not asked for.
pub(crate) const IGNORED: u32 = u32::MAX;
/// What is remembered of a code object for whose name there was no room.
const NO_ROOM: u32 = u32::MAX - 1;
/// So many functions of one description are told apart.
const MOST_ALIKE: usize = 64;

/// A C function that was called before. What else its definition held then: it may be freed, and another put there.
#[derive(Clone, Copy)]
pub(super) struct KnownBuiltin {
    id: FunctionId,
    name: usize,
    method: usize,
}

impl Tracer {
    /// The function that a code object or a C function's definition at this address is. Those that are described alike are told apart, as cProfile does
    /// (`__init__` of two dataclasses, `__init_subclass__` of two classes in C): one that calls the other does not call itself.
    /// Only so many, because a program may compile the same function for ever.
    pub(super) fn intern(&mut self, address: usize, function: Function) -> Option<FunctionId> {
        let alike = self.functions.get(&function).map_or(&[][..], Vec::as_slice);
        let known = alike.iter().find(|(known, _)| *known == address);
        if let Some(&(_, id)) = known.or(alike.get(MOST_ALIKE - 1)) {
            return Some(id);
        }
        let id = self.recording.add_function(&function)?;
        self.functions
            .entry(function)
            .or_default()
            .push((address, id));
        Some(id)
    }

    /// Remembers a code object that has events of its own. Those that have ended are forgotten whenever there would be no room.
    ///
    /// # Safety
    ///
    /// With the GIL.
    unsafe fn keep_watched(&mut self, watched: Watched) {
        if self.watched.len() == self.watched.capacity() {
            // SAFETY: the caller's promise. A code object that has ended runs no Python: only the weak reference to it is left.
            self.watched
                .retain(|watched| unsafe { watched.code() }.is_some());
        }
        self.watched.push(watched);
    }

    /// Whether a function was asked for.
    pub(super) fn asked_for(&self, function: &Function, module: &str) -> bool {
        let (name, qualified) = if function.qualified_name.is_empty() {
            (&function.name, false)
        } else {
            (&function.qualified_name, true)
        };
        let place = Place {
            file: &function.file,
            module,
            function: name,
            qualified,
        };
        self.options.only.is_empty()
            || self
                .options
                .only
                .iter()
                .any(|pattern| pattern.matches(&place))
    }
}

/// The number of a code object's function, or [`IGNORED`] if it is not asked for.
///
/// # Safety
///
/// A code object whose frame runs, with the GIL, while a recording is made.
#[inline(always)]
pub(crate) unsafe fn function_of(code: *mut PyObject) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let known = code_extra::get(code);
        if (known >> 32) as u32 == GENERATION.load(Relaxed) {
            known as u32
        } else {
            meet_code(code)
        }
    }
}

/// A code object is seen for the first time.
#[cold]
#[inline(never)]
unsafe fn meet_code(code: *mut PyObject) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let _aside = ExceptionAside::new();
        let function = names::of_code(code);
        let module = names::running_module();
        let Some(tracer) = get() else { return IGNORED };
        let asked = tracer.asked_for(&function, &module);
        let number = if asked {
            tracer
                .intern(code as usize, function)
                .map_or(NO_ROOM, FunctionId::number)
        } else {
            IGNORED
        };
        code_extra::set(code, u64::from(tracer.generation) << 32 | u64::from(number));
        if asked && let Events::Monitoring(tool) = &tracer.events {
            let watched = tool.clone().watch(code);
            if let (Some(tracer), Some(watched)) = (get(), watched) {
                tracer.keep_watched(watched);
            }
        }
        number
    }
}

/// A Python function is called. Returns whether it is asked for.
///
/// # Safety
///
/// A code object whose frame runs, with the GIL, while a recording is made.
#[inline(always)]
pub(crate) unsafe fn enter(thread: &mut Thread, code: *mut PyObject, now: u64) -> bool {
    // SAFETY: the caller's promise.
    let number = unsafe { function_of(code) };
    if number < NO_ROOM {
        thread
            .tree
            .enter(FunctionId::from_number(number), code as usize, now);
    } else if number == NO_ROOM {
        thread.tree.fold();
    } else {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe { thread.name_if_unknown() };
    true
}

/// A C function is called.
///
/// # Safety
///
/// Its callable lives, with the GIL, while a recording is made.
#[inline(always)]
pub(crate) unsafe fn enter_builtin(thread: &mut Thread, builtin: Builtin, now: u64) {
    // SAFETY: the caller's promise.
    thread
        .tree
        .enter_known(builtin.key(), now, || unsafe { meet_builtin(builtin) });
}

#[cold]
#[inline(never)]
unsafe fn meet_builtin(builtin: Builtin) -> Option<FunctionId> {
    // SAFETY: a callable's definition lives as long as it does.
    let definition: &PyMethodDef = unsafe { &*builtin.definition };
    let (name, method) = (definition.name as usize, definition.method as usize);
    if let Some(known) = get()?.builtins.get(&builtin.key())
        && (known.name, known.method) == (name, method)
    {
        return Some(known.id);
    }
    // SAFETY: the caller's promise. It may run Python, so nothing is borrowed.
    let function = unsafe {
        let _aside = ExceptionAside::new();
        BUSY.fetch_add(1, Relaxed);
        let function = builtin.describe();
        BUSY.fetch_sub(1, Relaxed);
        function
    };
    let tracer = get()?;
    let id = tracer.intern(builtin.key(), function)?;
    tracer
        .builtins
        .insert(builtin.key(), KnownBuiltin { id, name, method });
    Some(id)
}
