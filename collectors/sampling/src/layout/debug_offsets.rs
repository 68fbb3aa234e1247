//! The layout that CPython 3.13 and later publish about themselves: `_Py_DebugOffsets`, the first member of
//! `_PyRuntime`.
//!
//! It is a cookie, the version and then 64-bit words, one an offset, in an order that each minor version has of its
//! own and keeps: `tables` has the names of the words, and one function reads them all.
//!
//! What a version does not publish is derived from a neighbour that it does publish, and the same in
//! free-threaded builds: see `layout_from`. `generate/row.c` compiles against the headers to prove each.

mod tables;
mod tasks;

pub(crate) use tasks::{TASK_TABLE_SIZE, TaskLayout};

use thiserror::Error;

use self::tables::{PYTHON_3_13, PYTHON_3_14, PYTHON_3_15, Section, size};
use super::{
    CodeLayout, ExceptionLayout, FrameChain, FrameLayout, FrameSize, GilLayout, GilPlace,
    Instruction, InterpreterLayout, Layout, LineTableKind, Minor, ObjectLayout, RuntimeLayout,
    ThreadLocalBytecode, ThreadStateLayout, UnicodeLayout,
};
use crate::memory::Fields;

/// How many bytes [`from_debug_offsets`] needs, from the start of `_PyRuntime`.
pub const DEBUG_OFFSETS_SIZE: usize = {
    let (of_3_13, of_3_14, of_3_15) = (size(PYTHON_3_13), size(PYTHON_3_14), size(PYTHON_3_15));
    let longer = if of_3_13 > of_3_14 { of_3_13 } else { of_3_14 };
    if longer > of_3_15 { longer } else { of_3_15 }
};

/// No structure of CPython is larger: `PyInterpreterState`, the largest, has some 400 KiB.
const OFFSET_LIMIT: u64 = 1 << 20;

/// The `FRAME_OWNED_BY_CSTACK` of 3.13 and the `FRAME_OWNED_BY_INTERPRETER` since.
const SHIM_OWNER: u8 = 3;

/// Why the head of `_PyRuntime` gives no layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// Fewer bytes than the version's table has.
    #[error("the table of debug offsets is cut off")]
    TooShort,
    /// The bytes do not start with `xdebugpy`: it is before 3.13, or not `_PyRuntime`.
    #[error("there is no table of debug offsets")]
    NoTable,
    /// A version whose table is not known: 3.16 and later.
    #[error("the debug offsets of Python {}.{} are not known", .0.0, .0.1)]
    UnknownVersion(Minor),
    /// An offset that cannot be, or that contradicts another.
    #[error("the debug offset {field} cannot be {value}")]
    Implausible {
        /// The member of `_Py_DebugOffsets`.
        field: &'static str,
        /// What it says.
        value: u64,
    },
}

/// The layout that an interpreter publishes.
///
/// `bytes` are the first [`DEBUG_OFFSETS_SIZE`] of its `_PyRuntime`; they are not trusted.
///
/// # Errors
///
/// Every [`LayoutError`]; `UnknownVersion` says which version it would have been.
pub fn from_debug_offsets(bytes: &[u8]) -> Result<Layout, LayoutError> {
    if bytes.get(..8) != Some(b"xdebugpy") {
        return Err(LayoutError::NoTable);
    }
    // PY_VERSION_HEX: a byte each for major, minor and micro, then the release level.
    let hex = bytes.u64_at(8).ok_or(LayoutError::TooShort)?;
    let [_, _, minor, major, 0, 0, 0, 0] = hex.to_le_bytes() else {
        return Err(LayoutError::Implausible {
            field: "head.version",
            value: hex,
        });
    };
    let version = Minor(major, minor);
    let sections = match version {
        Minor(3, 13) => PYTHON_3_13,
        Minor(3, 14) => PYTHON_3_14,
        Minor(3, 15) => PYTHON_3_15,
        _ => return Err(LayoutError::UnknownVersion(version)),
    };
    layout_from(version, &Table { sections, bytes })
}

/// The published words with their names.
struct Table<'a> {
    sections: &'static [Section],
    bytes: &'a [u8],
}

