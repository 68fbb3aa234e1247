//! What earlier samples taught about frames: who called them.
//!
//! A generator that yields forgets who resumed it, a frame object that returns may forget who called it, and
//! the shim that leads from a function to the C code that called it may be gone before it is read. All
//! of that happens within the microsecond of a sample to those frames that run shortest. To read again would
//! drop just these moments, so the last known answer is taken where what was read now confirms it.

use rustc_hash::FxHashMap;

use crate::walk::RawFrame;

/// More frames than this are not remembered.
const LIMIT: usize = 1 << 16;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By the address of a frame: its code, and the frame before it.
    callers: FxHashMap<u64, (u64, u64)>,
    /// By the address where it ends, the newest frame on the data stack of a stack.
    ends: FxHashMap<u64, u64>,
    /// By thread, the lowest and the highest address of a shim.
    shims: FxHashMap<u32, (u64, u64)>,
}

impl Known {
    /// The frame before `frame` when it was last seen executing this code.
    pub(crate) fn caller(&self, frame: u64, code: u64) -> Option<u64> {
        let &(known, caller) = self.callers.get(&frame)?;
        (known == code).then_some(caller)
    }

    /// The frames below one, as far as they were remembered.
    pub(crate) fn below(&self, frame: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(frame), |frame| {
            self.callers.get(frame).map(|&(_, caller)| caller)
        })
        .skip(1)
    }

    /// Whether an address lies between two shims of the thread, and so on its C stack.
    pub(crate) fn may_be_shim(&self, thread: u32, address: u64) -> bool {
        self.shims
            .get(&thread)
            .is_some_and(|&(low, high)| (low..=high).contains(&address))
    }

    pub(crate) fn met_shim(&mut self, thread: u32, address: u64) {
        let (low, high) = self.shims.entry(thread).or_insert((address, address));
        (*low, *high) = ((*low).min(address), (*high).max(address));
    }

    /// A frame that ended here when it was last seen.
    pub(crate) fn ending_at(&self, end: u64) -> Option<u64> {
        self.ends.get(&end).copied()
    }

    /// Remembers a stack that was found whole, with the address and the size of its newest frame on the data stack.
    pub(crate) fn learn(&mut self, frames: &[RawFrame], newest: Option<(u64, u64)>) {
        if self.ends.len() > LIMIT {
            self.ends.clear();
        }
        if let Some((address, size)) = newest {
            self.ends.insert(address.saturating_add(size), address);
        }
        if self.callers.len() > LIMIT {
            self.callers.clear();
        }
        for pair in frames.windows(2) {
            if pair[0].learnable {
                self.callers
                    .insert(pair[0].address, (pair[0].code, pair[1].address));
            }
        }
    }
}
