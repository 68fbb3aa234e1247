//! The recording that is being made in this process: when it begins, which threads belong to it, and when it ends.
//!
//! All of it is used with the GIL only, so there is one user at a time, and no borrow is kept while Python may run.

mod forking;
mod functions;
mod running;

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use pystrobe_calls::{Function, FunctionId, Kind, Options, Recording, ThreadTree, ticks};

use self::forking::{after_fork, register_fork};
use self::functions::KnownBuiltin;
use self::running::{Asking, is_asking, seed_all};
use crate::cost::{self, CALLED, Loops, Times};
use crate::names;
use crate::python::{ExceptionAside, Py_GetVersion, PyEval_GetFrame, PyObject, text_attribute};
use crate::thread::{self, Thread, Threads};
use crate::{code_extra, monitoring, profile};

pub(crate) use self::functions::{IGNORED, enter, enter_builtin, function_of};
pub(crate) use self::running::discard_running;

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
    /// Code objects that have events of their own.
    watched: Vec<monitoring::Watched>,
    /// Trees of threads that were running when it began, by ident, until their first event.
    waiting: HashMap<u64, ThreadTree>,
    threads: Threads,
    events: Events,
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
    let (events, scratch, own) = match started {
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
        watched: Vec::new(),
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
            unsafe {
                detach();
                if let Some(own) = own {
                    profile::give_own(own);
                }
            }
            recording.refuse(&why);
            return Err(why);
        }
    };
    if let Some(own) = own {
        // SAFETY: the caller's promise.
        unsafe { profile::give_own(own) };
    }
    let tracer = get().ok_or("the recording is gone")?;
    begin_file(&recording);
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

/// Writes into a recording whose it is.
fn begin_file(recording: &Recording) {
    let command = fs::read("/proc/self/cmdline").unwrap_or_default();
    let words: Vec<_> = command
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    recording.begin(&version().0, std::process::id(), words.join(" ").trim_end());
}

/// Switches the events on, and finds out what they cost with a recording that is thrown away.
unsafe fn measure_cost() -> Result<cost::Costs, String> {
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

/// Where events will come from, a recording to be thrown away, and the profile function of this thread that is to be given back.
unsafe fn try_start(
    recording: &Recording,
) -> Result<(Events, Recording, Option<profile::Own>), String> {
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
        if pair >= (3, 12) {
            let tool = monitoring::Tool::take(options.builtins, !options.only.is_empty())?;
            Ok((Events::Monitoring(tool), scratch, None))
        } else {
            let own = profile::prepare()?;
            Ok((Events::Profile, scratch, own))
        }
    }
}

unsafe fn switch_on() -> Result<(), String> {
    let Some(tracer) = get() else { return Ok(()) };
    // SAFETY: the caller's promise.
    unsafe {
        match &tracer.events {
            Events::Monitoring(tool) => tool.clone().switch_on(),
            Events::Profile => {
                profile::switch_on();
                Ok(())
            }
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
            Events::Monitoring(tool) => {
                for watched in &tracer.watched {
                    tool.give_back_code(watched);
                }
                tool.give_back();
            }
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
        // With their list: whoever ends in it by coming to the next recording must not find there, at an address that is free again, the tree that another thread has got in that.
        let threads = std::mem::take(&mut self.threads);
        let mut threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if BUSY.load(Relaxed) == 0 {
                // SAFETY: it was in the list, so it lives; with the generation nobody finds it any more, and nobody has it in hand.
                drop(unsafe { Box::from_raw(thread.0) });
            }
        }
        drop(threads);
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
