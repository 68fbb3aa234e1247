//! Events by `PyEval_SetProfile`: 3.8 to 3.11, where each thread has its own function to call.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use pystrobe_calls::ticks;

use crate::chain;
use crate::names::Builtin;
use crate::python::{
    Owned, PyEval_GetFrame, PyEval_SetProfile, PyInterpreterState_Main,
    PyInterpreterState_ThreadHead, PyObject, PyObject_CallMethod, PyThreadState_Get,
    PyThreadState_Next, PyThreadState_Swap, TraceFunction, imported,
};
use crate::thread;
use crate::tracer::{self, Event, IGNORED};

/// `PyTrace_CALL` and so on, of `Include/cpython/pystate.h`.
mod what {
    use std::ffi::c_int;

    pub(super) const CALL: c_int = 0;
    pub(super) const RETURN: c_int = 3;
    pub(super) const C_CALL: c_int = 4;
    pub(super) const C_EXCEPTION: c_int = 5;
    pub(super) const C_RETURN: c_int = 6;
}

/// Where a thread state has its `c_profilefunc`, in words; see [`take_own`].
static PROFILE_WORD: AtomicUsize = AtomicUsize::new(0);
/// So many words behind it is its `c_profileobj`, with `c_tracefunc` in between.
const OBJECT_BEHIND: usize = 2;
/// How far into a thread state that is looked for. It is within the first 20 words of every version, and the structure is longer.
const SEARCHED_WORDS: usize = 20;

/// How to get from a frame object to its code object: the word to follow first, or 0 for none, and the word that is it.
static FRAME_WORD: AtomicUsize = AtomicUsize::new(0);
static CODE_WORD: AtomicUsize = AtomicUsize::new(0);

/// What starts a thread: `_thread.start_new_thread`.
static START_THREAD: AtomicUsize = AtomicUsize::new(0);

/// `_PyEval_SetProfile`, which sets it for another thread: 3.9 and later.
static SET_FOR: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The profile function that this thread had before us.
pub(crate) struct Own {
    function: TraceFunction,
    object: Option<Owned>,
}

/// Finds out what differs from version to version. To be called before anything else here. This thread has no profile function then: its own, if there is one, is to be
/// [given back](give_own), and hears nothing of us until then.
///
/// # Safety
///
/// With the GIL and no exception set, from a function that Python called.
pub(crate) unsafe fn prepare() -> Result<Option<Own>, String> {
    // SAFETY: the caller's promise. Frame objects of 3.8 to 3.10 have `f_code` as their fifth word; those of 3.11 have the frame as their fourth,
    // and that its code as its fifth (`Include/cpython/frameobject.h`, `Include/internal/pycore_frame.h`). Both are read only as far as they reach, and compared with what Python says.
    unsafe {
        let frame = PyEval_GetFrame();
        if frame.is_null() {
            return Err("there is no frame".to_owned());
        }
        let code = Owned::attribute(frame, c"f_code")
            .ok_or("a frame has no code")?
            .get() as usize;
        let words = frame.cast::<usize>();
        let (_, (_, minor)) = tracer::version();
        let found = if minor <= 10 {
            FRAME_WORD.store(0, Relaxed);
            *words.add(4) == code
        } else {
            FRAME_WORD.store(3, Relaxed);
            let inner = *words.add(3) as *const usize;
            !inner.is_null() && *inner.add(4) == code
        };
        CODE_WORD.store(4, Relaxed);
        if !found {
            return Err(
                "frames are laid out in another way than in this version of CPython".to_owned(),
            );
        }
        SET_FOR.store(crate::python::symbol(c"_PyEval_SetProfile"), Relaxed);
        if let Some(start) =
            imported(c"_thread").and_then(|module| Owned::attribute(module, c"start_new_thread"))
        {
            START_THREAD.store(Builtin::of_function(start.get()).key(), Relaxed);
        }
        take_own()
    }
}

