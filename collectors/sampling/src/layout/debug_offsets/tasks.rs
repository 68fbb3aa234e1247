//! Where asyncio keeps its tasks: what `_asyncio` publishes about itself, and what of `_Py_DebugOffsets` is needed to follow
//! a coroutine that is suspended. 3.14 and later.
//!
//! `Py_AsyncioModuleDebugOffsets` in `Modules/_asynciomodule.c` is 13 words without a cookie, in a section `.AsyncioDebug` of the
//! library, or of the program that has `_asyncio` built in. Its symbol is not exported and sections are not mapped, so
//! it is known by what it says: the distances between the members are those of the structures, and no
//! other 13 words have them. To read the section's place in the file was the other way; it needs the file, which may be
//! removed by now or lie in another mount namespace.

use super::tables::{PYTHON_3_14, PYTHON_3_15};
use super::{LayoutError, OFFSET_LIMIT, Table};
use crate::layout::{Layout, Minor};
use crate::memory::Fields;

/// Bytes of `Py_AsyncioModuleDebugOffsets`.
pub(crate) const TASK_TABLE_SIZE: usize = 13 * 8;

/// No task object and no thread state is larger.
const LARGEST: u64 = 1 << 16;

/// All offsets that are needed to tell which asyncio task waits for which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskLayout {
    /// `TaskObj.task_name`.
    pub(crate) name: u64,
    /// `FutureObj.fut_awaited_by`: null, a future or task, or a set of them.
    pub(crate) awaited_by: u64,
    /// `FutureObj.fut_is_task`, a byte.
    pub(crate) is_task: u64,
    /// `FutureObj.fut_awaited_by_is_set`, a byte.
    pub(crate) awaited_by_is_set: u64,
    /// `TaskObj.task_coro`.
    pub(crate) coroutine: u64,
    /// `TaskObj.task_node`: links the tasks of a thread, its first word the next one.
    pub(crate) node: u64,
    /// `_PyThreadStateImpl.asyncio_running_loop`, followed by `asyncio_running_task`.
    pub(crate) running_loop: u64,
    /// `asyncio_tasks_head` behind them, a node.
    pub(crate) tasks_head: u64,
    /// `gi_iframe` in a generator or coroutine: its frame.
    pub(crate) generator_frame: u64,
    /// `gi_frame_state`, a signed byte.
    pub(crate) generator_state: u64,
    /// The value of that while it waits for another one, or for anything else that it awaits. Of a free-threaded
    /// build there are two.
    pub(crate) awaiting: [u8; 2],
    /// Its value while the generator runs, or waits for a function that it called.
    pub(crate) executing: u8,
    /// `_PyInterpreterFrame.stackpointer`.
    pub(crate) stack_pointer: u64,
    /// How far below the stack pointer what is awaited lies then.
    pub(crate) awaited: u64,
    /// `PySetObject.used`, followed by `mask` and `table`.
    pub(crate) set_used: u64,
    /// `PyTypeObject.tp_flags`.
    pub(crate) type_flags: u64,
}

impl TaskLayout {
    /// Whether the tasks of this version can be told.
    pub(crate) fn is_published_by(version: Minor) -> bool {
        version >= Minor(3, 14)
    }

    /// The layout of what an interpreter and its `_asyncio` publish, if `tasks` is the table of the latter. `offsets` are the
    /// bytes that `layout` is made of. Neither is trusted.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] where the interpreter's offsets cannot be, or are not those of a version that has them.
    pub(crate) fn read(
        layout: &Layout,
        offsets: &[u8],
        tasks: &[u8],
    ) -> Result<Option<Self>, LayoutError> {
        // `enum _framestate` in Include/internal/pycore_frame.h. While a generator awaits, 3.15 keeps another word above what
        // it awaits (Python/bytecodes.c, SEND).
        let (sections, awaiting, executing, awaited) = match layout.version {
            Minor(3, 14) => (PYTHON_3_14, [(-1_i8).cast_unsigned(); 2], 0, 8),
            Minor(3, 15) => (PYTHON_3_15, [2, 3], 4, 16),
            version => return Err(LayoutError::UnknownVersion(version)),
        };
        let Some(found) = Words::read(tasks) else {
            return Ok(None);
        };
        let table = Table {
            sections,
            bytes: offsets,
        };
        let layout = Self {
            name: found.name,
            awaited_by: found.awaited_by,
            is_task: found.is_task,
            awaited_by_is_set: found.awaited_by_is_set,
            coroutine: found.coroutine,
            node: found.node,
            running_loop: found.running_loop,
            tasks_head: found.tasks_head,
            generator_frame: table.word("gen_object.gi_iframe")?,
            generator_state: table.word("gen_object.gi_frame_state")?,
            awaiting,
            executing,
            stack_pointer: table.word("interpreter_frame.stackpointer")?,
            awaited,
            set_used: table.word("set_object.used")?,
            type_flags: table.word("type_object.tp_flags")?,
        };
        // What is read of a set is read at once.
        table.expect("set_object.mask", layout.set_used + 8)?;
        table.expect("set_object.table", layout.set_used + 16)?;
        if layout.generator_state >= layout.generator_frame {
            return Err(LayoutError::Implausible {
                field: "gen_object.gi_frame_state",
                value: layout.generator_state,
            });
        }
        Ok(Some(layout))
    }
}

