//! Which regions a sample reads, in which order, and which of them as one.
//!
//! The plan is what the samples before needed. It is laid out anew only when it has changed: while it has not, each byte
//! of a sample lies where it lay in the sample before, and the two can be compared.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use crate::memory::{CACHE_LINE, Region};

/// A region that was not used for this many samples may be forgotten. Code that alternates between a few generators comes
/// back to each of them within fewer.
pub(super) const FORGET_AFTER: u64 = 16;

/// A region that was unmapped is read last for this many samples. Where nobody has asked for it for as long it is forgotten: it would
/// be in the way of all that is read after it.
const STAYS_DOUBTFUL: u64 = 512;

/// Of what belongs to a thread and may be forgotten this many stay, those that were used last, and one more for every two
/// that are in use: to read one costs a tenth of a microsecond, to miss one a call of its own, and then it is later
/// than all the rest.
const STALE_KEPT: usize = 8;

/// Regions with no more bytes than this between them may be read as one: the kernel takes longer to look up a page
/// than to copy some hundred bytes more.
const NEIGHBOURS: u64 = 1024;

/// Regions of the same group, at its start and at its end, that are looked at for one that a slot can be read with.
const SEARCHED: usize = 4;

/// When in the call a region is read, earliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The newest chunk of the data stack of a thread, by the thread's number. Before the thread's state: what has been read
    /// already makes the target wait at its next store there, and so is caught where it stores most.
    Newest(u32),
    /// The state of the thread.
    Thread(u32),
    /// Older chunks of its data stack.
    Older(u32),
    /// Its frames that live elsewhere. They and the older chunks are read in the order in which they were asked for.
    Stack(u32),
    /// What identifies a code object.
    Code,
    /// The roots: lists of interpreters and threads, and the generation of code objects.
    Root,
    /// What lies below the outermost function of a thread, and stays what it is for as long as that lasts. It is read now and
    /// then only.
    Foot(u32),
}

impl Group {
    /// Whether it does not matter which of its regions is read first.
    fn is_unordered(self) -> bool {
        matches!(self, Self::Code | Self::Root | Self::Foot(_))
    }

    /// Keeps together what belongs to a thread.
    fn order(self) -> (u32, u8) {
        match self {
            Self::Newest(thread) => (thread, 0),
            Self::Thread(thread) => (thread, 1),
            Self::Older(thread) | Self::Stack(thread) => (thread, 2),
            Self::Code => (u32::MAX, 3),
            Self::Root => (u32::MAX, 4),
            Self::Foot(_) => (u32::MAX, 5),
        }
    }

    fn thread(self) -> Option<u32> {
        match self {
            Self::Newest(thread)
            | Self::Thread(thread)
            | Self::Older(thread)
            | Self::Stack(thread) => Some(thread),
            Self::Code | Self::Root | Self::Foot(_) => None,
        }
    }

    fn rests(self) -> bool {
        matches!(self, Self::Foot(_))
    }

    /// Whether a region of this group may be read with one that comes before it. What proves a code object has to be read last,
    /// and a chunk of the data stack may be unmapped by then, and stays alone; but a frame elsewhere is the better
    /// the sooner it is read.
    fn may_join(self, earlier: Self) -> bool {
        match (self, earlier) {
            (Self::Stack(thread), Self::Thread(of) | Self::Stack(of)) => thread == of,
            _ => self.is_unordered() && self == earlier,
        }
    }
}

