//! One sample's view of the target: all regions that it will need, read in one call.
//!
//! The plan says which regions those are. It is what the samples before needed: a region that is asked
//! for and was not planned is fetched at once, by a call of its own, and planned from then on; one that
//! nobody asked for in a while is forgotten. Bytes never outlive the sample they were read for.
//!
//! Regions are read in the order of their [`Group`], because each is copied at a moment of its own: of each thread first
//! what decides which frame runs, its state and its other frames right behind it, so that little can move in between, and what
//! proves that code objects are still the same ones last, because it must hold for all frames before it.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::memory::{ReadError, Region, RemoteMemory};

/// A region that was not used for this many samples may be forgotten. Code that alternates between a few generators comes
/// back to each of them within fewer.
const FORGET_AFTER: u64 = 16;

/// Of what belongs to a thread and may be forgotten this many stay, those that were used last, and one more for every two
/// that are in use: to read one costs a tenth of a microsecond, to miss one a call of its own, and then it is later
/// than all the rest.
const STALE_KEPT: usize = 8;

/// Regions with no more bytes than this between them may be read as one.
const NEIGHBOURS: usize = 512;

/// A region that was unmapped is read last for this many samples.
const STAYS_DOUBTFUL: u64 = 512;

/// More bytes than this are no process's stacks; it bounds what a target can make us allocate.
const MAX_BYTES: usize = 1 << 28;

/// When in the call a region is read, earliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The newest chunk of the data stack of a thread, by the thread's number. Before the thread's state: what has been read
    /// already makes the target wait at its next store there, and so is caught where it stores most.
    Newest(u32),
    /// The state of the thread.
    Thread(u32),
    /// Its other frames: older chunks of its data stack, and frames that live elsewhere.
    Stack(u32),
    /// What identifies a code object.
    Code,
    /// The roots: lists of interpreters and threads, and the generation of code objects.
    Root,
}

impl Group {
    /// Whether it does not matter which of its regions is read first.
    fn is_unordered(self) -> bool {
        matches!(self, Self::Code | Self::Root)
    }