/// The words of the table that are used.
struct Words {
    name: u64,
    awaited_by: u64,
    is_task: u64,
    awaited_by_is_set: u64,
    coroutine: u64,
    node: u64,
    running_loop: u64,
    tasks_head: u64,
}

impl Words {
    /// `None` where these bytes are anything else.
    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |number: u64| bytes.u64_at(8 * number);
        // Nearly all other words differ here, and megabytes of them are looked at.
        if word(3)?.wrapping_sub(word(2)?) != 12 {
            return None;
        }
        let (size, interpreter, thread) = (word(0)?, word(7)?, word(9)?);
        let (interpreter_tasks, running_task) = (word(8)?, word(11)?);
        let found = Self {
            name: word(1)?,
            awaited_by: word(2)?,
            is_task: word(3)?,
            awaited_by_is_set: word(4)?,
            coroutine: word(5)?,
            node: word(6)?,
            running_loop: word(10)?,
            tasks_head: word(12)?,
        };
        let bounded = size < LARGEST
            && thread < LARGEST
            && interpreter < OFFSET_LIMIT
            && interpreter_tasks < interpreter
            && found.tasks_head < thread
            // Below the limits, so that no sum here wraps.
            && [found.awaited_by, found.coroutine, found.running_loop]
                .iter()
                .all(|offset| *offset < LARGEST && offset.is_multiple_of(8));
        // task_awaited_by, task_state, task_is_task, task_awaited_by_is_set; then task_coro, task_name, task_context, task_node, and
        // in free-threaded builds a word more.
        let is_one = bounded
            && found.awaited_by >= 16
            && found.is_task == found.awaited_by + 12
            && found.awaited_by_is_set == found.is_task + 1
            && found.coroutine > found.awaited_by_is_set
            && found.name == found.coroutine + 8
            && found.node == found.name + 16
            && (found.node + 16..=found.node + 24).contains(&size)
            && running_task == found.running_loop + 8
            && (running_task + 8..=running_task + 64).contains(&found.tasks_head)
            && found.running_loop > 0;
        is_one.then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::examples;

    /// What a version publishes of itself and of its tasks.
    fn example(minor: u8) -> (Layout, Vec<u8>, Vec<u8>) {
        let offsets = examples::published(minor).unwrap();
        let tasks = examples::published_tasks(minor.max(14)).unwrap();
        (examples::of(minor).unwrap(), offsets, tasks)
    }

    #[test]
    fn the_table_is_known_by_its_distances() {
        for (minor, running_loop, tasks_head) in [(14, 864, 880), (15, 1024, 1048)] {
            let (layout, offsets, tasks) = example(minor);
            let read = |tasks: &[u8]| TaskLayout::read(&layout, &offsets, tasks);
            let found = read(&tasks).unwrap().unwrap();
            assert_eq!((found.name, found.node), (136, 152));
            assert_eq!(
                (found.running_loop, found.tasks_head),
                (running_loop, tasks_head)
            );
            assert_eq!((found.generator_frame, found.generator_state), (72, 67));
            assert_eq!(read(&tasks[..96]), Ok(None));
            assert_eq!(read(&[0xff; TASK_TABLE_SIZE]), Ok(None));
            assert_eq!(read(&[0; TASK_TABLE_SIZE]), Ok(None));
        }
        let (layout, offsets, tasks) = example(13);
        assert!(TaskLayout::read(&layout, &offsets, &tasks).is_err());
    }

    proptest! {
        /// With any other word it is another table, but for those from which nothing else follows.
        #[test]
        fn a_wrong_word_is_no_table(number in 0_usize..13, word in any::<u64>()) {
            let (layout, offsets, mut tasks) = example(14);
            let place = &mut tasks[8 * number..8 * number + 8];
            let same = *place == word.to_le_bytes();
            place.copy_from_slice(&word.to_le_bytes());
            let free = [7, 8, 9].contains(&number) || same;
            let near = number == 0 && (168..=176).contains(&word)
                || number == 12 && (880..936).contains(&word);
            let found = TaskLayout::read(&layout, &offsets, &tasks).unwrap();
            prop_assert!(found.is_none() || free || near, "{number} {word}");
        }
    }
}
