//! One sample's view of the target: all regions that it will need, read in one call.
//!
//! The plan says which regions those are. It is what the samples before needed: a region that is asked
//! for and was not planned is fetched at once, by a call of its own, and planned from then on; one that
//! nobody asked for in a while is forgotten. Bytes never outlive the sample they were read for; those of the sample
//! before are kept only to tell whether anything has changed.
//!
//! Regions are read in the order of their [`Group`], because each is copied at a moment of its own: of each thread first
//! what decides which frame runs, its state and its other frames right behind it, so that little can move in between, and what
//! proves that code objects are still the same ones last, because it must hold for all frames before it.

mod bytes;
mod plan;

pub(crate) use plan::Group;

use bytes::Bytes;
use plan::{Plan, lines_of, wakes};

use std::ops::Range;

use crate::memory::{ReadError, Region, RemoteMemory};

/// More bytes than this are no process's stacks; it bounds what a target can make us allocate.
const MAX_BYTES: usize = 1 << 28;

/// Where bytes lie in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    length: usize,
}

impl Span {
    /// Where in the snapshot's bytes they start.
    pub(crate) fn start(self) -> usize {
        self.start
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    plan: Plan,
    buffer: Bytes,
    /// The bytes of the sample before.
    before: Bytes,
    /// Whether each byte lies where it lay in the sample before, and all of them were read.
    comparable: bool,
    sample: u64,
    /// The slot that was found last: the next question is mostly about it or its neighbour.
    last: usize,
    extra_calls: u64,
    /// Kept from call to call, so that one takes no memory.
    wanted: Vec<Region>,
}

impl Snapshot {
    /// Starts a sample: reads all planned regions, in one call unless one of them is gone.
    pub(crate) fn read<M: RemoteMemory>(&mut self, memory: &M) -> Result<(), ReadError> {
        self.sample += 1;
        self.extra_calls = 0;
        std::mem::swap(&mut self.buffer, &mut self.before);
        self.comparable = self.plan.prepare(self.sample);
        self.buffer.resize(self.plan.length);
        let count = self.plan.count();
        let (mut done, mut start) = (0, 0);
        while done < count {
            let regions = &self.plan.regions[done..count];
            done += memory
                .read_regions(regions, &mut self.buffer[start..])
                .inspect_err(|_| {
                    // What is in the buffer now is of no sample, and nothing may be compared with it.
                    self.comparable = false;
                    self.plan.lay_out_anew();
                })?;
            if done < count {
                self.comparable = false;
                // What is at `done` is unmapped by now. The rest is still worth having, but not what has been
                // missing before: one chunk that is gone takes those behind it along.
                if self.plan.miss(done, self.sample) {
                    self.plan.leave_out(done..count);
                    break;
                }
                done += 1;
                start = self.plan.start_of(done);
                self.extra_calls += u64::from(done < count);
            }
        }
        Ok(())
    }

    /// How many calls this sample needed beyond the first.
    pub(crate) fn extra_calls(&self) -> u64 {
        self.extra_calls
    }

    /// Which sample this is, counted from 1.
    pub(crate) fn sample(&self) -> u64 {
        self.sample
    }

    /// Whether the next sample forgets what was not asked for: so in this one nothing is to be taken for granted.
    pub(crate) fn is_before_forgetting(&self) -> bool {
        wakes(self.sample)
    }

    /// Whether all that belongs to a thread is as it was in the sample before, byte by byte.
    pub(crate) fn is_thread_unchanged(&self, thread: u32) -> bool {
        let bytes = self.plan.bytes_of(thread).filter(|_| self.comparable);
        bytes.is_some_and(|bytes| self.buffer.get(bytes.clone()) == self.before.get(bytes))
    }

    /// The same, but for what lies in the snapshot at the places of `apart`, which come one after the other.
    pub(crate) fn is_thread_unchanged_but(&self, thread: u32, apart: &[Range<usize>]) -> bool {
        let Some(bytes) = self.plan.bytes_of(thread).filter(|_| self.comparable) else {
            return false;
        };
        let mut start = bytes.start;
        let mut same = |until: usize, next: usize| {
            let part = start..until.max(start);
            start = start.max(next);
            self.buffer
                .get(part.clone())
                .is_some_and(|now| Some(now) == self.before.get(part))
        };
        apart.iter().all(|apart| same(apart.start, apart.end)) && same(bytes.end, bytes.end)
    }

