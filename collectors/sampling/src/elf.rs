//! The exported symbols of a program or library, read from the memory of the process that has it mapped.
//!
//! What the dynamic linker uses is mapped with the image: its program headers, the dynamic section and the
//! hash table of exported names. A look-up there takes five small reads, whatever the size of the file,
//! and no path: it works alike for removed files and in other mount namespaces. To parse the file was the
//! other way; the full symbol table of a `libpython` takes tens of milliseconds.
//!
//! Formats: the System V ABI (gABI) for ELF, and `dl_lookup` in glibc and musl for `DT_GNU_HASH`.

use crate::memory::{Fields, ReadError, RemoteMemory};

/// Program headers that are read. Real images have about a dozen.
const MAX_HEADERS: u16 = 128;
/// Bytes of the dynamic section that are read: some thousands of entries, where about thirty are usual.
const MAX_DYNAMIC: u64 = 64 << 10;
/// Names in one bucket of the hash table that are looked at. A few are usual.
const MAX_CHAIN: u32 = 4096;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PF_W: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const SHN_UNDEF: u16 = 0;
/// `sizeof(Elf64_Ehdr)`, `sizeof(Elf64_Phdr)`, `sizeof(Elf64_Sym)`.
const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: u16 = 56;
const SYMBOL_SIZE: u64 = 24;

/// Writable memory of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataSegment {
    pub(crate) address: u64,
    /// Bytes that come from the file: initialised data.
    pub(crate) initialised: u64,
    /// Bytes behind them that start as zero: `.bss`.
    pub(crate) zeroed: u64,
}

/// An image in the memory of a process.
#[derive(Debug)]
pub(crate) struct Image {
    /// What is added to the addresses in the file.
    bias: u64,
    pub(crate) data: Vec<DataSegment>,
    /// Nothing where the image is linked statically, or exports nothing.
    exports: Option<Exports>,
}

#[derive(Debug)]
struct Exports {
    hash: u64,
    symbols: u64,
    names: u64,
}

