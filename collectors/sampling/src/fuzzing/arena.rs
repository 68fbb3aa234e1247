//! A little memory whose words point to each other, and what happens to it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::memory::{ReadError, Region, RemoteMemory};

/// Where it starts. It ends before 64 KiB, so that most numbers of two bytes point into it.
pub(super) const START: u64 = 0x1000;
const LENGTH: u64 = 0xf000;
const PAGE: u64 = 0x1000;

/// Something that happens to the memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// 1, 4 or 8 bytes are overwritten.
    Bytes {
        address: u64,
        value: u64,
        width: usize,
    },
    /// A page is unmapped, or mapped again.
    Page { page: u64 },
    /// Nothing happens before the next sample.
    Rest,
}

/// See the module's documentation. Nothing else is mapped.
#[derive(Debug)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    mapped: [bool; (LENGTH / PAGE) as usize],
    end: u64,
    /// Addresses of all fields that were put, and of all blocks.
    pub(super) fields: Vec<u64>,
    pub(super) blocks: Vec<u64>,
    pub(super) changes: VecDeque<Change>,
    /// Whether changes happen while it is read, one before each region.
    pub(super) runs: bool,
    /// How often it was read, and how many bytes.
    pub(super) calls: u64,
    pub(super) copied: u64,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; LENGTH as usize],
            mapped: [true; (LENGTH / PAGE) as usize],
            end: START,
            fields: Vec::new(),
            blocks: Vec::new(),
            changes: VecDeque::new(),
            runs: false,
            calls: 0,
            copied: 0,
        }
    }

    /// Fills it with words of which most point back into it: lists become rings, frames overlap, code
    /// objects are their own names.
    pub(super) fn scramble(&mut self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        for word in self.bytes.chunks_exact_mut(8) {
            let value = match random.u8(0..9) {
                0..6 => START + 8 * random.u64(0..LENGTH / 8),
                6..8 => random.u64(0..32),
                _ => random.u64(..),
            };
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// A new block.
    pub(super) fn allocate(&mut self, size: u64) -> u64 {
        let block = self.end;
        self.end += size.next_multiple_of(64);
        assert!(self.end <= START + LENGTH, "the arena is full");
        self.blocks.push(block);
        block
    }

    pub(super) fn put(&mut self, address: u64, value: &[u8]) {
        if let Some(start) = offset(address, value.len()) {
            self.bytes[start..start + value.len()].copy_from_slice(value);
        }
    }

    /// Puts a field of 8 bytes.
    pub(super) fn put_u64(&mut self, address: u64, value: u64) {
        self.fields.push(address);
        self.put(address, &value.to_le_bytes());
    }

    /// Puts a field of 4 bytes.
    pub(super) fn put_u32(&mut self, address: u64, value: u32) {
        self.fields.push(address);
        self.put(address, &value.to_le_bytes());
    }

    /// Lets everything happen that happens before the next rest.
    pub(super) fn settle(&mut self) {
        while let Some(change) = self.changes.pop_front() {
            if matches!(change, Change::Rest) {
                return;
            }
            self.apply(change);
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Bytes {
                address,
                value,
                width,
            } => self.put(address, &value.to_le_bytes()[..width.min(8)]),
            Change::Page { page } => {
                let page = (page % (LENGTH / PAGE)) as usize;
                self.mapped[page] = !self.mapped[page];
            }
            Change::Rest => {}
        }
    }

    fn get(&self, region: Region) -> Option<&[u8]> {
        let start = offset(region.address, region.length)?;
        let end = start + region.length;
        let page = PAGE as usize;
        let mut pages = start / page..=end.saturating_sub(1).max(start) / page;
        pages
            .all(|page| self.mapped.get(page) == Some(&true))
            .then(|| &self.bytes[start..end])
    }
}

/// Where bytes lie in the arena, if they do.
fn offset(address: u64, length: usize) -> Option<usize> {
    let start = address.checked_sub(START)?;
    let end = start.checked_add(length as u64)?;
    (end <= LENGTH).then_some(start as usize)
}

/// An arena that somebody else changes.
#[derive(Debug, Clone)]
pub(super) struct Shared(pub(super) Rc<RefCell<Arena>>);

impl RemoteMemory for Shared {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        let mut arena = self.0.borrow_mut();
        arena.calls += 1;
        let mut filled = 0;
        for (done, region) in regions.iter().enumerate() {
            if arena.runs
                && let Some(change) = arena.changes.pop_front()
            {
                arena.apply(change);
            }
            let Some(bytes) = arena.get(*region) else {
                return Ok(done);
            };
            into[filled..filled + region.length].copy_from_slice(bytes);
            filled += region.length;
            arena.copied += region.length as u64;
        }
        Ok(regions.len())
    }
}