/// A region that is planned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) region: Region,
    pub(super) group: Group,
    /// Where its bytes start in the buffer; `None` while they were not read for this sample.
    pub(super) start: Option<usize>,
    /// Whether that is because one of another thread could not be read before: then nothing is known of it.
    pub(super) left_out: bool,
    /// The last sample that asked for it.
    pub(super) used: u64,
    /// The sample up to which it is read last, because it was unmapped not long before. It may come back and go again: a
    /// chunk of the data stack does when a program calls across its border. At the end its absence
    /// takes no second call.
    pub(super) doubtful: u64,
    /// When it was first asked for in that sample: frames are asked for from the innermost on, and are read in
    /// that order, because the innermost change fastest.
    pub(super) rank: u32,
    /// The region that it is read with, by its place in the call.
    read_with: usize,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) slots: Vec<Slot>,
    /// Slot numbers by the address of their region. Regions may overlap; no two start at the same address.
    by_address: BTreeMap<u64, usize>,
    /// What is read in one call: the regions of the slots, neighbours as one.
    pub(super) regions: Vec<Region>,
    /// How many of them, the last ones, are read now and then only.
    resting: usize,
    /// Whether they are not read for this sample.
    rest: bool,
    /// Bytes of all of them.
    pub(super) length: usize,
    /// The bytes of each thread, by its number.
    threads: Vec<Range<usize>>,
    next_rank: u32,
    /// Threads that have ended since the last sample, by their number.
    ended: Vec<u32>,
    /// Whether there are slots that have no place in the order yet.
    unsorted: bool,
    /// Whether the layout is not that of the slots any more.
    changed: bool,
}

impl Plan {
    /// Makes ready for a sample: after this each slot has its place in the buffer. Gives whether all have the same as in
    /// the sample before.
    pub(super) fn prepare(&mut self, sample: u64) -> bool {
        self.next_rank = 0;
        if !self.ended.is_empty() {
            let ended = std::mem::take(&mut self.ended);
            let stays = |slot: &Slot| match slot.group {
                Group::Foot(of) => !ended.contains(&of),
                group => group.thread().is_none_or(|of| !ended.contains(&of)),
            };
            self.slots.retain(stays);
            self.unsorted = true;
        }
        if sample.is_multiple_of(FORGET_AFTER) {
            self.forget_unused(sample);
        }
        if self.unsorted {
            self.sort(sample);
        }
        self.rest = !wakes(sample);
        let same = !self.unsorted && !self.changed;
        if !same {
            self.lay_out(sample);
        }
        (self.unsorted, self.changed) = (false, false);
        same
    }

    /// Plans a region from the next sample on. For this one it has been read to `start`.
    pub(super) fn add(&mut self, region: Region, group: Group, start: usize, sample: u64) {
        let known = self.by_address.get(&region.address).copied();
        // It is there, though what was to be read before it is not: its absence does not depend on that one's.
        let doubtful = known.map(|slot| &self.slots[slot]);
        let doubtful = doubtful.filter(|slot| !slot.left_out);
        let slot = Slot {
            region,
            group,
            start: Some(start),
            left_out: false,
            used: sample,
            doubtful: doubtful.map_or(0, |slot| slot.doubtful),
            rank: self.next_rank,
            read_with: 0,
        };
        self.next_rank += 1;
        self.changed = true;
        match known {
            // The same place, longer: what was planned there is superseded.
            Some(known) => {
                self.unsorted |= self.slots[known].group != group || self.slots[known].left_out;
                self.slots[known] = slot;
            }
            None => {
                self.unsorted = true;
                self.by_address.insert(region.address, self.slots.len());
                self.slots.push(slot);
            }
        }
    }

    /// What belongs to a thread is forgotten with the next sample: another one may get its number, and its memory.
    pub(super) fn end_thread(&mut self, thread: u32) {
        self.ended.push(thread);
    }

    /// The next sample has a layout of its own, whatever is planned for it.
    pub(super) fn lay_out_anew(&mut self) {
        self.changed = true;
    }

    /// From the next sample on, a region is read in another group.
    pub(super) fn regroup(&mut self, start: u64, group: Group) {
        if let Some(slot) = self.by_address.get(&start).copied()
            && self.slots[slot].group != group
        {
            self.slots[slot].group = group;
            self.unsorted = true;
        }
    }