impl Table<'_> {
    /// The word called `name` ("section.member"), or `None` where this version does not publish it.
    fn published(&self, name: &'static str) -> Result<Option<u64>, LayoutError> {
        let mut position = 0;
        for (section, members) in self.sections {
            for member in *members {
                if name
                    .strip_prefix(section)
                    .and_then(|rest| rest.strip_prefix('.'))
                    == Some(*member)
                {
                    let value = self.bytes.u64_at(position).ok_or(LayoutError::TooShort)?;
                    return if value < OFFSET_LIMIT {
                        Ok(Some(value))
                    } else {
                        Err(LayoutError::Implausible { field: name, value })
                    };
                }
                position += 8;
            }
        }
        Ok(None)
    }

    /// The word called `name`, which every version publishes.
    fn word(&self, name: &'static str) -> Result<u64, LayoutError> {
        // A name that is in no list is a mistake of this file, which the tests of each version would show.
        self.published(name)?.ok_or(LayoutError::TooShort)
    }

    /// The distance from the word `base` to the word `name` behind it.
    fn distance(&self, base: &'static str, name: &'static str) -> Result<u64, LayoutError> {
        let value = self.word(name)?;
        value
            .checked_sub(self.word(base)?)
            .ok_or(LayoutError::Implausible { field: name, value })
    }

    /// Fails unless the word `name` is `expected`.
    fn expect(&self, name: &'static str, expected: u64) -> Result<(), LayoutError> {
        match self.word(name)? {
            value if value == expected => Ok(()),
            value => Err(LayoutError::Implausible { field: name, value }),
        }
    }
}

