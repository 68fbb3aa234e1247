//! What tells a code object from another one that takes its place at the same address.
//!
//! From 3.12 on an interpreter gives each code object a version that it never gives again
//! (`co_version`, `Objects/codeobject.c`). Before, what names the code object is compared: the pointers to its
//! names, its line table and its bytecode, and the characters of its name and of its file, because
//! strings are freed and replaced together with the code that they name.

use crate::layout::{CodeLayout, Layout};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::snapshot::Snapshot;

/// Characters of a name or a file name that take part in the comparison.
const COMPARED_CHARACTERS: u64 = 256;

/// See the module's documentation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// `co_version`, and `co_firstlineno` beside it: two interpreters of one process give out the same versions.
    Version { version: u32, first_line: u32 },
    /// What names it, and where its texts lie.
    Names {
        fields: [u64; 5],
        texts: [(Region, Vec<u8>); 2],
    },
}

impl Identity {
    /// The identity of the code object at `address`, whose first bytes are `head`.
    pub(crate) fn read<M: RemoteMemory>(
        memory: &M,
        layout: &Layout,
        address: u64,
        head: &[u8],
    ) -> Result<Self, ReadError> {
        if let Some(identity) = version(&layout.code, head, 0) {
            return Ok(identity);
        }
        let fields = names(&layout.code, head, 0).ok_or(ReadError::Fault(address))?;
        let text = |address| {
            let region = text_region(memory, layout, address)?;
            let bytes = memory.read_vec(region.address, region.length)?;
            Ok((region, bytes))
        };
        let texts = [text(fields[0])?, text(fields[1])?];
        Ok(Self::Names { fields, texts })
    }

    /// Calls `visit` with each region whose bytes prove the identity of the code object at `address`.
    pub(crate) fn evidence(
        &self,
        layout: &CodeLayout,
        address: u64,
        mut visit: impl FnMut(Region),
    ) {
        visit(self.head(layout, address));
        if let Self::Names { texts, .. } = self {
            texts.iter().for_each(|(region, _)| visit(*region));
        }
    }

    /// Whether the bytes in the snapshot prove that the code object at `address` still is this one.
    pub(crate) fn holds(&self, snapshot: &mut Snapshot, layout: &CodeLayout, address: u64) -> bool {
        let region = self.head(layout, address);
        let Some(bytes) = snapshot.get(region) else {
            return false;
        };
        let skipped = region.address - address;
        match self {
            Self::Version { .. } => version(layout, bytes, skipped).as_ref() == Some(self),
            Self::Names { fields, texts } => {
                names(layout, bytes, skipped) == Some(*fields)
                    && texts
                        .iter()
                        .all(|(region, text)| snapshot.get(*region) == Some(text))
            }
        }
    }

    fn head(&self, layout: &CodeLayout, address: u64) -> Region {
        match (self, layout.version) {
            (Self::Version { .. }, Some(version)) => {
                span(address, &[layout.first_line, version], 4)
            }
            _ => span(address, &name_offsets(layout), 8),
        }
    }
}

/// The offsets that [`Identity::read`] needs to find in the first bytes of a code object.
pub(crate) fn offsets(layout: &CodeLayout) -> impl Iterator<Item = u64> {
    name_offsets(layout).into_iter().chain(layout.version)
}

fn name_offsets(layout: &CodeLayout) -> [u64; 5] {
    let bytecode = layout.code_bytes.unwrap_or(layout.name);
    [
        layout.filename,
        layout.name,
        layout.line_table,
        bytecode,
        layout.first_line,
    ]
}

/// The bytes from the first of the offsets to the end of the last.
fn span(address: u64, offsets: &[u64], size: u64) -> Region {
    let first = offsets.iter().copied().min().unwrap_or(0);
    let last = offsets.iter().copied().max().unwrap_or(0);
    Region {
        address: address.wrapping_add(first),
        length: usize::try_from(last + size - first).unwrap_or(0),
    }
}

/// The version, from bytes that start `skipped` bytes into the object. 0 is no version: CPython gives it
/// to all code objects after it has run out of numbers.
fn version(layout: &CodeLayout, bytes: &[u8], skipped: u64) -> Option<Identity> {
    let version = bytes.u32_at(layout.version?.checked_sub(skipped)?)?;
    let first_line = bytes.u32_at(layout.first_line.checked_sub(skipped)?)?;
    (version != 0).then_some(Identity::Version {
        version,
        first_line,
    })
}

/// The naming fields, from bytes that start `skipped` bytes into the object.
fn names(layout: &CodeLayout, bytes: &[u8], skipped: u64) -> Option<[u64; 5]> {
    let [file, name, table, bytecode, line] = name_offsets(layout);
    let at = |offset: u64| bytes.u64_at(offset.checked_sub(skipped)?);
    let line = u64::from(bytes.u32_at(line.checked_sub(skipped)?)?);
    Some([at(file)?, at(name)?, at(table)?, at(bytecode)?, line])
}

/// The part of a string that tells it from another one: length, hash, characters.
fn text_region<M: RemoteMemory>(
    memory: &M,
    layout: &Layout,
    address: u64,
) -> Result<Region, ReadError> {
    let unicode = &layout.unicode;
    let start = address.wrapping_add(unicode.length);
    let characters = memory.read_u64(start)?.min(COMPARED_CHARACTERS);
    let length = unicode.ascii_data.saturating_sub(unicode.length) + characters;
    Ok(Region {
        address: start,
        length: usize::try_from(length).unwrap_or(0),
    })
}