    /// Notes that a region could not be read for this sample. From now on it is read last for a while. Gives whether it had
    /// been missing not long before.
    pub(super) fn miss(&mut self, region: usize, sample: u64) -> bool {
        let mut known = false;
        self.changed = true;
        for slot in self
            .slots
            .iter_mut()
            .filter(|slot| slot.read_with == region)
        {
            known |= slot.doubtful >= sample;
            (slot.doubtful, slot.start) = (sample + STAYS_DOUBTFUL, None);
        }
        self.unsorted |= !known;
        known
    }

    /// Notes that the regions from one on were not read for this sample.
    pub(super) fn leave_out(&mut self, regions: Range<usize>) {
        let missing = self.slots.iter();
        let mut missing = missing.filter(|slot| slot.read_with == regions.start);
        let of = missing.next().and_then(|slot| slot.group.thread());
        for slot in &mut self.slots {
            if regions.contains(&slot.read_with) {
                slot.start = None;
                slot.left_out = slot.group.thread() != of;
            }
        }
    }

    /// How many of the regions are read for this sample.
    pub(super) fn count(&self) -> usize {
        match self.rest {
            true => self.regions.len() - self.resting,
            false => self.regions.len(),
        }
    }

    /// From the next sample on, the region that starts at an address is read now and then only, unless it comes with another one.
    pub(super) fn let_rest(&mut self, start: u64, thread: u32) {
        let Some(slot) = self.at(start).filter(|slot| slot.start.is_some()) else {
            return;
        };
        let read_with = slot.read_with;
        let shared = self.slots.iter().filter(|slot| slot.read_with == read_with);
        if shared.count() == 1 && !self.unsorted {
            self.regroup(start, Group::Foot(thread));
        }
    }

    /// Whether the region that starts at an address is read now and then only.
    pub(super) fn rests(&self, start: u64) -> bool {
        self.at(start).is_some_and(|slot| slot.group.rests())
    }

    /// The slot of the region that starts at an address, where that was left to rest for this sample.
    pub(super) fn resting_at(&self, start: u64) -> Option<usize> {
        let number = *self.by_address.get(&start)?;
        let slot = self.slots.get(number)?;
        (slot.group.rests() && (self.rest || slot.start.is_none())).then_some(number)
    }

    /// Where in a slot an address range starts that it covers, if it was read for this sample.
    pub(super) fn covers(&self, slot: usize, address: u64, end: u64) -> Option<usize> {
        let slot = self.slots.get(slot)?;
        if slot.group.rests() && self.rest {
            return None;
        }
        slot.covers(address, end)
    }

    /// Where in the buffer a region that is read starts.
    pub(super) fn start_of(&self, region: usize) -> usize {
        let before = self.regions.iter().take(region);
        before.map(|region| region.length).sum()
    }

    /// The slot whose region starts at an address.
    pub(super) fn at(&self, address: u64) -> Option<&Slot> {
        self.slots.get(*self.by_address.get(&address)?)
    }

    /// The bytes of all regions of a thread.
    pub(super) fn bytes_of(&self, thread: u32) -> Option<Range<usize>> {
        self.threads.get(usize::try_from(thread).ok()?).cloned()
    }

    /// The slot that covers an address range and was read, and how far into the slot it starts. The nearest of the slots that
    /// start at or before the address is nearly always the one; a few more are looked at because a short region can lie
    /// inside a long one.
    pub(super) fn find(&self, address: u64, end: u64) -> Option<(usize, usize)> {
        let before = self
            .by_address
            .range((Bound::Unbounded, Bound::Included(address)));
        before
            .rev()
            .take(8)
            .find_map(|(_, &slot)| Some((slot, self.covers(slot, address, end)?)))
    }

    /// Notes that a slot was asked for.
    pub(super) fn note_use(&mut self, slot: usize, sample: u64) {
        let slot = &mut self.slots[slot];
        if slot.used != sample {
            slot.used = sample;
            slot.rank = self.next_rank;
            self.next_rank += 1;
        }
    }