/// Finds where a thread state has its profile function, and takes out the one of this thread. The object that belongs to that tells where it is; where there is none,
/// one of ours is put there to be found.
///
/// # Safety
///
/// As for [`prepare`].
unsafe fn take_own() -> Result<Option<Own>, String> {
    const UNKNOWN: &str =
        "thread states are laid out in another way than in this version of CPython";
    // SAFETY: the caller's promise; there are no arguments. The structure is longer than what is read. What lies in front of a profiler's object, where that is not
    // zero, is its function.
    unsafe {
        let object = imported(c"sys").and_then(|sys| {
            let method = c"getprofile".as_ptr();
            Owned::or_clear(PyObject_CallMethod(sys, method, ptr::null()))
        });
        let object = object.filter(|object| !object.is_none());
        let state = PyThreadState_Get().cast::<usize>();
        let words: [usize; SEARCHED_WORDS] = std::array::from_fn(|word| *state.add(word));
        let word = match &object {
            Some(object) => words
                .iter()
                .position(|&word| word == object.get() as usize)
                .and_then(|word| word.checked_sub(OBJECT_BEHIND))
                .filter(|&word| words[word] != 0),
            None => {
                PyEval_SetProfile(Some(on_event), ptr::null_mut());
                (0..SEARCHED_WORDS)
                    .find(|&word| *state.add(word) == on_event as TraceFunction as usize)
            }
        };
        if object.is_none() || word.is_some() {
            PyEval_SetProfile(None, ptr::null_mut());
        }
        let word = word.ok_or(UNKNOWN)?;
        PROFILE_WORD.store(word, Relaxed);
        Ok((words[word] != 0).then(|| Own {
            function: std::mem::transmute::<usize, TraceFunction>(words[word]),
            object,
        }))
    }
}

/// Gives this thread back its own profile function, behind ours where events are on and it can be passed on to.
///
/// # Safety
///
/// With the GIL.
pub(crate) unsafe fn give_own(own: Own) {
    // SAFETY: the caller's promise; the function and the object were this thread's.
    unsafe {
        let object = own.object.as_ref().map_or(ptr::null_mut(), Owned::get);
        PyEval_SetProfile(Some(own.function), object);
        if !object.is_null() && chain::is_on() && chain::keep(own.function as usize, object) {
            front();
        }
    }
}

/// The code object of a frame, borrowed.
///
/// # Safety
///
/// A frame object that lives and runs, after [`prepare`].
#[inline(always)]
unsafe fn code_of(frame: *mut PyObject) -> *mut PyObject {
    // SAFETY: `prepare` has proven the way.
    unsafe {
        let mut words = frame.cast::<usize>();
        let inner = FRAME_WORD.load(Relaxed);
        if inner != 0 {
            words = *words.add(inner) as *mut usize;
        }
        *words.add(CODE_WORD.load(Relaxed)) as *mut PyObject
    }
}

/// Events come from now on, from all threads of the main interpreter.
///
/// # Safety
///
/// With the GIL, in the main interpreter.
pub(crate) unsafe fn switch_on() {
    // SAFETY: the caller's promise.
    unsafe {
        PyEval_SetProfile(Some(on_event), ptr::null_mut());
        watch_threads();
        chain::switch_on();
    }
}

/// No events come from this thread until they are switched on again.
///
/// # Safety
///
/// With the GIL.
pub(crate) unsafe fn pause() {
    // SAFETY: the caller's promise.
    unsafe { PyEval_SetProfile(None, ptr::null_mut()) };
}

/// Sees to it that all threads of the main interpreter have ours: in front of their own, where there is one that it can be in front of.
///
/// # Safety
///
/// With the GIL, in the main interpreter.
unsafe fn watch_threads() {
    // SAFETY: the caller's promise.
    unsafe {
        each_thread(|state| match profile_of(state) {
            0 => Some(Some(on_event as TraceFunction)),
            theirs => {
                let word = state.cast::<usize>().add(PROFILE_WORD.load(Relaxed));
                let object = *word.add(OBJECT_BEHIND) as *mut PyObject;
                if theirs != on_event as TraceFunction as usize
                    && !object.is_null()
                    && chain::keep(theirs, object)
                {
                    *word = on_event as TraceFunction as usize;
                }
                None
            }
        });
    }
}

/// Puts ours in front of this thread's profile function, and gives what that was: 0 if it was none, or ours.
///
/// # Safety
///
/// With the GIL, and no exception set.
pub(crate) unsafe fn front() -> usize {
    // SAFETY: the caller's promise. With the object of theirs left where it is, and the interpreter knowing that there is a profile function.
    unsafe {
        let state = PyThreadState_Get();
        let set = profile_of(state);
        if set == 0 {
            PyEval_SetProfile(Some(on_event), ptr::null_mut());
            0
        } else if set == on_event as TraceFunction as usize {
            0
        } else {
            *state.cast::<usize>().add(PROFILE_WORD.load(Relaxed)) =
                on_event as TraceFunction as usize;
            set
        }
    }
}

