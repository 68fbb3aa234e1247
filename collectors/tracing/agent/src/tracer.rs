//! The recording that is being made in this process: when it begins, what belongs to it, what becomes of it in a fork, and when it ends.
//!
//! All of it is used with the GIL only, so there is one user at a time, and no borrow is kept while Python may run.

use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use pystrobe_calls::{Function, FunctionId, Kind, Options, Place, Recording, ThreadTree, ticks};

use crate::cost::{self, CALLED, Loops, Times};
use crate::names::{self, Builtin};
use crate::python::{
    ExceptionAside, Owned, Py_AddPendingCall, Py_GetVersion, PyDict_Next, PyEval_GetFrame,
    PyLong_AsUnsignedLongMask, PyMethodDef, PyObject, PyObject_CallMethod, imported,
    pthread_atfork, text_attribute,
};
use crate::thread::{self, FORKS, GENERATION, Thread, Threads};
use crate::{code_extra, monitoring, profile};

/// What is remembered of a code object that is not asked for.
pub(crate) const IGNORED: u32 = u32::MAX;
/// What is remembered of a code object for whose name there was no room.
const NO_ROOM: u32 = u32::MAX - 1;
/// So many functions of one description are told apart.
const MOST_ALIKE: usize = 64;

static TRACER: AtomicPtr<Tracer> = AtomicPtr::new(ptr::null_mut());
/// The last generation that was given to a recording.
static LAST_GENERATION: AtomicU32 = AtomicU32::new(0);
/// This is a child of the process that was recorded, and nothing has happened in it yet.
static FORKED: AtomicBool = AtomicBool::new(false);
/// Not all functions are asked for.
static ONLY_SOME: AtomicBool = AtomicBool::new(false);
/// C functions are.
static BUILTINS: AtomicBool = AtomicBool::new(false);
/// How many threads may be waiting for the GIL within a callback, with their tree in hand.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Not all functions are asked for: a code object may be [`IGNORED`].
#[inline(always)]
pub(crate) fn only_some() -> bool {
    ONLY_SOME.load(Relaxed)
}

/// C functions are asked for.
#[inline(always)]
pub(crate) fn builtins() -> bool {
    BUILTINS.load(Relaxed)
}

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It will begin with the program.
    Waiting,
    /// Calls are counted.
    Recording,
    /// The process is a fork that is not recorded.
    Over,
}

struct Tracer {
    recording: Arc<Recording>,
    options: Options,
    /// Where children put their recordings.
    directory: PathBuf,
    generation: u32,
    phase: Phase,
    /// The recording began with the program and ends with it; else it has begun in its midst.
    launched: bool,
    /// The frames of who asked for it, if it has begun in the midst.
    skip: usize,
    /// Who asked for it, and is not done yet.
    asking: Option<Asking>,
    /// By what they are described as; with the addresses of those that are described so.
    functions: HashMap<Function, Vec<(usize, FunctionId)>>,
    builtins: HashMap<usize, KnownBuiltin>,
    /// Trees of threads that were running when it began, by ident, until their first event.
    waiting: HashMap<u64, ThreadTree>,
    threads: Threads,
    events: Events,
}

/// The outermost frame of who asked for a recording in the midst of a program. What it calls before it returns is not the program's.
struct Asking {
    /// Of its thread.
    ident: u64,
    /// How many frames are below it.
    below: usize,
    code: Owned,
}

/// A C function that was called before. What else its definition held then: it may be freed, and another put there.
#[derive(Clone, Copy)]
struct KnownBuiltin {
    id: FunctionId,
    name: usize,
    method: usize,
}

/// Where events come from.
enum Events {
    /// `sys.monitoring`: 3.12 and later.
    Monitoring(monitoring::Tool),
    /// `PyEval_SetProfile`: 3.8 to 3.11.
    Profile,
}

/// What begins with an event.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A call of this code object; its frame is on the stack.
    Start(*mut PyObject),
    /// Anything else.
    Other,
}