fn layout_from(version: Minor, table: &Table) -> Result<Layout, LayoutError> {
    let free_threaded = match table.word("head.free_threaded")? {
        0 => false,
        1 => true,
        value => {
            return Err(LayoutError::Implausible {
                field: "head.free_threaded",
                value,
            });
        }
    };

    // Every object starts with a PyObject, and what follows it is known. Words that contradict that are
    // from a pre-release whose table was another, or are no table at all.
    let header = table.word("pyobject.size")?;
    table.expect("bytes_object.ob_size", header)?;
    table.expect("unicode_object.length", header)?;
    table.expect("type_object.tp_name", header + 8)?;

    // In PyCodeObject (Include/cpython/code.h): co_flags is before argcount, and behind firstlineno come
    // nlocalsplus, framesize, nlocals, ncellvars, nfreevars and version, each of 4 bytes.
    let first_line = table.word("code_object.firstlineno")?;
    let argcount = table.word("code_object.argcount")?;
    let flags = argcount.checked_sub(4).ok_or(LayoutError::Implausible {
        field: "code_object.argcount",
        value: argcount,
    })?;
    let frame_size = FrameSize::Stored(first_line + 8);
    let code_version = Some(first_line + 24);

    // In PyASCIIObject (Include/cpython/unicodeobject.h): length, hash, state. PyCompactUnicodeObject adds
    // utf8_length and utf8; 3.15 publishes its size.
    let unicode_length = table.word("unicode_object.length")?;
    let ascii_data = table.word("unicode_object.asciiobject_size")?;
    let compact_data = match table.published("unicode_object.compactunicodeobject_size")? {
        Some(size) => size,
        None => ascii_data + 16,
    };

    // Below `kind` is `interned`: two bits, but a byte of its own in free-threaded builds of 3.14 and later.
    let kind_bit = if free_threaded && version >= Minor(3, 14) {
        8
    } else {
        2
    };

    // The published place of the GIL's members is that in the interpreter's own GIL; ceval.gil points to the
    // one that is in use, which may be the main interpreter's.
    let gil = GilLayout {
        place: GilPlace::Interpreter(table.word("interpreter_state.ceval_gil")?),
        last_holder: table.distance(
            "interpreter_state.gil_runtime_state",
            "interpreter_state.gil_runtime_state_holder",
        )?,
        locked: table.distance(
            "interpreter_state.gil_runtime_state",
            "interpreter_state.gil_runtime_state_locked",
        )?,
    };

    // Zero in builds with the GIL, where neither member exists.
    let thread_local_bytecode = match (
        table.published("interpreter_frame.tlbc_index")?,
        table.published("code_object.co_tlbc")?,
    ) {
        (Some(frame_index), Some(code_array)) if free_threaded => Some(ThreadLocalBytecode {
            frame_index,
            code_array,
        }),
        _ => None,
    };

    // In PyThreadState (Include/cpython/pystate.h): current_exception, exc_info, dict, gilstate_counter, async_exc, thread_id,
    // each of 8 bytes. 3.15 publishes the first of them.
    let thread_id = table.word("thread_state.thread_id")?;
    let handled = thread_id.checked_sub(32).ok_or(LayoutError::Implausible {
        field: "thread_state.thread_id",
        value: thread_id,
    })?;
    let raised = match table.published("thread_state.current_exception")? {
        Some(offset) => offset,
        None => handled.saturating_sub(8),
    };

    Ok(Layout {
        version,
        free_threaded,
        chain: FrameChain::CurrentFrame,
        runtime: RuntimeLayout {
            interpreters_head: table.word("runtime_state.interpreters_head")?,
            finalizing: table.word("runtime_state.finalizing")?,
        },
        gil,
        interpreter: InterpreterLayout {
            id: table.word("interpreter_state.id")?,
            next: table.word("interpreter_state.next")?,
            threads_head: table.word("interpreter_state.threads_head")?,
            modules: table.word("interpreter_state.imports_modules")?,
            gc_collecting: Some(table.word("interpreter_state.gc")? + table.word("gc.collecting")?),
            code_generation: table.published("interpreter_state.code_object_generation")?,
        },
        thread: ThreadStateLayout {
            next: table.word("thread_state.next")?,
            interpreter: table.word("thread_state.interp")?,
            frame: table.word("thread_state.current_frame")?,
            thread_id,
            native_thread_id: Some(table.word("thread_state.native_thread_id")?),
            datastack_chunk: Some(table.word("thread_state.datastack_chunk")?),
            base_frame: table.published("thread_state.base_frame")?,
        },
        exception: ExceptionLayout {
            raised,
            handled,
            previous_item: 8,
        },
        frame: FrameLayout {
            previous: table.word("interpreter_frame.previous")?,
            code: table.word("interpreter_frame.executable")?,
            instruction: Instruction::Pointer(table.word("interpreter_frame.instr_ptr")?),
            owner: Some(table.word("interpreter_frame.owner")?),
            shim_owner: SHIM_OWNER,
            size: table.word("interpreter_frame.localsplus")?,
        },
        code: CodeLayout {
            filename: table.word("code_object.filename")?,
            name: table.word("code_object.name")?,
            qualname: Some(table.word("code_object.qualname")?),
            line_table: table.word("code_object.linetable")?,
            line_table_kind: LineTableKind::Locations,
            first_line,
            flags,
            bytecode: Some(table.word("code_object.co_code_adaptive")?),
            code_bytes: None,
            frame_size,
            version: code_version,
        },
        object: ObjectLayout {
            ob_type: table.word("pyobject.ob_type")?,
            tp_name: table.word("type_object.tp_name")?,
            bytes_size: table.word("bytes_object.ob_size")?,
            bytes_data: table.word("bytes_object.ob_sval")?,
        },
        unicode: UnicodeLayout {
            length: unicode_length,
            hash: unicode_length + 8,
            state: table.word("unicode_object.state")?,
            kind_bit,
            ascii_data,
            compact_data,
        },
        thread_local_bytecode,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The table of a free-threaded 3.14 whose members lie 8 bytes apart, in the order of the table.
    fn table(minor: u8, sections: &[Section]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (section, members) in sections {
            for (index, member) in members.iter().enumerate() {
                let value = match (*section, *member) {
                    ("head", "cookie") => u64::from_le_bytes(*b"xdebugpy"),
                    ("head", "version") => u64::from_le_bytes([0xf0, 2, minor, 3, 0, 0, 0, 0]),
                    ("head", "free_threaded") => 1,
                    ("pyobject", "size") => 32,
                    ("bytes_object", "ob_size") | ("unicode_object", "length") => 32,
                    ("type_object", "tp_name") => 40,
                    _ => 8 * index as u64,
                };
                bytes.extend(value.to_le_bytes());
            }
        }
        bytes.resize(DEBUG_OFFSETS_SIZE, 0xff);
        bytes
    }

    /// Overwrites the word called `name`.
    fn put(bytes: &mut [u8], sections: &[Section], name: &str, value: u64) {
        let names = sections.iter().flat_map(|(section, members)| {
            members
                .iter()
                .map(move |member| format!("{section}.{member}"))
        });
        let index = names.into_iter().position(|each| each == name).unwrap();
        bytes[8 * index..][..8].copy_from_slice(&value.to_le_bytes());
    }

    #[test]
    fn each_version_has_its_own_table() {
        let of_3_13 = from_debug_offsets(&table(13, PYTHON_3_13)).unwrap();
        let of_3_14 = from_debug_offsets(&table(14, PYTHON_3_14)).unwrap();
        let of_3_15 = from_debug_offsets(&table(15, PYTHON_3_15)).unwrap();
        assert_eq!(of_3_13.version, Minor(3, 13));
        // `ceval_gil` is the ninth member, and the tenth since `threads_main` came before it.
        assert_eq!(of_3_13.gil.place, GilPlace::Interpreter(64));
        assert_eq!(of_3_14.gil.place, GilPlace::Interpreter(72));
        assert_eq!(of_3_13.thread.thread_id, 40);
        assert_eq!(of_3_15.thread.thread_id, 64);
        assert_eq!(
            (of_3_14.thread.base_frame, of_3_15.thread.base_frame),
            (None, Some(40))
        );
        assert_eq!((of_3_13.unicode.kind_bit, of_3_14.unicode.kind_bit), (2, 8));
        assert_eq!(of_3_13.thread_local_bytecode, None);
        let copies = ThreadLocalBytecode {
            frame_index: 56,
            code_array: 80,
        };
        assert_eq!(of_3_14.thread_local_bytecode, Some(copies));
        assert_eq!(
            (of_3_14.unicode.compact_data, of_3_15.unicode.compact_data),
            (40, 32)
        );
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let good = table(14, PYTHON_3_14);
        assert_eq!(from_debug_offsets(b""), Err(LayoutError::NoTable));
        assert_eq!(
            from_debug_offsets(&[0; DEBUG_OFFSETS_SIZE]),
            Err(LayoutError::NoTable)
        );
        assert_eq!(from_debug_offsets(&good[..8]), Err(LayoutError::TooShort));
        assert_eq!(from_debug_offsets(&good[..600]), Err(LayoutError::TooShort));
    }

    #[test]
    fn a_version_that_is_not_known_is_named() {
        for minor in [12, 16, 255] {
            let error = from_debug_offsets(&table(minor, PYTHON_3_15)).unwrap_err();
            assert_eq!(error, LayoutError::UnknownVersion(Minor(3, minor)));
        }
        let error = from_debug_offsets(&table(16, PYTHON_3_15)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the debug offsets of Python 3.16 are not known"
        );
    }

    #[test]
    fn words_that_cannot_be_are_named() {
        for (name, value) in [
            ("head.version", 0x1_0003_0e00_00f0),
            ("head.free_threaded", 2),
            ("runtime_state.interpreters_head", OFFSET_LIMIT),
            ("interpreter_state.gil_runtime_state_locked", 8),
            ("code_object.argcount", 3),
            ("code_object.co_code_adaptive", u64::MAX),
            ("bytes_object.ob_size", 24),
            ("type_object.tp_name", 32),
        ] {
            let mut bytes = table(14, PYTHON_3_14);
            put(&mut bytes, PYTHON_3_14, name, value);
            match from_debug_offsets(&bytes) {
                Err(LayoutError::Implausible { field, value: told }) => {
                    assert_eq!((field, told), (name, value));
                }
                other => panic!("{name} = {value}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_words_never_panic(words in prop::collection::vec(0..1_u64 << 21, 0..120), minor in 13..17_u8) {
            let mut bytes = table(minor, PYTHON_3_15)[..24].to_vec();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            let _ = from_debug_offsets(&bytes);
        }
    }
}