    /// Keeps together what belongs to a thread.
    fn order(self) -> (u32, u8) {
        match self {
            Self::Newest(thread) => (thread, 0),
            Self::Thread(thread) => (thread, 1),
            Self::Stack(thread) => (thread, 2),
            Self::Code => (u32::MAX, 3),
            Self::Root => (u32::MAX, 4),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    region: Region,
    group: Group,
    /// Where its bytes start in the buffer; `None` while they were not read for this sample.
    start: Option<usize>,
    /// The last sample that asked for it.
    used: u64,
    /// The sample up to which it is read last, because it was unmapped not long before. It may come back and go again: a
    /// chunk of the data stack does when a program calls across its border. At the end its absence
    /// takes no second call.
    doubtful: u64,
    /// When it was first asked for in that sample: frames are asked for from the innermost on, and are read in
    /// that order, because the innermost change fastest.
    rank: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    slots: Vec<Slot>,
    /// Slot numbers by the address of their region. Regions may overlap; no two start at the same address.
    by_address: BTreeMap<u64, usize>,
    buffer: Vec<u8>,
    regions: Vec<Region>,
    /// The first slot of each region that is read.
    first_slots: Vec<usize>,
    sample: u64,
    next_rank: u32,
    /// The slot that was found last: the next question is mostly about it or its neighbour.
    last: usize,
    unsorted: bool,
    extra_calls: u64,
}

impl Snapshot {
    /// Starts a sample: reads all planned regions, in one call unless one of them is gone.
    pub(crate) fn read<M: RemoteMemory>(&mut self, memory: &M) -> Result<(), ReadError> {
        self.sample += 1;
        self.next_rank = 0;
        self.extra_calls = 0;
        if self.sample.is_multiple_of(FORGET_AFTER) {
            self.forget_unused();
        }
        if self.unsorted {
            self.sort();
        }
        let length = self.lay_out();
        self.buffer.resize(length, 0);
        let mut done = 0;
        while done < self.regions.len() {
            let first = self.first_slots[done];
            let start = self.slots[first].start.unwrap_or(0);
            done += memory.read_regions(&self.regions[done..], &mut self.buffer[start..])?;
            if done < self.regions.len() {
                // What is at `done` is unmapped by now. The rest is still worth having, but not what has been
                // missing before: one chunk that is gone takes those behind it along.
                let first = self.first_slots[done];
                let known = self.slots[first].doubtful >= self.sample;
                self.slots[first].doubtful = self.sample + STAYS_DOUBTFUL;
                self.unsorted |= !known;
                done = if known { self.regions.len() } else { done + 1 };
                let end = self.first_slots.get(done).copied();
                let end = end.unwrap_or(self.slots.len());
                for slot in &mut self.slots[first..end] {
                    slot.start = None;
                }
                if done < self.regions.len() {
                    self.extra_calls += 1;
                }
            }
        }
        Ok(())
    }

    /// Says what is read in this sample, and where in the buffer the bytes of each slot will be. Neighbours whose order does
    /// not matter are read as one: the kernel takes longer to look up a page than to copy some hundred bytes
    /// more. Gives the number of bytes in all.
    fn lay_out(&mut self) -> usize {
        self.regions.clear();
        self.first_slots.clear();
        let (mut length, sample) = (0, self.sample);
        let mut open: Option<Group> = None;
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let grows = open == Some(slot.group) && slot.doubtful < sample;
            let whole = self.regions.last_mut().filter(|_| grows);
            let reach = whole.and_then(|whole| {
                let offset = slot.region.address.checked_sub(whole.address)?;
                let offset = usize::try_from(offset).ok()?;
                (offset <= whole.length + NEIGHBOURS).then_some((whole, offset))
            });
            if let Some((whole, offset)) = reach {
                let longer = whole.length.max(offset + slot.region.length);
                slot.start = Some(length - whole.length + offset);
                length += longer - whole.length;
                whole.length = longer;
                continue;
            }
            self.regions.push(slot.region);
            self.first_slots.push(number);
            slot.start = Some(length);
            length += slot.region.length;
            let may_grow = slot.group.is_unordered() && slot.doubtful < sample;
            open = may_grow.then_some(slot.group);
        }
        length
    }

    /// How many calls this sample needed beyond the first.
    pub(crate) fn extra_calls(&self) -> u64 {
        self.extra_calls
    }

    /// The bytes of a region, where they were read for this sample.
    pub(crate) fn get(&mut self, region: Region) -> Option<&[u8]> {
        let (slot, offset) = self.find(region)?;
        let start = self.slots[slot].start? + offset;
        self.buffer.get(start..start.checked_add(region.length)?)
    }

    /// Where the regions of a group start.
    pub(crate) fn starts(&self, group: Group) -> Vec<u64> {
        let of_group = self.slots.iter().filter(|slot| slot.group == group);
        of_group.map(|slot| slot.region.address).collect()
    }

    /// From the next sample on, a region is read in another group.
    pub(crate) fn regroup(&mut self, start: u64, group: Group) {
        if let Some(&slot) = self.by_address.get(&start)
            && self.slots[slot].group != group
        {
            self.slots[slot].group = group;
            self.unsorted = true;
        }
    }

    /// Whether a region that starts at an address was planned, and could not be read.
    pub(crate) fn is_missing(&self, address: u64) -> bool {
        self.by_address
            .get(&address)
            .is_some_and(|&slot| self.slots[slot].start.is_none())
    }

    /// The bytes of a region; where they were not planned, `enclosing` is fetched now and planned from now on.
    pub(crate) fn get_or_fetch<M: RemoteMemory>(
        &mut self,
        memory: &M,
        region: Region,
        enclosing: Region,
        group: Group,
    ) -> Result<&[u8], ReadError> {
        if self.find(region).is_none() {
            self.fetch(memory, &[(enclosing, group)])?;
        }
        self.get(region).ok_or(ReadError::Fault(region.address))
    }

    /// Reads regions that were not planned, in one call, and plans them. Those that are unmapped are left out.
    pub(crate) fn fetch<M: RemoteMemory>(
        &mut self,
        memory: &M,
        wanted: &[(Region, Group)],
    ) -> Result<(), ReadError> {
        let mut rest = wanted;
        while !rest.is_empty() {
            self.extra_calls += 1;
            self.regions.clear();
            self.regions.extend(rest.iter().map(|(region, _)| *region));
            let start = self.buffer.len();
            let length: usize = self.regions.iter().map(|region| region.length).sum();
            if length > MAX_BYTES.saturating_sub(start) {
                return Err(ReadError::Implausible {
                    address: rest[0].0.address,
                    expected: "a stack that fits in memory",
                });
            }
            self.buffer.resize(start + length, 0);
            let done = memory.read_regions(&self.regions, &mut self.buffer[start..])?;
            let mut at = start;
            for &(region, group) in &rest[..done] {
                self.plan(region, group, Some(at));
                at += region.length;
            }
            rest = &rest[(done + 1).min(rest.len())..];
        }
        Ok(())
    }

    fn plan(&mut self, region: Region, group: Group, start: Option<usize>) {
        let slot = Slot {
            region,
            group,
            start,
            used: self.sample,
            doubtful: 0,
            rank: self.next_rank,
        };
        self.next_rank += 1;
        if let Some(&known) = self.by_address.get(&region.address) {
            // The same place, longer: what was planned there is superseded.
            self.unsorted |= self.slots[known].group != group;
            let doubtful = self.slots[known].doubtful;
            self.slots[known] = Slot { doubtful, ..slot };
        } else {
            self.by_address.insert(region.address, self.slots.len());
            self.slots.push(slot);
            self.unsorted = true;
        }
    }

    /// The slot that holds a region, and where in the slot it starts.
    fn find(&mut self, wanted: Region) -> Option<(usize, usize)> {
        let end = wanted.end()?;
        for candidate in [self.last, self.last + 1] {
            if let Some(offset) = self.offset_in(candidate, wanted.address, end) {
                return Some((candidate, offset));
            }
        }
        // Of the regions that start at or before the address the nearest is nearly always the one; a
        // few more are looked at because a short region can lie inside a long one.
        let before = self
            .by_address
            .range((Bound::Unbounded, Bound::Included(wanted.address)));
        let (slot, offset) = before.rev().take(8).find_map(|(_, &slot)| {
            covers(&self.slots[slot], wanted.address, end).map(|offset| (slot, offset))
        })?;
        self.note_use(slot);
        Some((slot, offset))
    }

    fn offset_in(&mut self, slot: usize, address: u64, end: u64) -> Option<usize> {
        let offset = covers(self.slots.get(slot)?, address, end)?;
        self.note_use(slot);
        Some(offset)
    }

    fn note_use(&mut self, number: usize) {
        self.last = number;
        let slot = &mut self.slots[number];
        if slot.used != self.sample {
            slot.used = self.sample;
            slot.rank = self.next_rank;
            self.next_rank += 1;
        }
    }

    fn forget_unused(&mut self) {
        let oldest = self.sample.saturating_sub(FORGET_AFTER).max(1);
        let before = self.slots.len();
        let sample = self.sample;
        // What may come back costs nothing while it is away.
        let stays = |slot: &Slot| slot.used >= oldest || slot.doubtful >= sample;
        self.slots
            .retain(|slot| stays(slot) || !slot.group.is_unordered());
        let mut stale: Vec<u64> = self
            .slots
            .iter()
            .filter(|slot| !stays(slot))
            .map(|slot| slot.used)
            .collect();
        let kept = STALE_KEPT + (self.slots.len() - stale.len()) / 2;
        let mut since = 0;
        if stale.len() > kept {
            let (_, &mut last, _) = stale.select_nth_unstable_by(kept, |a, b| b.cmp(a));
            since = last + 1;
        }
        self.slots.retain(|slot| stays(slot) || slot.used >= since);
        self.unsorted |= self.slots.len() != before;
    }

    fn sort(&mut self) {
        let sample = self.sample;
        self.slots.sort_by_key(|slot| {
            let doubtful = slot.doubtful >= sample;
            let rank = match slot.group.is_unordered() {
                true => slot.region.address,
                // Of those that may be unmapped the older ones come first: a chunk is there only if those before it are.
                false if doubtful => u64::from(u32::MAX - slot.rank),
                false => u64::from(slot.rank),
            };
            (doubtful, slot.group.order(), rank)
        });
        self.by_address.clear();
        self.by_address.extend(
            self.slots
                .iter()
                .enumerate()
                .map(|(number, slot)| (slot.region.address, number)),
        );
        self.unsorted = false;
        self.last = 0;
    }
}

fn covers(slot: &Slot, address: u64, end: u64) -> Option<usize> {
    slot.start?;
    let offset = address.checked_sub(slot.region.address)?;
    (slot.region.end()? >= end).then_some(usize::try_from(offset).ok()?)
}