/// The interpreter's version.
pub(crate) fn version() -> (String, (u32, u32)) {
    // SAFETY: a static string.
    let text = unsafe { CStr::from_ptr(Py_GetVersion()) }.to_string_lossy();
    let number = text.split_whitespace().next().unwrap_or("").to_owned();
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    let pair = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (number, pair)
}

/// Begins a recording with the program that this interpreter is about to run.
///
/// # Safety
///
/// With the GIL, in the main interpreter.
pub(crate) unsafe fn launch(recording: Recording, directory: &Path) -> Result<(), String> {
    // SAFETY: the caller's promise.
    unsafe { start(recording, directory, None) }
}

/// Begins a recording now. Frames that are running are the roots, but for the topmost `skip` ones of this thread, which are what asked for it.
///
/// # Safety
///
/// With the GIL, in the main interpreter.
pub(crate) unsafe fn attach(
    recording: Recording,
    directory: &Path,
    skip: usize,
) -> Result<(), String> {
    // SAFETY: the caller's promise.
    unsafe { start(recording, directory, Some(skip)) }
}

unsafe fn start(
    recording: Recording,
    directory: &Path,
    running: Option<usize>,
) -> Result<(), String> {
    // SAFETY: the caller's promise.
    let started = unsafe { try_start(&recording) };
    let (events, scratch) = match started {
        Ok(started) => started,
        Err(why) => {
            recording.refuse(&why);
            return Err(why);
        }
    };
    let tracer = Box::new(Tracer {
        options: Options {
            only: Vec::new(),
            ..recording.options()
        },
        directory: directory.to_owned(),
        generation: new_generation(),
        phase: Phase::Waiting,
        launched: false,
        skip: running.unwrap_or(0),
        asking: None,
        functions: HashMap::new(),
        builtins: HashMap::new(),
        waiting: HashMap::new(),
        threads: Threads::default(),
        events,
        recording: Arc::new(scratch),
    });
    TRACER.store(Box::into_raw(tracer), Relaxed);
    register_fork();
    // SAFETY: the caller's promise.
    let cost = unsafe {
        let _aside = ExceptionAside::new();
        measure_cost()
    };
    let cost = match cost {
        Ok(cost) => cost,
        Err(why) => {
            // SAFETY: the caller's promise.
            unsafe { detach() };
            recording.refuse(&why);
            return Err(why);
        }
    };
    let tracer = get().ok_or("the recording is gone")?;
    recording.begin(&version().0, std::process::id());
    recording.set_cost(cost[0], cost[1]);
    tracer.options = recording.options();
    tracer.forget(Arc::new(recording));
    tracer.launched = running.is_none();
    if let Some(skip) = running {
        // SAFETY: the caller's promise.
        unsafe { seed_all(skip) };
        get().ok_or("the recording is gone")?.begin();
    }
    Ok(())
}

/// Switches the events on, and finds out what they cost with a recording that is thrown away.
unsafe fn measure_cost() -> Result<[(u64, u64); 2], String> {
    const FAILED: &str = "the cost of an event cannot be measured";
    // SAFETY: the caller's promise.
    unsafe {
        let loops = Loops::new().ok_or(FAILED)?;
        let mut costs = Vec::new();
        for turn in 0..cost::TURNS {
            if turn > 0 {
                pause();
            }
            let (mut without, mut with) = (Times::NEVER, Times::NEVER);
            let mut own = (u64::MAX, u64::MAX);
            loops.time(&mut without).ok_or(FAILED)?;
            switch_on()?;
            get().ok_or(FAILED)?.begin();
            loops.time(&mut with).ok_or(FAILED)?;
            let measured = loops.own(&mut own, || {
                let Some(tracer) = get() else { return (0, 0) };
                let own = |kind| {
                    let of_kind = tracer.functions.iter().filter(|(function, _)| {
                        function.kind == kind && (kind == Kind::Builtin || function.name == CALLED)
                    });
                    let ids = of_kind.flat_map(|(_, alike)| alike.iter().map(|&(_, id)| id));
                    ids.map(|id| tracer.recording.own_ticks(id)).sum()
                };
                (own(Kind::Python), own(Kind::Builtin))
            });
            measured.ok_or(FAILED)?;
            costs.push(cost::of(without, with, own));
        }
        thread::set_generation(0);
        Ok(cost::median(&costs))
    }
}