impl Image {
    /// Reads the headers of the image whose file is mapped from `base`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Implausible`] where there is no 64-bit little-endian ELF image, or one of which the
    /// dynamic linker has mapped only a part so far; else what `memory` answers.
    pub(crate) fn read(memory: &impl RemoteMemory, base: u64) -> Result<Self, ReadError> {
        let implausible = ReadError::Implausible {
            address: base,
            expected: "an ELF image",
        };
        let header = memory.read_vec(base, HEADER_SIZE)?;
        let half = |offset: usize| {
            Some(u16::from_le_bytes(
                header.get(offset..offset + 2)?.try_into().ok()?,
            ))
        };
        let (Some(headers_at), Some(size), Some(count)) = (header.u64_at(32), half(54), half(56))
        else {
            return Err(implausible);
        };
        let plausible = header.starts_with(b"\x7fELF\x02\x01")
            && size == PROGRAM_HEADER_SIZE
            && count <= MAX_HEADERS;
        if !plausible {
            return Err(implausible);
        }
        let headers = memory.read_vec(base.wrapping_add(headers_at), usize::from(size * count))?;
        let segments: Vec<Segment> = headers
            .chunks_exact(usize::from(size))
            .filter_map(Segment::parse)
            .collect();
        let loads = || segments.iter().filter(|segment| segment.kind == PT_LOAD);
        let first = loads().next().ok_or(implausible)?;
        let bias = base.wrapping_sub(first.address.wrapping_sub(first.offset));
        let end = loads()
            .map(|segment| {
                bias.wrapping_add(segment.address)
                    .wrapping_add(segment.size)
            })
            .max();
        let range = base..end.unwrap_or(base);
        let data = loads()
            .filter(|segment| segment.flags & PF_W != 0)
            .map(|segment| DataSegment {
                address: bias.wrapping_add(segment.address),
                initialised: segment.file_size,
                zeroed: segment.size.saturating_sub(segment.file_size),
            });
        let data = data.collect();
        let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC);
        let exports = match dynamic {
            Some(segment) => {
                let length =
                    usize::try_from(segment.size.min(MAX_DYNAMIC)).map_err(|_| implausible)?;
                let entries = memory.read_vec(bias.wrapping_add(segment.address), length)?;
                let table = |tag| dynamic_address(&entries, tag, bias, &range);
                match (table(DT_GNU_HASH), table(DT_SYMTAB), table(DT_STRTAB)) {
                    (Some(hash), Some(symbols), Some(names)) => Some(Exports {
                        hash,
                        symbols,
                        names,
                    }),
                    (None, Some(_), Some(_)) => None,
                    // While the linker maps an image, the place of its later segments holds other parts of
                    // the file. Every dynamic section has these two.
                    _ => return Err(implausible),
                }
            }
            None => None,
        };
        Ok(Self {
            bias,
            data,
            exports,
        })
    }

    /// The address of an exported symbol; `None` where the image does not define it.
    ///
    /// # Errors
    ///
    /// What `memory` answers; [`ReadError::Implausible`] where the hash table is none.
    pub(crate) fn symbol(
        &self,
        memory: &impl RemoteMemory,
        name: &str,
    ) -> Result<Option<u64>, ReadError> {
        let Some(exports) = &self.exports else {
            return Ok(None);
        };
        let implausible = ReadError::Implausible {
            address: exports.hash,
            expected: "a table of symbols",
        };
        let at =
            |address: u64, index: u32, width: u64| address.wrapping_add(u64::from(index) * width);
        let read_u32 = |address| Ok(memory.read_vec(address, 4)?.u32_at(0).unwrap_or(0));

        let head = memory.read_vec(exports.hash, 16)?;
        let word = |offset| head.u32_at(offset).ok_or(implausible);
        let (buckets, first_symbol, filters, shift) = (word(0)?, word(4)?, word(8)?, word(12)?);
        if buckets == 0 || filters == 0 {
            return Err(implausible);
        }
        let hash = gnu_hash(name);
        let filters_at = exports.hash.wrapping_add(16);
        let filter = memory.read_u64(at(filters_at, (hash / 64) % filters, 8))?;
        let second = hash.checked_shr(shift).unwrap_or(0);
        if (filter >> (hash % 64)) & (filter >> (second % 64)) & 1 == 0 {
            return Ok(None);
        }
        let buckets_at = at(filters_at, filters, 8);
        let chains_at = at(buckets_at, buckets, 4);
        let mut index: u32 = read_u32(at(buckets_at, hash % buckets, 4))?;
        if index < first_symbol {
            return Ok(None);
        }
        for _ in 0..MAX_CHAIN {
            let link: u32 = read_u32(at(chains_at, index - first_symbol, 4))?;
            if link | 1 == hash | 1
                && let Some(address) = self.defined(memory, exports, index, name)?
            {
                return Ok(Some(address));
            }
            if link & 1 == 1 {
                return Ok(None);
            }
            index = index.checked_add(1).ok_or(implausible)?;
        }
        Err(implausible)
    }

    /// The address of the symbol at `index`, if it is called `name` and defined here.
    fn defined(
        &self,
        memory: &impl RemoteMemory,
        exports: &Exports,
        index: u32,
        name: &str,
    ) -> Result<Option<u64>, ReadError> {
        let address = exports.symbols.wrapping_add(u64::from(index) * SYMBOL_SIZE);
        let symbol = memory.read_vec(address, 24)?;
        let (Some(name_at), Some(section), Some(value)) =
            (symbol.u32_at(0), symbol.u32_at(4), symbol.u64_at(8))
        else {
            return Ok(None);
        };
        let [_, _, low, high] = section.to_le_bytes();
        let found = memory.read_vec(
            exports.names.wrapping_add(u64::from(name_at)),
            name.len() + 1,
        )?;
        let same = found.strip_suffix(b"\0") == Some(name.as_bytes());
        let defined = u16::from_le_bytes([low, high]) != SHN_UNDEF;
        Ok((same && defined).then(|| self.bias.wrapping_add(value)))
    }
}

