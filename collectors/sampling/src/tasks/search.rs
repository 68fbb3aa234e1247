//! Finds where a process has its asyncio tasks: the table that `_asyncio` publishes.
//!
//! It is a library that is loaded when the program imports asyncio, which may be late or never; or it is part of the
//! program. So it is looked for until it is found, which takes one look at the list of what is mapped.

use std::fs;
use std::time::{Duration, Instant};

use crate::elf::{DataSegment, Image};
use crate::layout::{DEBUG_OFFSETS_SIZE, Layout, TASK_TABLE_SIZE, TaskLayout};
use crate::maps::{self, MappedImage};
use crate::memory::{ReadError, RemoteMemory};
use crate::python_image::search;

/// Between two looks, at least.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// To read the list takes at most one part in so many of the time.
const SHARE: u32 = 50;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct TaskSearch {
    pid: u32,
    /// When to look again; times count from the start of the recording.
    next: Duration,
    /// Where images are mapped that do not have it.
    without: Vec<u64>,
}

impl TaskSearch {
    pub(crate) fn new(pid: u32) -> Self {
        Self {
            pid,
            next: Duration::ZERO,
            without: Vec::new(),
        }
    }

    /// The layout of the tasks, if they are found now. `runtime` is the address of `_PyRuntime`.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        memory: &impl RemoteMemory,
        layout: &Layout,
        runtime: u64,
    ) -> Option<TaskLayout> {
        if now < self.next {
            return None;
        }
        let began = Instant::now();
        let maps = fs::read(format!("/proc/{}/maps", self.pid)).ok()?;
        let images = maps::images(&maps);
        // Images are searched once, which is not to count for later.
        self.next = now + LOOK_EVERY.max(began.elapsed() * SHARE);
        let found = self.find(memory, layout, runtime, &images);
        // What cannot be read now is looked at again: an image may be mapped only in part.
        found.ok().flatten()
    }

    fn find(
        &mut self,
        memory: &impl RemoteMemory,
        layout: &Layout,
        runtime: u64,
        images: &[MappedImage],
    ) -> Result<Option<TaskLayout>, ReadError> {
        // The program or library with the interpreter in it, which may have `_asyncio` built in.
        let interpreter = images.iter().rfind(|image| image.base <= runtime);
        let libraries = images.iter().filter(|image| image.is_called("_asyncio"));
        let bases: Vec<u64> = libraries
            .chain(interpreter)
            .map(|image| image.base)
            .filter(|base| !self.without.contains(base))
            .collect();
        for base in bases {
            let image = Image::read(memory, base)?;
            if let Some(found) = table(memory, layout, runtime, &image.data)? {
                return Ok(Some(found));
            }
            self.without.push(base);
        }
        Ok(None)
    }
}

/// The table, if it is in these data.
fn table(
    memory: &impl RemoteMemory,
    layout: &Layout,
    runtime: u64,
    data: &[DataSegment],
) -> Result<Option<TaskLayout>, ReadError> {
    let offsets = memory.read_vec(runtime, DEBUG_OFFSETS_SIZE)?;
    let initialised = data.iter().map(|data| (data.address, data.initialised));
    search(memory, initialised, TASK_TABLE_SIZE, |_, bytes| {
        let found = (0..bytes.len()).step_by(8).find_map(|start| {
            let words = bytes.get(start..start + TASK_TABLE_SIZE)?;
            TaskLayout::read(layout, &offsets, words).transpose()
        });
        // Offsets of the interpreter that cannot be will not become any better.
        found?.ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::examples;
    use crate::process_memory::ProcessMemory;

    #[test]
    fn it_is_found_in_data() {
        let memory = ProcessMemory::new(std::process::id());
        let offsets = examples::published(14).unwrap();
        let layout = examples::of(14).unwrap();
        let mut words = vec![7_u64; 300];
        let find = |words: &[u64]| {
            let data = DataSegment {
                address: words.as_ptr() as u64,
                initialised: 8 * words.len() as u64,
                zeroed: 0,
            };
            table(&memory, &layout, offsets.as_ptr() as u64, &[data])
        };
        assert_eq!(find(&words), Ok(None));
        let published = examples::published_tasks(14).unwrap();
        for (place, word) in words[200..].iter_mut().zip(published.as_chunks().0) {
            *place = u64::from_le_bytes(*word);
        }
        let found = find(&words).unwrap().unwrap();
        assert_eq!((found.running_loop, found.tasks_head), (864, 880));
        // At the very end, and cut off there.
        assert!(find(&words[..213]).unwrap().is_some());
        assert_eq!(find(&words[..212]), Ok(None));
    }

    #[test]
    fn it_is_not_looked_for_all_the_time() {
        let mut search = TaskSearch::new(std::process::id());
        let memory = ProcessMemory::new(std::process::id());
        let layout = examples::of(14).unwrap();
        assert_eq!(search.look(Duration::ZERO, &memory, &layout, 0), None);
        assert!(search.next >= LOOK_EVERY);
        let next = search.next;
        assert_eq!(search.look(next / 2, &memory, &layout, 0), None);
        assert_eq!(search.next, next);
    }
}
