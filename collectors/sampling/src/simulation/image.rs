//! The bytes of the simulated process: one arena of pages, of which each is mapped or not.

use crate::memory::Region;

/// Where the arena starts.
const START: u64 = 0x5555_0000_0000;
/// Its length: the heap at the front, then the chunks of the data stack, then the C stack.
const LENGTH: u64 = 1 << 22;
const PAGE: u64 = 4096;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Image {
    bytes: Vec<u8>,
    mapped: Vec<bool>,
    heap: u64,
    chunks: u64,
    /// Blocks of the heap that were freed, by size; what was freed last is given out first, as `pymalloc` does.
    free: Vec<(u64, Vec<u64>)>,
    /// Chunks that were unmapped: the kernel maps the next one at the same place.
    free_chunks: Vec<(u64, u64)>,
}

impl Image {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; LENGTH as usize],
            mapped: vec![true; (LENGTH / PAGE) as usize],
            heap: START + PAGE,
            chunks: START + LENGTH / 4,
            free: Vec::new(),
            free_chunks: Vec::new(),
        }
    }

    /// The highest address of the C stack, which grows downwards.
    pub(super) fn c_stack(&self) -> u64 {
        START + LENGTH - PAGE
    }

    /// A block of the heap.
    pub(super) fn allocate(&mut self, size: u64) -> u64 {
        let size = size.next_multiple_of(16);
        if let Some((_, blocks)) = self.free.iter_mut().find(|(each, _)| *each == size)
            && let Some(block) = blocks.pop()
        {
            return block;
        }
        let block = self.heap;
        self.heap += size;
        assert!(self.heap < START + LENGTH / 4, "the heap is full");
        block
    }

    pub(super) fn release(&mut self, address: u64, size: u64) {
        let size = size.next_multiple_of(16);
        match self.free.iter_mut().find(|(each, _)| *each == size) {
            Some((_, blocks)) => blocks.push(address),
            None => self.free.push((size, vec![address])),
        }
    }

    /// Chooses the place of a chunk; [`Self::map`] makes it readable.
    pub(super) fn place_chunk(&mut self, size: u64) -> u64 {
        if let Some(at) = self.free_chunks.iter().rposition(|(_, each)| *each == size) {
            return self.free_chunks.remove(at).0;
        }
        let chunk = self.chunks;
        self.chunks += size;
        assert!(
            self.chunks < self.c_stack() - (LENGTH / 4),
            "no room for chunks"
        );
        chunk
    }

    /// The place of a chunk is free again; [`Self::unmap`] makes it unreadable.
    pub(super) fn displace_chunk(&mut self, address: u64, size: u64) {
        self.free_chunks.push((address, size));
    }

    /// New pages read as zeros.
    pub(super) fn map(&mut self, address: u64, size: u64) {
        self.set_mapped(address, size, true);
        let start = (address - START) as usize;
        self.bytes[start..start + size as usize].fill(0);
    }

    pub(super) fn unmap(&mut self, address: u64, size: u64) {
        self.set_mapped(address, size, false);
    }

    fn set_mapped(&mut self, address: u64, size: u64, mapped: bool) {
        let first = ((address - START) / PAGE) as usize;
        self.mapped[first..first + (size / PAGE) as usize].fill(mapped);
    }

    pub(super) fn is_mapped(&self, region: Region) -> bool {
        let Some(start) = region.address.checked_sub(START) else {
            return false;
        };
        let Some(end) = start.checked_add(region.length.max(1) as u64) else {
            return false;
        };
        end <= LENGTH && (start / PAGE..=(end - 1) / PAGE).all(|page| self.mapped[page as usize])
    }

    /// Copies what [`Self::is_mapped`].
    pub(super) fn copy(&self, address: u64, into: &mut [u8]) {
        let start = (address - START) as usize;
        into.copy_from_slice(&self.bytes[start..start + into.len()]);
    }

    pub(super) fn put(&mut self, address: u64, value: &[u8]) {
        let start = (address - START) as usize;
        self.bytes[start..start + value.len()].copy_from_slice(value);
    }

    pub(super) fn put_u64(&mut self, address: u64, value: u64) {
        self.put(address, &value.to_le_bytes());
    }
}