/// Where events will come from, and a recording to be thrown away.
unsafe fn try_start(recording: &Recording) -> Result<(Events, Recording), String> {
    if !TRACER.load(Relaxed).is_null() {
        return Err("the process is being traced already".to_owned());
    }
    let (number, pair) = version();
    if !((3, 8)..=(3, 15)).contains(&pair) {
        return Err(format!("CPython {number} is not one of 3.8 to 3.15"));
    }
    let scratch = Recording::scratch().map_err(|error| error.to_string())?;
    names::prepare();
    // SAFETY: the caller's promise.
    unsafe {
        if !code_extra::prepare(PyEval_GetFrame()) {
            return Err("the interpreter lets nobody remember anything of code objects".to_owned());
        }
        let options = recording.options();
        ONLY_SOME.store(!options.only.is_empty(), Relaxed);
        BUILTINS.store(options.builtins, Relaxed);
        let events = if pair >= (3, 12) {
            Events::Monitoring(monitoring::Tool::take(
                options.builtins,
                !options.only.is_empty(),
            )?)
        } else {
            profile::prepare()?;
            Events::Profile
        };
        Ok((events, scratch))
    }
}

unsafe fn switch_on() -> Result<(), String> {
    let Some(tracer) = get() else { return Ok(()) };
    // SAFETY: the caller's promise.
    unsafe {
        match &tracer.events {
            Events::Monitoring(tool) => tool.clone().switch_on(),
            Events::Profile => profile::switch_on(),
        }
    }
}

/// No events come from this thread, until they are switched on again.
unsafe fn pause() {
    let Some(tracer) = get() else { return };
    // SAFETY: the caller's promise, as for `switch_on`.
    unsafe {
        match &tracer.events {
            Events::Monitoring(tool) => tool.clone().pause(),
            Events::Profile => profile::pause(),
        }
    }
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
    let codes = unsafe {
        let _aside = ExceptionAside::new();
        codes_of(PyEval_GetFrame(), 0)
    };
    if let Some(outermost) = codes
        .len()
        .checked_sub(skip)
        .and_then(|first| codes.get(first))
        && let Some(thread) = thread::current()
    {
        thread.tree.discard(outermost.get() as usize);
    }
}

/// Takes all out of the process again, and ends the recording.
///
/// # Safety
///
/// With the GIL, in the main interpreter.
pub(crate) unsafe fn detach() {
    let tracer = TRACER.swap(ptr::null_mut(), Relaxed);
    if tracer.is_null() {
        return;
    }
    thread::set_generation(0);
    // SAFETY: it came from a box, and nobody finds it any more.
    let tracer = unsafe { Box::from_raw(tracer) };
    // SAFETY: the caller's promise.
    unsafe {
        match &tracer.events {
            Events::Monitoring(tool) => tool.give_back(),
            Events::Profile => profile::switch_off(),
        }
    }
    let mut threads = tracer
        .threads
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for thread in threads.drain(..) {
        // SAFETY: it was in the list, so it lives; its own thread is not at work in it, or `BUSY` says so.
        unsafe {
            (*thread.0).look_for_name();
            if BUSY.load(Relaxed) == 0 {
                drop(Box::from_raw(thread.0));
            }
        }
    }
    drop(threads);
    if tracer.phase != Phase::Over {
        tracer.recording.end();
    }
}

/// The process ends in order: the recording does.
pub(crate) extern "C" fn at_exit() {
    if let Some(tracer) = get()
        && tracer.phase == Phase::Recording
        && !FORKED.load(Relaxed)
    {
        thread::set_generation(0);
        tracer.phase = Phase::Over;
        tracer.recording.end();
    }
}

fn new_generation() -> u32 {
    // One for the next 4 billion recordings; 0 and the last one mean nothing.
    LAST_GENERATION.fetch_add(1, Relaxed) % (u32::MAX - 2) + 1
}

