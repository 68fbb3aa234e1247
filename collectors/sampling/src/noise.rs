//! The sampler on memory that means nothing: it must come to an end, in bounded memory, whatever it reads.

use std::time::Duration;

use proptest::prelude::*;

use crate::discovery::Roots;
use crate::layout::{FrameChain, Layout, Minor, builtin};
use crate::memory::{ReadError, Region, RemoteMemory};
use crate::sampler::Sampler;
use crate::stacks::Stacks;

/// Where the arena starts. Low, so that small arbitrary integers point into it.
const START: u64 = 0x1000;

/// A little arena of arbitrary words; nothing else is mapped. With so little to point at, wild pointers
/// meet each other: lists become rings, frames overlap, code objects are their own names.
#[derive(Debug)]
struct Arena(Vec<u8>);

impl RemoteMemory for Arena {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        let mut at = 0;
        for (done, region) in regions.iter().enumerate() {
            let Some(start) = region.address.checked_sub(START) else {
                return Ok(done);
            };
            let Ok(start) = usize::try_from(start) else {
                return Ok(done);
            };
            let Some(bytes) = start
                .checked_add(region.length)
                .and_then(|end| self.0.get(start..end))
            else {
                return Ok(done);
            };
            into[at..at + region.length].copy_from_slice(bytes);
            at += region.length;
        }
        Ok(regions.len())
    }
}

/// Endless memory in which every word is a hash of its address, and so is mapped and points somewhere.
#[derive(Debug)]
struct Endless(u64);

impl RemoteMemory for Endless {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        let mut at = 0;
        for region in regions {
            for offset in 0..region.length as u64 {
                let address = region.address.wrapping_add(offset);
                let word = fastrand::Rng::with_seed(self.0 ^ (address & !7)).u64(..)
                    & 0x0000_7fff_ffff_fff8;
                into[at] = word.to_le_bytes()[(address & 7) as usize];
                at += 1;
            }
        }
        Ok(regions.len())
    }
}

/// Every family of layouts. 3.12's offsets stand for the later ones, with their way to the current frame.
fn layouts() -> Vec<Layout> {
    let mut all: Vec<Layout> = (8..=12)
        .map(|minor| *builtin(Minor(3, minor)).unwrap())
        .collect();
    let mut later = *builtin(Minor(3, 12)).unwrap();
    later.chain = FrameChain::CurrentFrame;
    all.push(later);
    later.thread.base_frame = Some(later.thread.frame + 8);
    later.interpreter.code_generation = Some(later.interpreter.id + 8);
    all.push(later);
    all
}

/// The offsets folded into the arena, so that its structures are reached at all.
fn folded(mut layout: Layout) -> Layout {
    layout.runtime.interpreters_head %= 512;
    layout
}

/// Words of which most point back into the arena, with just enough in place that the walk sets out: an interpreter and a
/// thread. Where the thread's frames are, and all that they hold, is arbitrary.
fn arena(layout: &Layout, random: &mut fastrand::Rng) -> Arena {
    let word = |random: &mut fastrand::Rng| match random.u8(0..9) {
        0..6 => START + 8 * random.u64(0..512),
        6..8 => random.u64(0..32),
        _ => random.u64(..),
    };
    let words: Vec<u64> = (0..512).map(|_| word(random)).collect();
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    let (interpreter, thread) = (START + 1024, START + 2048);
    for (address, value) in [
        (START + layout.runtime.interpreters_head, interpreter),
        (interpreter + layout.interpreter.next, 0),
        (interpreter + layout.interpreter.threads_head, thread),
        (thread + layout.thread.interpreter, interpreter),
        (thread + layout.thread.next, 0),
    ] {
        let at = usize::try_from(address - START).unwrap();
        bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    Arena(bytes)
}

/// Gives whether a stack was met.
fn sample_all<M: RemoteMemory>(memory: M, layout: Layout) -> bool {
    let mut sampler = Sampler::new(0, Stacks::new(memory, layout, Roots::Runtime(START), None));
    for _ in 0..3 {
        // Whether it fails does not matter here, only that it ends.
        let _ = sampler.sample(Duration::from_millis(1));
    }
    let batch = sampler.take_batch(Duration::from_millis(3));
    assert!(batch.counters.taken <= 3);
    !batch.observations.is_empty()
}

#[test]
fn a_small_arena_of_wild_pointers_is_sampled_to_the_end() {
    for (family, layout) in layouts().into_iter().enumerate() {
        let layout = folded(layout);
        let met = (0..1000)
            .filter(|seed| {
                let arena = arena(&layout, &mut fastrand::Rng::with_seed(*seed));
                sample_all(arena, layout)
            })
            .count();
        assert!(
            met > 100,
            "layout {family} met a stack in {met} of 1000 arenas"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn endless_noise_is_sampled_to_the_end(seed in any::<u64>(), family in 0_usize..7) {
        sample_all(Endless(seed), layouts()[family]);
    }
}

/// Threads, frames and code objects that are their own successors.
#[test]
fn a_memory_in_which_every_word_points_to_its_own_start_is_sampled_to_the_end() {
    for layout in layouts() {
        let length = 1 << 16;
        let bytes: Vec<u8> = START
            .to_le_bytes()
            .into_iter()
            .cycle()
            .take(length)
            .collect();
        sample_all(Arena(bytes), folded(layout));
    }
}