    /// Whether all that identifies code objects is as it was in the sample before.
    pub(crate) fn are_codes_unchanged(&self) -> bool {
        let mut codes = self.plan.slots.iter();
        self.comparable
            && codes.all(|slot| {
                slot.group != Group::Code
                    || slot.start.is_some_and(|start| {
                        self.is_unchanged(Span {
                            start,
                            length: slot.region.length,
                        })
                    })
            })
    }

    /// Whether the bytes at a place are the same as in the sample before.
    pub(crate) fn is_unchanged(&self, span: Span) -> bool {
        let bytes = span.start..span.start.saturating_add(span.length);
        self.comparable
            && bytes.end <= self.plan.length
            && self.buffer.get(bytes.clone()) == self.before.get(bytes)
    }

    /// The bytes of a region, where they were read for this sample.
    pub(crate) fn get(&mut self, region: Region) -> Option<&[u8]> {
        self.get_placed(region).map(|(bytes, _)| bytes)
    }

    /// The same, and where they lie.
    pub(crate) fn get_placed(&mut self, region: Region) -> Option<(&[u8], Span)> {
        let found = self.find(region)?;
        self.placed(region, found)
    }

    /// The same, where that is not asked because it is needed: it changes nothing about what is read when.
    pub(crate) fn peek(&self, region: Region) -> Option<(&[u8], Span)> {
        self.placed(region, self.locate(region)?)
    }

    fn placed(&self, region: Region, (slot, offset): (usize, usize)) -> Option<(&[u8], Span)> {
        let start = self.plan.slots[slot].start? + offset;
        let length = region.length;
        let bytes = self.buffer.get(start..start.checked_add(length)?)?;
        Some((bytes, Span { start, length }))
    }

    /// Where the regions of a group start.
    pub(crate) fn starts(&self, group: Group) -> Vec<u64> {
        let slots = self.plan.slots.iter();
        let of_group = slots.filter(|slot| slot.group == group);
        of_group.map(|slot| slot.region.address).collect()
    }

    /// From the next sample on, a region is read in another group.
    pub(crate) fn regroup(&mut self, start: u64, group: Group) {
        self.plan.regroup(start, group);
    }

    /// From the next sample on, a region of a thread that starts at an address is read now and then only, unless it comes with
    /// another one: whoever asks for it knows by other bytes that it is what it was.
    pub(crate) fn let_rest(&mut self, start: u64, thread: u32) {
        self.plan.let_rest(start, thread);
    }

    /// Whether a region that starts at an address was left to rest in this sample, for which it is as good as read.
    pub(crate) fn leaves_to_rest(&mut self, start: u64) -> bool {
        let resting = self.plan.resting_at(start);
        if let Some(slot) = resting {
            self.plan.note_use(slot, self.sample);
        }
        resting.is_some()
    }

    /// Whether a region that starts at an address is read now and then only.
    pub(crate) fn rests(&self, start: u64) -> bool {
        self.plan.rests(start)
    }

    /// A thread has ended, or is another one from now on.
    pub(crate) fn end_thread(&mut self, thread: u32) {
        self.plan.end_thread(thread);
    }

    /// Whether a region that starts at an address was planned, and could not be read.
    pub(crate) fn is_missing(&self, address: u64) -> bool {
        self.plan
            .at(address)
            .is_some_and(|slot| slot.start.is_none())
    }