/// The recording of this process. The borrow must end before Python can run.
fn get() -> Option<&'static mut Tracer> {
    // SAFETY: it is a box until `detach`, and used with the GIL only, one borrow at a time.
    unsafe { TRACER.load(Relaxed).as_mut() }
}

impl Tracer {
    fn begin(&mut self) {
        self.phase = Phase::Recording;
        self.recording.restart();
        thread::set_generation(self.generation);
    }

    /// Turns to another recording. What threads have of the one so far is gone.
    fn forget(&mut self, recording: Arc<Recording>) {
        for thread in self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            // SAFETY: it was in the list, so it lives; with the generation nobody finds it any more.
            drop(unsafe { Box::from_raw(thread.0) });
        }
        self.recording = recording;
        self.functions.clear();
        self.builtins.clear();
        self.generation = new_generation();
        self.phase = Phase::Waiting;
    }

    /// The tree of this thread, from now on.
    fn adopt_thread(&mut self) -> Option<&'static mut Thread> {
        let tree = match self.waiting.remove(&thread::ident()) {
            Some(mut tree) => {
                tree.set_native_id(thread::native_id());
                tree
            }
            None => {
                let mut tree = ThreadTree::new(
                    &self.recording,
                    thread::native_id(),
                    thread::ident(),
                    0,
                    ticks(),
                )?;
                if self.launched
                    && self.options.only.is_empty()
                    && thread::native_id() == u64::from(std::process::id())
                {
                    tree.end_with_first();
                }
                tree
            }
        };
        let thread = thread::adopt(&self.threads, tree, self.generation)?;
        // SAFETY: just made, for this thread; see `thread::current`.
        Some(unsafe { &mut *thread })
    }

    /// The function that a code object or a C function's definition at this address is. Those that are described alike are told apart, as cProfile does
    /// (`__init__` of two dataclasses, `__init_subclass__` of two classes in C): one that calls the other does not call itself.
    /// Only so many, because a program may compile the same function for ever.
    fn intern(&mut self, address: usize, function: Function) -> Option<FunctionId> {
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

    /// Whether a function was asked for.
    fn asked_for(&self, function: &Function, module: &str) -> bool {
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

/// An event came in a thread that has no tree: is there a recording that it belongs to?
///
/// # Safety
///
/// With the GIL, from a callback.
#[cold]
#[inline(never)]
pub(crate) unsafe fn meet_thread(event: Event) -> Option<&'static mut Thread> {
    get()?;
    if FORKED.load(Relaxed) {
        FORKED.store(false, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { after_fork(event) };
    }
    match get()?.phase {
        Phase::Over => None,
        // SAFETY: the caller's promise.
        Phase::Recording if unsafe { is_asking() } => None,
        Phase::Recording => get()?.adopt_thread(),
        Phase::Waiting => {
            let Event::Start(code) = event else {
                return None;
            };
            // SAFETY: the caller's promise.
            let is_program = unsafe {
                let _aside = ExceptionAside::new();
                names::running_module() == "__main__"
                    && text_attribute(code, c"co_name").as_deref() == Some("<module>")
            };
            if !is_program {
                return None;
            }
            let tracer = get()?;
            tracer.begin();
            tracer.adopt_thread()
        }
    }
}

/// Whether this thread still executes what asked for the recording.
unsafe fn is_asking() -> bool {
    let Some(asking) = get().and_then(|tracer| tracer.asking.as_ref()) else {
        return false;
    };
    let (ident, below, code) = (asking.ident, asking.below, asking.code.get());
    if ident != thread::ident() {
        return false;
    }
    // SAFETY: the caller's promise.
    let codes = unsafe {
        let _aside = ExceptionAside::new();
        codes_of(PyEval_GetFrame(), 0)
    };
    let asks = codes.get(below).is_some_and(|other| other.get() == code);
    if !asks && let Some(tracer) = get() {
        tracer.asking = None;
    }
    asks
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
            tool.clone().watch(code);
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

/// Gives each thread that runs a tree with its frames as roots.
unsafe fn seed_all(skip: usize) {
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
            let mut codes = codes_of(frame, 0);
            let below = codes.len().saturating_sub(skip);
            let asking = codes.drain(below..).next();
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
            seed(ident, native_id, name.as_deref(), codes);
        }
    }
}

/// The code objects of a frame and those below it, the outermost first.
unsafe fn codes_of(frame: *mut PyObject, skip: usize) -> Vec<Owned> {
    let mut codes = Vec::new();
    // SAFETY: the caller's promise: a frame that lives, with the GIL.
    unsafe {
        let mut next = Owned::or_none(frame);
        let mut seen = 0;
        while let Some(frame) = next {
            if seen >= skip
                && let Some(code) = Owned::attribute(frame.get(), c"f_code")
            {
                codes.push(code);
            }
            seen += 1;
            next = Owned::attribute(frame.get(), c"f_back").filter(|frame| !frame.is_none());
        }
    }
    codes.reverse();
    codes
}

unsafe fn seed(ident: u64, native_id: u64, name: Option<&str>, codes: Vec<Owned>) {
    let Some(tracer) = get() else { return };
    let Some(mut tree) = ThreadTree::new(&tracer.recording, native_id, ident, 0, ticks()) else {
        return;
    };
    if let Some(name) = name {
        tree.set_name(name);
    }
    for code in &codes {
        // SAFETY: the caller's promise.
        let function = unsafe { names::of_code(code.get()) };
        // Whose module it is cannot be asked of a code object alone; its frame could tell, and does not have to: where only some functions are asked for, those that
        // run already are named by their file and name.
        if !tracer.asked_for(&function, "") {
            continue;
        }
        if let Some(id) = tracer.intern(code.get() as usize, function) {
            tree.resume(id, code.get() as usize);
        }
    }
    tracer.waiting.insert(ident, tree);
}

/// Once in a process: what happens when it forks.
fn register_fork() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Relaxed) {
        // SAFETY: the function stays: extension modules are never unloaded.
        unsafe { pthread_atfork(None, None, Some(in_child)) };
    }
}

