//! What tasks are called, as frames.
//!
//! A name that the program gave is told. One that asyncio made up (`Task-7`; kept as a number until somebody asks for it) is not: a
//! server makes a task for each request, and each would be a stack of its own that says no more than the coroutine in it.

use pystrobe_profile::FunctionId;
use rustc_hash::FxHashMap;

use crate::codes::Functions;
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::strings::read_string;

use super::reader::Reader;

/// `Py_TPFLAGS_LONG_SUBCLASS`.
const IS_INTEGER: u64 = 1 << 24;
/// A task whose name says nothing.
const UNNAMED: &str = "<task>";
/// Tasks with one name more than are told.
const OTHER: &str = "<other tasks>";
/// Different names that are told. Each makes stacks of its own, and a program may number its tasks itself.
const MAX_NAMES: usize = 1000;
/// Characters of a name that are told.
const MAX_LENGTH: usize = 200;
/// Name objects that are remembered.
const MAX_REMEMBERED: usize = 1 << 12;
/// Characters of a name object that have to be the same as they were.
const MAX_COMPARED: u64 = 256;

/// A name object that was read.
#[derive(Debug)]
struct Known {
    /// Its bytes from its type on: while these are the same, so is the name.
    bytes: Box<[u8]>,
    function: FunctionId,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_address: FxHashMap<u64, Known>,
    told: FxHashMap<String, FunctionId>,
}

impl Names {
    /// The function that stands for a task whose name object is at an address.
    pub(super) fn function<M: RemoteMemory>(
        &mut self,
        reader: &mut Reader<'_, M>,
        functions: &mut Functions,
        address: u64,
    ) -> Result<FunctionId, ReadError> {
        let start = address.wrapping_add(reader.layout.object.ob_type);
        if let Some(known) = self.by_address.get(&address)
            && let Ok(bytes) = reader.bytes(start, known.bytes.len() as u64)
            && *bytes == *known.bytes
        {
            return Ok(known.function);
        }
        let (name, bytes) = match read(reader, address) {
            Ok(found) => found,
            // It is being made, or is not a name any more.
            Err(ReadError::Fault(_) | ReadError::Implausible { .. }) => {
                return Ok(functions.synthetic(UNNAMED));
            }
            Err(error) => return Err(error),
        };
        let function = match name.filter(|name| !is_made_up(name)) {
            Some(name) => self.tell(functions, &name),
            None => functions.synthetic(UNNAMED),
        };
        if self.by_address.len() >= MAX_REMEMBERED {
            self.by_address.clear();
        }
        self.by_address.insert(address, Known { bytes, function });
        Ok(function)
    }

    fn tell(&mut self, functions: &mut Functions, name: &str) -> FunctionId {
        if let Some(function) = self.told.get(name) {
            return *function;
        }
        if self.told.len() >= MAX_NAMES {
            return functions.synthetic(OTHER);
        }
        let mut label: String = name.chars().take(MAX_LENGTH).collect();
        if label.len() < name.len() {
            label.push('…');
        }
        let function = functions.synthetic(&format!("<task {label}>"));
        self.told.insert(name.to_owned(), function);
        function
    }
}

/// A name and the bytes that are proof of it; `None` where it is a number.
fn read<M: RemoteMemory>(
    reader: &mut Reader<'_, M>,
    address: u64,
) -> Result<(Option<String>, Box<[u8]>), ReadError> {
    let (layout, memory) = (reader.layout, reader.memory);
    let ob_type = layout.object.ob_type;
    let start = address.wrapping_add(ob_type);
    let fault = ReadError::Fault(address);
    let kind = reader.bytes(start, 8)?.u64_at(0).ok_or(fault)?;
    let flags = memory.read_u64(kind.wrapping_add(reader.fields.type_flags))?;
    if flags & IS_INTEGER != 0 {
        // Whatever the number is.
        let bytes = reader.bytes(start, 8)?;
        return Ok((None, bytes.into()));
    }
    let fields = layout.unicode;
    let head = reader.bytes(start, fields.ascii_data - ob_type)?;
    let length = head.u64_at(fields.length - ob_type).ok_or(fault)?;
    let state = head.u32_at(fields.state - ob_type).ok_or(fault)?;
    let state = state.checked_shr(fields.kind_bit.into()).unwrap_or(0);
    let data = match state & 0b1_1000 {
        0b1_1000 => Some(fields.ascii_data),
        0b0_1000 => Some(fields.compact_data),
        // Of a subclass: the characters are elsewhere, and then its head has to do.
        _ => None,
    };
    let Some(data) = data else {
        let bytes = head.into();
        return Ok((Some(read_string(memory, layout, address)?), bytes));
    };
    let characters = length.min(MAX_COMPARED) * u64::from(state & 0b111);
    let bytes: Box<[u8]> = reader.bytes(start, data - ob_type + characters)?.into();
    if length > MAX_COMPARED {
        return Ok((Some(read_string(memory, layout, address)?), bytes));
    }
    let object = Object {
        start,
        bytes: &bytes,
    };
    let name = read_string(&object, layout, address)?;
    Ok((Some(name), bytes))
}

/// Whether asyncio made the name up: `Task-` and a number.
fn is_made_up(name: &str) -> bool {
    name.strip_prefix("Task-")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The bytes of an object from its type on, as memory: so that what is read is what will be compared.
struct Object<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl RemoteMemory for Object<'_> {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        let mut into = into;
        for (number, region) in regions.iter().enumerate() {
            let (place, rest) = std::mem::take(&mut into).split_at_mut(region.length);
            into = rest;
            // What comes before the type is the count of references, which tells nothing.
            let before = self.start.saturating_sub(region.address);
            let skipped = region.address.saturating_sub(self.start);
            let (Ok(before), Ok(from)) = (usize::try_from(before), usize::try_from(skipped)) else {
                return Ok(number);
            };
            let length = region.length.saturating_sub(before);
            let end = from.checked_add(length);
            let Some(bytes) = end.and_then(|end| self.bytes.get(from..end)) else {
                return Ok(number);
            };
            let known = place.get_mut(before..).unwrap_or_default();
            known.copy_from_slice(bytes);
        }
        Ok(regions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing() {
        assert!(is_made_up("Task-1") && is_made_up("Task-1234567"));
        for name in ["Task-", "Task-1a", "task-1", "fetch", ""] {
            assert!(!is_made_up(name), "{name}");
        }
    }
}
