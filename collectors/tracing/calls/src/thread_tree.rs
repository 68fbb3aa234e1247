//! The tree of one thread while it grows: what happens at each call and at each return.
//!
//! The node that is current *is* the stack: its ancestors are the callers. Time is charged at each event to what was current until
//! then. A call finds its node in a cache of two (the child that was called last, and the one that was called after it the last time, which
//! is right for a straight line of code and for a loop), else in an index.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::format::{NodeRecord, ROOT, ThreadRecord};
use crate::index::Index;
use crate::recording::{FunctionId, Recording, put_text};

/// The tree of one thread. Only that thread, or who keeps it from running, uses it.
pub struct ThreadTree {
    /// Into the mapping of `recording`, kept beside it: two loads fewer a call.
    nodes: NonNull<NodeRecord>,
    thread: NonNull<ThreadRecord>,
    root: u32,
    ends_with_first: bool,
    index: Index,
    /// The number by which children of a node are told apart from none.
    capacity: u32,
    recording: Arc<Recording>,
}

// SAFETY: the pointers are into the mapping that `recording` keeps, which is of atomics and may be used from any thread.
unsafe impl Send for ThreadTree {}

impl fmt::Debug for ThreadTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadTree")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl ThreadTree {
    /// A new thread, known by the ids that the kernel and Python give it, in an interpreter.
    ///
    /// `None` when there is no room for more threads.
    #[must_use]
    pub fn new(
        recording: &Arc<Recording>,
        native_id: u64,
        ident: u64,
        interpreter: u64,
        now: u64,
    ) -> Option<ThreadTree> {
        let (_, thread) = recording.add_thread()?;
        let (root, node) = recording.add_node()?;
        node.function.store(ROOT, Release);
        thread.native_id.store(native_id, Relaxed);
        thread.ident.store(ident, Relaxed);
        thread.interpreter.store(interpreter, Relaxed);
        thread.current.store(root, Relaxed);
        thread.last_ticks.store(now, Relaxed);
        thread.root.store(root, Release);
        let nodes = recording.map.nodes();
        Some(ThreadTree {
            nodes: NonNull::from(nodes).cast(),
            thread: NonNull::from(thread),
            root,
            ends_with_first: false,
            index: Index::new(),
            capacity: nodes.len() as u32,
            recording: Arc::clone(recording),
        })
    }

    #[inline(always)]
    fn record(&self) -> &ThreadRecord {
        // SAFETY: it is in the mapping that `self.recording` keeps.
        unsafe { self.thread.as_ref() }
    }

    #[inline(always)]
    fn node(&self, number: u32) -> &NodeRecord {
        // The numbers come from memory that another process can write: a wrong one must not lead outside.
        let number = if number < self.capacity { number } else { 0 };
        // SAFETY: `capacity` nodes lie there, in the mapping that `self.recording` keeps, and number 0 is one of them.
        unsafe { self.nodes.add(number as usize).as_ref() }
    }

    /// Charges the time up to `now` to a node.
    #[inline(always)]
    fn charge(&self, node: &NodeRecord, now: u64) {
        let last = &self.record().last_ticks;
        add(&node.own_ticks, now.wrapping_sub(last.load(Relaxed)));
        last.store(now, Relaxed);
    }

    /// A function is called. `key` is what [`ThreadTree::leave`] will be told: the address of its code object.
    #[inline(always)]
    pub fn enter(&mut self, function: FunctionId, key: usize, now: u64) {
        let stored = function.0 + 1;
        if let Some(child) = self.cached(now, |node| node.function.load(Relaxed) == stored) {
            self.node(child).key.store(key, Relaxed);
        } else {
            self.enter_slowly(function, key);
        }
    }

    /// A function is called that `key` stands for, now and ever; `function` is asked only if that is not known here. None of its calls is recorded where `function` does not know it.
    #[inline(always)]
    pub fn enter_known(
        &mut self,
        key: usize,
        now: u64,
        function: impl FnOnce() -> Option<FunctionId>,
    ) {
        if self
            .cached(now, |node| node.key.load(Relaxed) == key)
            .is_none()
        {
            match function() {
                Some(function) => self.enter_slowly(function, key),
                None => self.fold(),
            }
        }
    }

    /// The current node's child that was called last, or the one after it, if it is the one: then it is called.
    #[inline(always)]
    fn cached(&self, now: u64, is_it: impl Fn(&NodeRecord) -> bool) -> Option<u32> {
        let record = self.record();
        let parent = self.node(record.current.load(Relaxed));
        self.charge(parent, now);
        let mut number = parent.last_child.load(Relaxed);
        let mut node = self.node(number);
        if !is_it(node) {
            number = node.successor.load(Relaxed);
            node = self.node(number);
            if !is_it(node) {
                return None;
            }
            parent.last_child.store(number, Relaxed);
        }
        // Above folded calls the current node is not the caller.
        if number == 0 || record.folded_depth.load(Relaxed) != 0 {
            return None;
        }
        add(&node.calls, 1);
        record.current.store(number, Relaxed);
        Some(number)
    }

    #[cold]
    #[inline(never)]
    fn enter_slowly(&mut self, function: FunctionId, key: usize) {
        if self.record().folded_depth.load(Relaxed) == 0
            && !self.is_closed()
            && let Some(number) = self.child(function)
        {
            let node = self.node(number);
            node.key.store(key, Relaxed);
            add(&node.calls, 1);
            self.record().current.store(number, Relaxed);
        } else {
            self.fold();
        }
    }

    /// What [`ThreadTree::end_with_first`] is about has come and gone.
    fn is_closed(&self) -> bool {
        self.ends_with_first
            && self.record().current.load(Relaxed) == self.root
            && self.node(self.root).last_child.load(Relaxed) != 0
    }

    /// The node of a function below the current one, found or made.
    fn child(&mut self, function: FunctionId) -> Option<u32> {
        let current = self.record().current.load(Relaxed);
        let stored = function.0 + 1;
        let number = match self.index.find(current, stored) {
            Some(number) => number,
            None => {
                let (number, node) = self.recording.add_node()?;
                node.parent.store(current, Relaxed);
                node.function.store(stored, Release);
                self.index.insert(current, stored, number);
                self.recording
                    .calibrate(self.record().last_ticks.load(Relaxed));
                number
            }
        };
        let parent = self.node(current);
        self.node(parent.last_child.load(Relaxed))
            .successor
            .store(number, Relaxed);
        self.node(0).successor.store(0, Relaxed);
        parent.last_child.store(number, Relaxed);
        Some(number)
    }

    /// A call without a node of its own.
    #[cold]
    #[inline(never)]
    pub fn fold(&mut self) {
        let record = self.record();
        let depth = record.folded_depth.load(Relaxed);
        record.folded_depth.store(depth.saturating_add(1), Relaxed);
        if !self.is_closed() {
            add(&self.node(record.current.load(Relaxed)).folded, 1);
            self.recording.fold();
        }
    }

    /// The function that was entered with `key` returns, yields, or is left by an exception. A return of what was never entered is none;
    /// where calls inside it have not returned, they have now.
    #[inline(always)]
    pub fn leave(&mut self, key: usize, now: u64) {
        let record = self.record();
        let node = self.node(record.current.load(Relaxed));
        self.charge(node, now);
        if node.key.load(Relaxed) == key && record.folded_depth.load(Relaxed) == 0 {
            record.current.store(node.parent.load(Relaxed), Relaxed);
        } else {
            self.leave_slowly(key);
        }
    }

    #[cold]
    #[inline(never)]
    fn leave_slowly(&mut self, key: usize) {
        let record = self.record();
        if let Some(less) = record.folded_depth.load(Relaxed).checked_sub(1) {
            record.folded_depth.store(less, Relaxed);
            return;
        }
        let mut number = record.current.load(Relaxed);
        while number != self.root {
            let node = self.node(number);
            let parent = node.parent.load(Relaxed);
            if node.key.load(Relaxed) == key {
                record.current.store(parent, Relaxed);
                return;
            }
            // Parents are in front of their children. Anything else is damage, and would not end.
            if parent >= number {
                return;
            }
            number = parent;
        }
    }

    /// A function that was running when the recording came to this thread: it is entered without a call.
    pub fn resume(&mut self, function: FunctionId, key: usize) {
        if self.record().folded_depth.load(Relaxed) == 0
            && let Some(number) = self.child(function)
        {
            self.node(number).key.store(key, Relaxed);
            self.record().current.store(number, Relaxed);
        } else {
            self.fold();
        }
    }

    /// No function runs: what was entered has been left, seen or not.
    pub fn leave_all(&mut self, now: u64) {
        let record = self.record();
        self.charge(self.node(record.current.load(Relaxed)), now);
        record.folded_depth.store(0, Relaxed);
        record.current.store(self.root, Relaxed);
    }

    /// Nothing runs in this tree.
    #[inline(always)]
    #[must_use]
    pub fn is_at_root(&self) -> bool {
        let record = self.record();
        record.current.load(Relaxed) == self.root && record.folded_depth.load(Relaxed) == 0
    }

    /// The kernel's thread id, where that was not known at first.
    pub fn set_native_id(&mut self, native_id: u64) {
        self.record().native_id.store(native_id, Relaxed);
    }

    /// The first function that is called at the root is all that is recorded: what comes after it has returned is not.
    pub fn end_with_first(&mut self) {
        self.ends_with_first = true;
    }

    /// The thread's name, which is cut where it is longer than 72 bytes.
    pub fn set_name(&mut self, name: &str) {
        put_text(&self.record().name, name);
    }

    /// No call will come any more.
    pub fn end(&mut self, now: u64) {
        self.charge(self.node(self.record().current.load(Relaxed)), now);
        self.record().ended.store(1, Release);
    }
}

/// Only one thread writes: no need for the bus to be locked.
#[inline(always)]
fn add(counter: &std::sync::atomic::AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}
