//! A code object, read once: what its function is called, where its lines are, how large its frames are.

use pystrobe_profile::Function;

use crate::code_identity::{Identity, offsets};
use crate::layout::{FrameSize, Layout};
use crate::line_table::LineTable;
use crate::memory::{Fields, ReadError, RemoteMemory};
use crate::strings::{read_c_string, read_string};
use crate::walk::At;

/// `CO_GENERATOR`, `CO_COROUTINE`, `CO_ITERABLE_COROUTINE`, `CO_ASYNC_GENERATOR` (`Include/cpython/code.h`).
const GENERATOR_FLAGS: u32 = 0x20 | 0x80 | 0x100 | 0x200;

/// What a sample needs to know of a code object, but for the name of its function.
#[derive(Debug)]
pub(crate) struct Code {
    /// Bytes that a frame of it takes on the data stack, where frames lie there.
    pub(crate) frame_size: Option<u64>,
    /// `co_nlocalsplus`, where frames lie on the data stack.
    pub(crate) locals: Option<u32>,
    /// Its frames live in generators or coroutines.
    pub(crate) generator: bool,
    /// It is the interpreter's own glue, which no traceback shows: `_Py_InitCleanup`, on which a class
    /// that is being called waits for its `__init__` (`Objects/codeobject.c`, 3.13 and later). Its file is
    /// called `__init__` like itself, and it has no line.
    pub(crate) hidden: bool,
    /// Addresses of its first instruction and of the end. Before 3.11 frames have offsets instead, and
    /// this is `None`.
    pub(crate) bytecode: Option<(u64, u64)>,
    first_line: u32,
    lines: LineTable,
    /// Bytes of the line table in the target, which bound those of `lines`.
    pub(crate) table_length: u64,
}

impl Code {
    /// The line that executes at an instruction, or the first line of the function where there is none.
    pub(crate) fn line(&self, at: At) -> u32 {
        let offset = match (at, self.bytecode) {
            (At::Offset(offset), _) => u32::try_from(offset).ok(),
            (At::Address(address), Some((start, _))) => address
                .checked_sub(start)
                .and_then(|offset| u32::try_from(offset).ok()),
            (At::Address(_), None) => None,
        };
        // A module's first instruction stands on line 0, which no editor can show.
        offset
            .and_then(|offset| self.lines.line_at(offset))
            .filter(|line| *line != 0)
            .unwrap_or(self.first_line)
    }
}

/// A code object and what it is.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) identity: Identity,
    pub(crate) function: Function,
    pub(crate) code: Code,
}

/// Reads the code object at `address`. Its first bytes are read again at the end: if they are still the
/// same, the names and lines that were read in between are its own. `code_type` is where `PyCode_Type`
/// lies, and is found out where it is not known. A line table of more than `room` bytes is not believed.
pub(crate) fn describe<M: RemoteMemory>(
    memory: &M,
    layout: &Layout,
    address: u64,
    code_type: &mut Option<u64>,
    room: u64,
) -> Result<Description, ReadError> {
    let fields = &layout.code;
    let head = memory.read_vec(address, head_length(layout))?;
    let implausible = ReadError::Implausible {
        address,
        expected: "a code object",
    };
    let field = |offset| head.u64_at(offset).ok_or(implausible);
    let number = |offset| head.u32_at(offset).ok_or(implausible);
    if !is_code(memory, layout, field(layout.object.ob_type)?, code_type)? {
        return Err(implausible);
    }
    // Before the names: they are its own only if they were read between two proofs that agree.
    let identity = Identity::read(memory, layout, address, &head)?;
    let first_line = number(fields.first_line)?;
    let function = Function {
        file: read_string(memory, layout, field(fields.filename)?)?,
        first_line,
        name: read_string(memory, layout, field(fields.name)?)?,
        qualified_name: match fields.qualname {
            Some(offset) => read_string(memory, layout, field(offset)?)?,
            None => String::new(),
        },
    };
    let (lines, table_length) =
        read_lines(memory, layout, field(fields.line_table)?, first_line, room)?;
    let hidden = first_line == 0 && function.name == "__init__" && function.file == "__init__";
    let code = Code {
        hidden,
        frame_size: match fields.frame_size {
            FrameSize::Stored(offset) => Some(8 * u64::from(number(offset)?)),
            FrameSize::Computed {
                nlocalsplus,
                stacksize,
            } => {
                let slots = u64::from(number(nlocalsplus)?) + u64::from(number(stacksize)?);
                Some(layout.frame.size + 8 * slots)
            }
            FrameSize::None => None,
        },
        // Behind co_firstlineno from 3.12 on (Include/cpython/code.h).
        locals: match fields.frame_size {
            FrameSize::Computed { nlocalsplus, .. } => Some(number(nlocalsplus)?),
            FrameSize::Stored(_) => Some(number(fields.first_line + 4)?),
            FrameSize::None => None,
        },
        generator: number(fields.flags)? & GENERATOR_FLAGS != 0,
        bytecode: match fields.bytecode {
            Some(offset) => {
                let start = address.checked_add(offset).ok_or(implausible)?;
                // A code object is of variable size, and its size counts code units of two bytes.
                let units = field(layout.object.bytes_size)?;
                Some((start, start.saturating_add(units.saturating_mul(2))))
            }
            None => None,
        },
        first_line,
        lines,
        table_length,
    };
    let again = memory.read_vec(address, head.len())?;
    if Identity::read(memory, layout, address, &again)? != identity {
        return Err(implausible);
    }
    Ok(Description {
        identity,
        function,
        code,
    })
}

fn is_code<M: RemoteMemory>(
    memory: &M,
    layout: &Layout,
    ob_type: u64,
    code_type: &mut Option<u64>,
) -> Result<bool, ReadError> {
    if let Some(known) = code_type {
        return Ok(*known == ob_type);
    }
    let name = memory.read_u64(ob_type.wrapping_add(layout.object.tp_name))?;
    let is_code = read_c_string(memory, name)? == "code";
    if is_code {
        *code_type = Some(ob_type);
    }
    Ok(is_code)
}

/// Bytes of a code object up to the last field of interest.
fn head_length(layout: &Layout) -> usize {
    let fields = &layout.code;
    let sizes = match fields.frame_size {
        FrameSize::Stored(offset) => [offset, 0],
        FrameSize::Computed {
            nlocalsplus,
            stacksize,
        } => [nlocalsplus, stacksize],
        FrameSize::None => [0, 0],
    };
    let last = offsets(fields)
        .chain(sizes)
        .chain(fields.qualname)
        .chain([
            layout.object.ob_type,
            layout.object.bytes_size,
            fields.flags,
        ])
        .max()
        .unwrap_or(0);
    usize::try_from(last + 8).unwrap_or(0)
}

fn read_lines<M: RemoteMemory>(
    memory: &M,
    layout: &Layout,
    table: u64,
    first_line: u32,
    room: u64,
) -> Result<(LineTable, u64), ReadError> {
    let implausible = ReadError::Implausible {
        address: table,
        expected: "a line table",
    };
    let length = memory.read_u64(table.wrapping_add(layout.object.bytes_size))?;
    let size = usize::try_from(length)
        .ok()
        .filter(|_| length <= room)
        .ok_or(implausible)?;
    let bytes = memory.read_vec(table.wrapping_add(layout.object.bytes_data), size)?;
    let lines = LineTable::decode(layout.code.line_table_kind, &bytes, first_line);
    Ok((lines, length))
}
