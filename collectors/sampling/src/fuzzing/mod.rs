//! The sampler on arbitrary memory. Bytes, from a fuzzer or a test, tell what an interpreter is and what happens
//! to it; its stacks are sampled, and this must come to an end, in bounded time and memory.
//!
//! The first byte chooses the version. The bits of the second say whether the interpreter's objects are as they should be
//! or arbitrary words (the next eight bytes are their seed), and whether it runs while it is read. Each five bytes that
//! follow are a change: mostly of a field that means something, to an address at which something is.

mod arena;
mod planted;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use pystrobe_profile::{Batch, Builder, Process};

use crate::discovery::Roots;
use crate::layout::examples;
use crate::sampler::Sampler;
use crate::stacks::Stacks;

use arena::{Arena, Change, START, Shared};
use planted::Planter;

/// The versions that there are layouts of: 3.8 and so many more.
const VERSIONS: u8 = 8;
/// Samples while it changes; after the last change there are three more.
const MAX_SAMPLES: usize = 12;
/// More than any arena has needed for one sample: there are not so many bytes at which something could start.
const MAX_CALLS: u64 = 1 << 18;
const MAX_COPIED: u64 = 1 << 30;

/// What came of sampling.
#[derive(Debug)]
pub struct Outcome {
    /// All that was told.
    pub batch: Batch,
    /// Samples that failed as a whole.
    pub failed: usize,
    /// Reads of memory.
    pub calls: u64,
}

/// Samples what `bytes` make up.
///
/// # Panics
///
/// Where a sample takes too long, or tells what contradicts itself: what a fuzzer looks for.
#[must_use]
pub fn sample(bytes: &[u8]) -> Option<Outcome> {
    let [version, mode, rest @ ..] = bytes else {
        return None;
    };
    let layout = examples::of(8 + version % VERSIONS)?;
    let mut arena = Arena::new();
    let wild = mode & 1 != 0;
    let mut rest = rest;
    if wild {
        let (seed, behind) = rest.split_first_chunk()?;
        arena.scramble(u64::from_le_bytes(*seed));
        rest = behind;
    }
    let mut planter = Planter {
        arena: &mut arena,
        layout: &layout,
    };
    let lists = planter.lists();
    if !wild {
        planter.contents(&lists);
    }
    arena.runs = mode & 2 != 0;
    arena.changes = rest
        .as_chunks()
        .0
        .iter()
        .filter_map(|each| change(&arena, *each))
        .collect();

    let arena = Rc::new(RefCell::new(arena));
    let memory = Shared(Rc::clone(&arena));
    let stacks = Stacks::new(memory, layout, Roots::Runtime(lists.runtime), None);
    let mut sampler = Sampler::new(0, stacks, None);
    let mut builder = Builder::new(vec![Process {
        pid: 0,
        command: String::new(),
        python: String::new(),
    }]);
    let mut outcome = Outcome {
        batch: Batch::default(),
        failed: 0,
        calls: 0,
    };
    let mut after = 0;
    for _ in 0..MAX_SAMPLES {
        let (calls, copied) = {
            let mut arena = arena.borrow_mut();
            if !arena.runs {
                arena.settle();
            }
            after += usize::from(arena.changes.is_empty());
            (arena.calls, arena.copied)
        };
        outcome.failed += usize::from(sampler.sample(Duration::from_millis(1)).is_err());
        sampler.refresh_names();
        {
            let arena = arena.borrow();
            assert!(
                arena.calls - calls < MAX_CALLS,
                "{} calls",
                arena.calls - calls
            );
            assert!(
                arena.copied - copied < MAX_COPIED,
                "{} bytes",
                arena.copied - copied
            );
            outcome.calls = arena.calls;
        }
        let batch = sampler.take_batch(Duration::from_millis(1));
        assert!(builder.apply(&batch).is_ok(), "a batch contradicts itself");
        append(&mut outcome.batch, batch);
        if after > 3 {
            break;
        }
    }
    Some(outcome)
}

fn append(all: &mut Batch, mut news: Batch) {
    all.functions.append(&mut news.functions);
    all.threads.append(&mut news.threads);
    all.renamed.append(&mut news.renamed);
    all.nodes.append(&mut news.nodes);
    all.observations.append(&mut news.observations);
    all.counters = news.counters;
    all.elapsed = news.elapsed;
}

/// What five bytes mean: what happens, where, and what is put there.
fn change(arena: &Arena, [kind, place, place_high, low, high]: [u8; 5]) -> Option<Change> {
    let place = u16::from_le_bytes([place, place_high]);
    let value = u16::from_le_bytes([low, high]);
    let chosen = |from: &[u64], index: u16| from.get(usize::from(index) % from.len()).copied();
    let field = chosen(&arena.fields, place);
    let block = chosen(&arena.blocks, value);
    let bytes = |address, value, width| {
        Some(Change::Bytes {
            address,
            value,
            width,
        })
    };
    match kind % 9 {
        // What leads to one thing leads to another.
        0 => bytes(field?, block?, 8),
        1 => bytes(field?, value.into(), 8),
        // Negative, and out of reach.
        2 => bytes(field?, i64::from(value.cast_signed()).cast_unsigned(), 8),
        3 => bytes(field?, u64::from(value) << (kind / 4), 8),
        4 => bytes(field?, value.into(), 4),
        // Somewhere near the start of something, where types, links and owners are.
        5 => bytes(
            block?.wrapping_add(u64::from(place) % 128),
            (place / 128).into(),
            1,
        ),
        6 => bytes(START.wrapping_add(place.into()) & !7, value.into(), 8),
        7 => Some(Change::Page { page: place.into() }),
        _ => Some(Change::Rest),
    }
}