/// In the child, right after the fork: from now on no thread has a tree.
extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
    thread::set_generation(0);
    FORKED.store(true, Relaxed);
}

/// The first event in a child: it records into a file of its own, or not at all.
unsafe fn after_fork(event: Event) {
    let Some(tracer) = get() else { return };
    // What belongs to the parent is neither used nor dropped: its list may be locked by a thread that is not here, and its trees are the parent's to write.
    std::mem::forget(std::mem::take(&mut tracer.threads));
    std::mem::forget(std::mem::take(&mut tracer.waiting));
    let own = if tracer.options.subprocesses && tracer.phase != Phase::Over {
        let path = tracer
            .directory
            .join(format!("{}.calls", std::process::id()));
        tracer.recording.open_for_child(&path).ok()
    } else {
        None
    };
    let Some(own) = own else {
        tracer.phase = Phase::Over;
        // Not from within a callback: what it takes out is being called.
        // SAFETY: the function has no preconditions but the GIL, which pending calls have.
        unsafe { Py_AddPendingCall(take_out, ptr::null_mut()) };
        return;
    };
    own.begin(&version().0, std::process::id());
    let was_recording = tracer.phase == Phase::Recording;
    tracer.recording = Arc::new(own);
    tracer.functions.clear();
    tracer.builtins.clear();
    tracer.generation = new_generation();
    tracer.phase = Phase::Waiting;
    if !was_recording {
        return;
    }
    tracer.launched = false;
    // SAFETY: with the GIL, from a callback. The function that begins is on the stack already, and will be entered.
    unsafe {
        let _aside = ExceptionAside::new();
        let codes = codes_of(
            PyEval_GetFrame(),
            usize::from(matches!(event, Event::Start(_))),
        );
        seed(thread::ident(), thread::native_id(), None, codes);
    }
    if let Some(tracer) = get() {
        tracer.begin();
    }
}

unsafe extern "C" fn take_out(_: *mut c_void) -> c_int {
    // SAFETY: a pending call has the GIL, and runs in the main interpreter.
    unsafe { detach() };
    0
}