    /// Whether that was not even tried, because one of another thread could not be read before.
    pub(crate) fn is_left_out(&self, address: u64) -> bool {
        self.plan.at(address).is_some_and(|slot| slot.left_out)
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
            self.wanted.clear();
            let regions = rest.iter().map(|(region, _)| lines_of(*region));
            self.wanted.extend(regions);
            let start = self.buffer.len();
            let length: usize = self.wanted.iter().map(|region| region.length).sum();
            if length > MAX_BYTES.saturating_sub(start) {
                return Err(ReadError::Implausible {
                    address: rest[0].0.address,
                    expected: "a stack that fits in memory",
                });
            }
            self.buffer.resize(start + length);
            let done = memory.read_regions(&self.wanted, &mut self.buffer[start..])?;
            let mut at = start;
            for (&(region, group), lines) in rest[..done].iter().zip(&self.wanted) {
                let offset = usize::try_from(region.address - lines.address).unwrap_or(0);
                self.plan.add(region, group, at + offset, self.sample);
                at += lines.length;
            }
            rest = &rest[(done + 1).min(rest.len())..];
        }
        Ok(())
    }

    /// The slot that holds a region, and where in the slot it starts; the region was asked for.
    fn find(&mut self, wanted: Region) -> Option<(usize, usize)> {
        let (slot, offset) = self.locate(wanted)?;
        self.last = slot;
        self.plan.note_use(slot, self.sample);
        Some((slot, offset))
    }

    fn locate(&self, wanted: Region) -> Option<(usize, usize)> {
        let (address, end) = (wanted.address, wanted.end()?);
        [self.last, self.last + 1]
            .into_iter()
            .find_map(|slot| Some((slot, self.plan.covers(slot, address, end)?)))
            .or_else(|| self.plan.find(address, end))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    /// Memory of which some pages are mapped.
    #[derive(Default)]
    struct Pages {
        mapped: RefCell<BTreeSet<u64>>,
    }

    impl RemoteMemory for Pages {
        fn read_regions(&self, regions: &[Region], _: &mut [u8]) -> Result<usize, ReadError> {
            let is_mapped = |region: &&Region| self.mapped.borrow().contains(&region.address);
            Ok(regions.iter().take_while(is_mapped).count())
        }
    }

    fn page(number: u64) -> Region {
        Region {
            address: number << 12,
            length: 64,
        }
    }

    /// Two pages that were read and are gone now.
    fn gone(snapshot: &mut Snapshot, memory: &Pages) {
        memory.mapped.borrow_mut().extend([1 << 12, 2 << 12]);
        snapshot.read(memory).unwrap();
        let wanted = [1, 2].map(|number| (page(u64::from(number)), Group::Older(number)));
        snapshot.fetch(memory, &wanted).unwrap();
        memory.mapped.borrow_mut().clear();
        for _ in 0..3 {
            snapshot.read(memory).unwrap();
            assert!(snapshot.get(page(1)).is_none() && snapshot.get(page(2)).is_none());
        }
        assert_eq!(snapshot.extra_calls(), 0, "absence costs no second call");
    }

    #[test]
    fn what_is_left_out_may_be_there() {
        let (mut snapshot, memory) = (Snapshot::default(), Pages::default());
        gone(&mut snapshot, &memory);
        // Nothing is known of the second one, which is another thread's.
        assert!(snapshot.is_missing(1 << 12) && !snapshot.is_left_out(1 << 12));
        assert!(snapshot.is_left_out(2 << 12));
        memory.mapped.borrow_mut().insert(2 << 12);
        snapshot.read(&memory).unwrap();
        let there = page(2);
        let group = Group::Newest(2);
        snapshot.get_or_fetch(&memory, there, there, group).unwrap();
        // From then on it is read with the others.
        snapshot.read(&memory).unwrap();
        assert!(snapshot.get(there).is_some());
        assert_eq!(snapshot.extra_calls(), 0);
    }

    #[test]
    fn what_an_ended_thread_had_is_forgotten() {
        let (mut snapshot, memory) = (Snapshot::default(), Pages::default());
        gone(&mut snapshot, &memory);
        snapshot.end_thread(1);
        snapshot.read(&memory).unwrap();
        assert!(!snapshot.is_missing(1 << 12) && snapshot.is_missing(2 << 12));
    }

    #[test]
    fn what_is_gone_for_long_is_forgotten() {
        let (mut snapshot, memory) = (Snapshot::default(), Pages::default());
        gone(&mut snapshot, &memory);
        for _ in 0..600 {
            snapshot.read(&memory).unwrap();
        }
        assert_eq!(snapshot.plan.slots.len(), 0);
    }
}