    fn forget_unused(&mut self, sample: u64) {
        let oldest = sample.saturating_sub(FORGET_AFTER).max(1);
        let before = self.slots.len();
        // What may come back costs nothing while it is away, but what is away for long does not come back.
        self.slots
            .retain(|slot| slot.start.is_some() || slot.used + STAYS_DOUBTFUL >= sample);
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

    fn sort(&mut self, sample: u64) {
        self.slots.sort_by_key(|slot| {
            let doubtful = slot.doubtful >= sample;
            let rank = match slot.group.is_unordered() {
                true => slot.region.address,
                // Of those that may be unmapped the older ones come first: a chunk is there only if those before it are.
                false if doubtful => u64::from(u32::MAX - slot.rank),
                false => u64::from(slot.rank),
            };
            (slot.group.rests(), doubtful, slot.group.order(), rank)
        });
        let numbered = self.slots.iter().enumerate();
        self.by_address = numbered
            .map(|(number, slot)| (slot.region.address, number))
            .collect();
    }

    /// Says what is read in one call, and where in the buffer the bytes of each slot will be.
    fn lay_out(&mut self, sample: u64) {
        self.regions.clear();
        self.threads.clear();
        // The groups of the regions; none for what may be unmapped, which stays alone.
        let mut groups: Vec<Option<Group>> = Vec::with_capacity(self.slots.len());
        // The first region of the group or the thread.
        let mut open = 0;
        for slot in &mut self.slots {
            let doubtful = slot.doubtful >= sample;
            let belongs = |group: &Option<Group>| {
                group.is_some_and(|group| match slot.group.thread() {
                    Some(thread) => group.thread() == Some(thread),
                    None => group == slot.group,
                })
            };
            while groups.get(open).is_some_and(|group| !belongs(group)) {
                open += 1;
            }
            // Near in memory is mostly near in order as well, or the thread's state.
            let newest = groups.len().saturating_sub(SEARCHED).max(open);
            let candidates = (open..newest.min(open + SEARCHED)).chain(newest..groups.len());
            let host = candidates.into_iter().find_map(|number| {
                let near =
                    !doubtful && groups[number].is_some_and(|group| slot.group.may_join(group));
                let whole = near.then(|| united(self.regions[number], slot.region))??;
                Some((number, whole))
            });
            slot.read_with = match host {
                Some((number, whole)) => {
                    self.regions[number] = whole;
                    number
                }
                None => {
                    self.regions.push(slot.region);
                    groups.push((!doubtful).then_some(slot.group));
                    self.regions.len() - 1
                }
            };
        }
        let mut resting = self.slots.iter().filter(|slot| slot.group.rests());
        self.resting = resting
            .next()
            .map_or(0, |first| self.regions.len() - first.read_with);
        let mut starts = Vec::with_capacity(self.regions.len());
        self.length = 0;
        for region in &mut self.regions {
            *region = lines_of(*region);
            starts.push(self.length);
            self.length += region.length;
        }
        for slot in &mut self.slots {
            let whole = self.regions[slot.read_with];
            let start = starts[slot.read_with];
            let offset = slot.region.address - whole.address;
            slot.start = usize::try_from(offset).ok().map(|offset| start + offset);
            slot.left_out = false;
            let thread = slot.group.thread().map(usize::try_from);
            if let Some(Ok(thread)) = thread {
                if self.threads.len() <= thread {
                    self.threads.resize(thread + 1, 0..0);
                }
                let bytes = &mut self.threads[thread];
                let first = if bytes.end == 0 { start } else { bytes.start };
                *bytes = first.min(start)..bytes.end.max(start + whole.length);
            }
        }
    }
}

/// Whether a sample reads what rests: the one before some of it may be forgotten.
pub(super) fn wakes(sample: u64) -> bool {
    (sample + 1).is_multiple_of(FORGET_AFTER)
}

impl Slot {
    /// How far into the slot an address range starts that it covers, if it was read.
    fn covers(&self, address: u64, end: u64) -> Option<usize> {
        self.start?;
        let offset = address.checked_sub(self.region.address)?;
        (self.region.end()? >= end).then_some(usize::try_from(offset).ok()?)
    }
}

/// A region and what shares its lines of the cache. Only whole lines are copied one at a time; see `bytes`.
pub(super) fn lines_of(region: Region) -> Region {
    let address = region.address - region.address % CACHE_LINE;
    let end = region
        .end()
        .and_then(|end| end.checked_next_multiple_of(CACHE_LINE));
    match end.map(|end| usize::try_from(end - address)) {
        Some(Ok(length)) => Region { address, length },
        // At the end of the address space nothing is mapped.
        _ => region,
    }
}

/// Two regions and what is between them, where that is little.
fn united(one: Region, other: Region) -> Option<Region> {
    let (address, end) = (one.address.min(other.address), one.end()?.max(other.end()?));
    let between = (end - address).saturating_sub((one.length + other.length) as u64);
    (between <= NEIGHBOURS).then_some(Region {
        address,
        length: usize::try_from(end - address).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROUPS: [Group; 6] = [
        Group::Newest(0),
        Group::Thread(0),
        Group::Older(0),
        Group::Stack(0),
        Group::Code,
        Group::Root,
    ];

    proptest! {
        /// A line of the cache is copied to a line, whole, and each slot lies in what is read with it.
        #[test]
        fn lines_are_copied_to_lines(
            wanted in prop::collection::vec((1_u64..1 << 14, 1_usize..700, 0_usize..GROUPS.len()), 1..40),
        ) {
            let mut plan = Plan::default();
            for (word, length, group) in wanted {
                let region = Region { address: 8 * word, length };
                plan.add(region, GROUPS[group], 0, 1);
            }
            prop_assert!(!plan.prepare(2));
            let mut length = 0;
            for region in &plan.regions {
                prop_assert!(region.address.is_multiple_of(CACHE_LINE));
                prop_assert!((region.length as u64).is_multiple_of(CACHE_LINE));
                length += region.length;
            }
            prop_assert_eq!(plan.length, length);
            for slot in &plan.slots {
                let whole = plan.regions[slot.read_with];
                let offset = slot.region.address.checked_sub(whole.address).unwrap() as usize;
                prop_assert!(offset + slot.region.length <= whole.length);
                prop_assert_eq!(slot.start, Some(plan.start_of(slot.read_with) + offset));
            }
            prop_assert!(plan.prepare(3));
        }
    }

    /// It is not to be found in a sample that has not read it, and the others lie where they lay.
    #[test]
    fn what_rests_is_read_now_and_then() {
        let (kept, resting) = (0x1000, 0x9000);
        let mut plan = Plan::default();
        for (address, group) in [(kept, Group::Thread(3)), (resting, Group::Stack(3))] {
            let region = Region { address, length: 8 };
            plan.add(region, group, 0, 1);
        }
        plan.prepare(2);
        plan.let_rest(resting, 3);
        assert_eq!(plan.count(), 2);
        for sample in 3..5 * FORGET_AFTER {
            let same = plan.prepare(sample);
            assert_eq!(same, sample > 3);
            let is_read = wakes(sample);
            assert_eq!(plan.count(), 1 + usize::from(is_read), "{sample}");
            assert_eq!(plan.find(resting, resting + 8).is_some(), is_read);
            assert_eq!(plan.resting_at(resting).is_some(), !is_read);
            assert_eq!(plan.bytes_of(3), Some(0..CACHE_LINE as usize));
            for address in [kept, resting] {
                let slot = plan.by_address[&address];
                plan.note_use(slot, sample);
            }
        }
    }

    /// What is read with something else costs nothing, and is read with every sample.
    #[test]
    fn what_comes_with_something_else_does_not_rest() {
        let mut plan = Plan::default();
        for (address, group) in [(0x1000, Group::Thread(0)), (0x1100, Group::Stack(0))] {
            let region = Region { address, length: 8 };
            plan.add(region, group, 0, 1);
        }
        plan.prepare(2);
        plan.let_rest(0x1100, 0);
        assert!(!plan.rests(0x1100));
    }
}