/// A program header.
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    size: u64,
}

impl Segment {
    fn parse(header: &[u8]) -> Option<Self> {
        Some(Self {
            kind: header.u32_at(0)?,
            flags: header.u32_at(4)?,
            offset: header.u64_at(8)?,
            address: header.u64_at(16)?,
            file_size: header.u64_at(32)?,
            size: header.u64_at(40)?,
        })
    }
}

/// The address that the dynamic section gives for `tag`. glibc adds the bias to these entries when it
/// loads an image, musl does not.
fn dynamic_address(
    entries: &[u8],
    tag: u64,
    bias: u64,
    image: &std::ops::Range<u64>,
) -> Option<u64> {
    let entry = entries
        .chunks_exact(16)
        .find(|entry| entry.u64_at(0) == Some(tag))?;
    let value = entry.u64_at(8)?;
    [value, value.wrapping_add(bias)]
        .into_iter()
        .find(|address| image.contains(address))
}

/// The hash of `DT_GNU_HASH`: Bernstein's, as glibc and musl compute it.
fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| {
        hash.wrapping_mul(33).wrapping_add(byte.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps;
    use crate::process_memory::ProcessMemory;

    fn own_library(word: &str) -> (ProcessMemory, Image) {
        let memory = ProcessMemory::new(std::process::id());
        let images = maps::images(&std::fs::read("/proc/self/maps").unwrap());
        let base = images
            .iter()
            .find(|image| image.is_called(word))
            .unwrap()
            .base;
        let image = Image::read(&memory, base).unwrap();
        (memory, image)
    }

    #[test]
    fn the_hash_is_the_one_of_the_tables() {
        // From the description of the format: "printf" hashes to this.
        assert_eq!(gnu_hash("printf"), 0x156b_2bb8);
        assert_eq!(gnu_hash(""), 5381);
    }

    #[test]
    fn exported_symbols_are_found() {
        let (memory, image) = own_library("libc.");
        // A variable whose value is known: it points to our environment.
        let environ = image.symbol(&memory, "environ").unwrap().unwrap();
        assert!(image.data.iter().any(|data| {
            (data.address..data.address + data.initialised + data.zeroed).contains(&environ)
        }));
        let first = memory.read_u64(memory.read_u64(environ).unwrap()).unwrap();
        let text = memory.read_vec(first, 4).unwrap();
        let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
        assert!(names.iter().any(|name| {
            name.as_encoded_bytes()
                .iter()
                .zip(&text)
                .all(|(ours, read)| ours == read)
        }));
        assert_eq!(image.symbol(&memory, "_PyRuntime"), Ok(None));
        assert_eq!(image.symbol(&memory, ""), Ok(None));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let memory = ProcessMemory::new(std::process::id());
        let bytes = [0_u8; 4096];
        let refused = Image::read(&memory, bytes.as_ptr() as u64).unwrap_err();
        assert!(matches!(refused, ReadError::Implausible { .. }));
        assert!(matches!(Image::read(&memory, 0), Err(ReadError::Fault(_))));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_are_read_without_harm(bytes in proptest::collection::vec(proptest::num::u8::ANY, 4096)) {
            let mut bytes = bytes;
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
            bytes[54..58].copy_from_slice(&[56, 0, 3, 0]);
            bytes[64..68].copy_from_slice(&PT_LOAD.to_le_bytes());
            bytes[72..96].fill(0);
            bytes[120..124].copy_from_slice(&PT_DYNAMIC.to_le_bytes());
            let memory = ProcessMemory::new(std::process::id());
            if let Ok(image) = Image::read(&memory, bytes.as_ptr() as u64) {
                let _ = image.symbol(&memory, "_PyRuntime");
            }
            let start = bytes.as_ptr() as u64;
            let exports = Exports { hash: start, symbols: start + 512, names: start + 1024 };
            let image = Image { bias: start, data: Vec::new(), exports: Some(exports) };
            let _ = image.symbol(&memory, "_PyRuntime");
        }
    }
}