/// Takes ours out of all threads, and leaves the program's where it has one.
///
/// # Safety
///
/// With the GIL, in the main interpreter.
pub(crate) unsafe fn switch_off() {
    // SAFETY: the caller's promise.
    unsafe {
        chain::switch_off();
        each_thread(|state| {
            if profile_of(state) != on_event as TraceFunction as usize {
                return None;
            }
            let word = state.cast::<usize>().add(PROFILE_WORD.load(Relaxed));
            let object = *word.add(OBJECT_BEHIND) as *mut PyObject;
            let theirs = if object.is_null() {
                0
            } else {
                chain::theirs(object)
            };
            if theirs == 0 {
                return Some(None);
            }
            *word = theirs;
            None
        });
    }
}

/// # Safety
///
/// A thread state that lives, with the GIL, after the word was found.
unsafe fn profile_of(state: *mut c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { *state.cast::<usize>().add(PROFILE_WORD.load(Relaxed)) }
}

/// Sets the profile function of each thread of the main interpreter to what is wanted, if anything is.
unsafe fn each_thread(wanted: impl Fn(*mut c_void) -> Option<Option<TraceFunction>>) {
    type SetFor = unsafe extern "C" fn(*mut c_void, Option<TraceFunction>, *mut PyObject) -> c_int;
    // SAFETY: with the GIL, so that no thread state comes or goes. `_PyEval_SetProfile` takes any thread state; 3.8 has only the function for the one that is current,
    // and with the GIL any may be made that for a moment.
    unsafe {
        let own = PyThreadState_Get();
        let set_for = SET_FOR.load(Relaxed);
        let mut state = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
        while !state.is_null() {
            if let Some(function) = wanted(state) {
                if state == own {
                    PyEval_SetProfile(function, ptr::null_mut());
                } else if set_for.is_null() {
                    PyThreadState_Swap(state);
                    PyEval_SetProfile(function, ptr::null_mut());
                    PyThreadState_Swap(own);
                } else {
                    let set_for: SetFor = std::mem::transmute(set_for);
                    set_for(state, function, ptr::null_mut());
                }
            }
            state = PyThreadState_Next(state);
        }
    }
}

/// The profile function: ours, and then the program's, if it has one.
unsafe extern "C" fn on_event(
    theirs: *mut PyObject,
    frame: *mut PyObject,
    event: c_int,
    argument: *mut PyObject,
) -> c_int {
    let now = ticks();
    // SAFETY: the interpreter calls with a frame that runs and, for C functions, with a `PyCFunction`; and with the GIL.
    unsafe {
        record(frame, event, argument, now);
        if theirs.is_null() {
            0
        } else {
            chain::pass_on(theirs, frame, event, argument)
        }
    }
}

/// # Safety
///
/// What the interpreter calls a profile function with; with the GIL.
#[inline(always)]
unsafe fn record(frame: *mut PyObject, event: c_int, argument: *mut PyObject, now: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let code = code_of(frame);
        let met = if event == what::CALL {
            Event::Start(code)
        } else {
            Event::Other
        };
        let Some(thread) = thread::current().or_else(|| tracer::meet_thread(met)) else {
            return;
        };
        match event {
            what::CALL => {
                tracer::enter(thread, code, now);
            }
            what::RETURN if tracer::only_some() && tracer::function_of(code) == IGNORED => {}
            what::RETURN => thread.tree.leave(code as usize, now),
            what::C_CALL | what::C_EXCEPTION | what::C_RETURN => {
                let builtin = Builtin::of_function(argument);
                if event == what::C_CALL {
                    chain::look_at(builtin);
                } else if event == what::C_RETURN && builtin.key() == START_THREAD.load(Relaxed) {
                    // The new thread waits for the GIL, and has a state already.
                    watch_threads();
                }
                if !tracer::builtins()
                    || tracer::only_some() && tracer::function_of(code) == IGNORED
                {
                    return;
                }
                if event == what::C_CALL {
                    tracer::enter_builtin(thread, builtin, now);
                } else {
                    thread.tree.leave(builtin.key(), now);
                }
            }
            _ => {}
        }
    }
}
