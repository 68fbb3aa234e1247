//! Dicts in the target's memory, and the attributes of instances.
//!
//! Only string keys without anything but ASCII are compared, and integers by their hashes: enough for
//! the names of modules, variables and attributes. The target runs meanwhile, so anything may be torn: what
//! comes out is plausible, not proven.
//!
//! From `Objects/dict-common.h` (3.8 to 3.10), `Include/internal/pycore_dict.h` and `pycore_object.h` (3.11
//! and later), `Include/cpython/object.h` and `dictobject.h`.

use std::cell::Cell;
use std::collections::HashMap;

use crate::layout::{Layout, Minor};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};

/// Entries of a dict that are read. No program has as many modules, or attributes.
const MAX_ENTRIES: u64 = 1 << 17;
/// Entries that are read in all, to find the names of all threads: those of the largest program, with some
/// thirty attributes for each thread. A dict may be in as many places as memory has pointers to it.
const MAX_ENTRIES_IN_ALL: u64 = 1 << 22;
/// Entries whose key could not be read, in one dict. A dict that is being changed has a few.
const MAX_BAD_KEYS: usize = 64;

/// `DICT_KEYS_GENERAL`: entries have a hash. 3.11 and later.
const DICT_KEYS_GENERAL: u8 = 0;
/// `Py_TPFLAGS_INLINE_VALUES` (3.13 and later) and `Py_TPFLAGS_MANAGED_DICT` (3.11 and later).
const INLINE_VALUES: u64 = 1 << 2;
const MANAGED_DICT: u64 = 1 << 4;

/// An entry of a dict that has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// 0 where the dict does not keep hashes. That of a small positive integer is the integer.
    pub(crate) hash: u64,
    /// Address of the key.
    key: u64,
    /// Address of the value.
    pub(crate) value: u64,
}

/// Reads dicts and instances of one interpreter.
#[derive(Debug)]
pub(crate) struct Objects<'a, M> {
    memory: &'a M,
    layout: &'a Layout,
    types: HashMap<u64, Type>,
    /// Where the attribute that was looked for last is, by the keys that instances share.
    places: HashMap<u64, Option<usize>>,
    /// How many entries may still be read.
    entries_left: Cell<u64>,
}

/// What a type says of the attributes of its instances.
#[derive(Debug, Clone, Copy)]
struct Type {
    basic_size: u64,
    flags: u64,
    dict_offset: u64,
    /// Address of the keys that its instances share.
    cached_keys: u64,
}

/// Where the attributes of an instance are.
enum Attributes {
    /// In a dict at this address; 0 for none.
    Dict(u64),
    /// In an array of values at this address, in the order of the type's keys.
    Values(u64),
}

impl<'a, M: RemoteMemory> Objects<'a, M> {
    pub(crate) fn new(memory: &'a M, layout: &'a Layout) -> Self {
        Self {
            memory,
            layout,
            types: HashMap::new(),
            places: HashMap::new(),
            entries_left: Cell::new(MAX_ENTRIES_IN_ALL),
        }
    }

    /// `sizeof(PyObject)`: it ends with the type.
    pub(crate) fn header(&self) -> u64 {
        self.layout.object.ob_type + 8
    }

    fn since(&self, minor: u8) -> bool {
        self.layout.version >= Minor(3, minor)
    }

    /// All entries of the dict at `address`, in the order in which they were made.
    pub(crate) fn entries(&self, address: u64) -> Result<Vec<Entry>, ReadError> {
        let (keys, values) = self.dict(address)?;
        let mut entries = self.keys(keys)?;
        if values != 0 {
            let slots = self
                .memory
                .read_vec(self.first_value(values), 8 * entries.len())?;
            for (entry, slot) in entries.iter_mut().zip(slots.chunks_exact(8)) {
                entry.value = slot.u64_at(0).unwrap_or(0);
            }
        }
        entries.retain(|entry| entry.key != 0 && entry.value != 0);
        Ok(entries)
    }

    /// The value for a name in the dict at `address`.
    pub(crate) fn item(&self, address: u64, name: &str) -> Result<Option<u64>, ReadError> {
        let entries = self.entries(address)?;
        Ok(self
            .position(&entries, name)?
            .map(|index| entries[index].value))
    }

    /// The attribute `name` that the instance at `address` has itself. To be asked for one name only.
    pub(crate) fn attribute(&mut self, address: u64, name: &str) -> Result<Option<u64>, ReadError> {
        let kind = self
            .memory
            .read_u64(address.wrapping_add(self.layout.object.ob_type))?;
        let kind = self.type_at(kind)?;
        let (keys, values) = match self.attributes(address, kind)? {
            Attributes::Values(values) => (kind.cached_keys, values),
            Attributes::Dict(0) => return Ok(None),
            Attributes::Dict(dict) => match self.dict(dict)? {
                (_, 0) => return self.item(dict, name),
                split => split,
            },
        };
        let place = match self.places.get(&keys) {
            Some(place) => *place,
            None => {
                let place = self.position(&self.keys(keys)?, name)?;
                self.places.insert(keys, place);
                place
            }
        };
        let Some(place) = place else { return Ok(None) };
        let value = self
            .memory
            .read_u64(self.first_value(values).wrapping_add(8 * place as u64))?;
        Ok((value != 0).then_some(value))
    }

    /// `ma_keys` and `ma_values` of a dict; the second is 0 where the entries hold the values.
    fn dict(&self, address: u64) -> Result<(u64, u64), ReadError> {
        let both = self
            .memory
            .read_vec(address.wrapping_add(self.header() + 16), 16)?;
        Ok((both.u64_at(0).unwrap_or(0), both.u64_at(8).unwrap_or(0)))
    }

    /// Where the first value of a `PyDictValues` is. From 3.13 on four bytes about the values come first.
    fn first_value(&self, values: u64) -> u64 {
        values.wrapping_add(if self.since(13) { 8 } else { 0 })
    }

    /// The entries of a `PyDictKeysObject`, free ones too, so that they are numbered as the values are.
    fn keys(&self, address: u64) -> Result<Vec<Entry>, ReadError> {
        let implausible = ReadError::Implausible {
            address,
            expected: "the keys of a dict",
        };
        let head = self.memory.read_vec(address, 40)?;
        let word = |offset| head.u64_at(offset).ok_or(implausible);
        // Behind the head is the hash table, and behind that are the entries.
        let (used, head_size, table_size, with_hash) = if self.since(11) {
            let log_size = head.u8_at(9).filter(|log| *log < 40).ok_or(implausible)?;
            (
                word(24)?,
                32,
                1_u64 << log_size,
                head.u8_at(10) == Some(DICT_KEYS_GENERAL),
            )
        } else {
            let slots = word(8)?;
            let width = match slots {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                _ => 4,
            };
            (
                word(32)?,
                40,
                slots.checked_mul(width).ok_or(implausible)?,
                true,
            )
        };
        let used = Some(used)
            .filter(|used| *used <= MAX_ENTRIES)
            .ok_or(implausible)?;
        let left = self.entries_left.get();
        self.entries_left
            .set(left.checked_sub(used).ok_or(implausible)?);
        let entry_size: usize = if with_hash { 24 } else { 16 };
        let length = usize::try_from(used).map_err(|_| implausible)? * entry_size;
        let entries = self.memory.read_vec(
            address.wrapping_add(head_size).wrapping_add(table_size),
            length,
        )?;
        let entry = |bytes: &[u8]| {
            let (hash, rest) = if with_hash {
                bytes.split_at(8)
            } else {
                (&[][..], bytes)
            };
            let word = |bytes: &[u8], offset| bytes.u64_at(offset).unwrap_or(0);
            Entry {
                hash: word(hash, 0),
                key: word(rest, 0),
                value: word(rest, 8),
            }
        };
        Ok(entries.chunks_exact(entry_size).map(entry).collect())
    }

    /// The index of the entry whose key is the string `name`.
    fn position(&self, entries: &[Entry], name: &str) -> Result<Option<usize>, ReadError> {
        let ascii_data = usize::try_from(self.layout.unicode.ascii_data).unwrap_or(0);
        let length = ascii_data + name.len();
        let regions: Vec<Region> = entries
            .iter()
            .map(|entry| Region {
                address: entry.key,
                length,
            })
            .collect();
        let mut buffer = vec![0; length * regions.len()];
        let (mut done, mut bad) = (0, 0);
        while done < regions.len() {
            let read = self.memory.read_regions(&regions[done..], &mut buffer)?;
            let mut strings = buffer.chunks_exact(length).take(read);
            if let Some(found) = strings.position(|string| self.is_ascii(string, name)) {
                return Ok(Some(done + found));
            }
            done += read;
            if done < regions.len() {
                // A free entry, or a key that was freed meanwhile.
                bad += usize::from(entries[done].key != 0);
                if bad > MAX_BAD_KEYS {
                    return Err(ReadError::Fault(entries[done].key));
                }
                done += 1;
            }
        }
        Ok(None)
    }

    /// Whether the first bytes of a string object, as many as there would be, are those of `text`.
    fn is_ascii(&self, object: &[u8], text: &str) -> bool {
        let fields = &self.layout.unicode;
        // `compact` and `ascii`, behind the three bits of `kind`.
        let compact_ascii = 0b11 << 3;
        let state = object
            .u32_at(fields.state)
            .unwrap_or(0)
            .checked_shr(fields.kind_bit.into());
        object.ends_with(text.as_bytes())
            && object.u64_at(fields.length) == Some(text.len() as u64)
            && state.unwrap_or(0) & compact_ascii == compact_ascii
    }

    fn type_at(&mut self, address: u64) -> Result<Type, ReadError> {
        if let Some(known) = self.types.get(&address) {
            return Ok(*known);
        }
        // Distances from `tp_name`, so that they hold where `PyObject` has another size. Before it is the
        // header, behind `tp_dictoffset` nothing differs but the number of slots.
        let cached_keys = match self.layout.version {
            Minor(3, 9) => 840,
            Minor(3, ..=11) => 848,
            Minor(3, ..=14) => 856,
            _ => 864,
        };
        let base = address.wrapping_add(self.layout.object.tp_name);
        let head = self.memory.read_vec(base, 272)?;
        let word = |offset| head.u64_at(offset).unwrap_or(0);
        let found = Type {
            basic_size: word(8),
            flags: word(144),
            dict_offset: word(264),
            // Of a type that is not on the heap this is something else; it has no shared keys to ask for.
            cached_keys: self
                .memory
                .read_u64(base.wrapping_add(cached_keys))
                .unwrap_or(0),
        };
        self.types.insert(address, found);
        Ok(found)
    }

    fn attributes(&self, address: u64, kind: Type) -> Result<Attributes, ReadError> {
        let before = |words: u64| self.memory.read_u64(address.wrapping_sub(8 * words));
        if !self.since(11) || kind.flags & MANAGED_DICT == 0 {
            // A negative offset counts from the end of an instance of variable size; no `Thread` is one.
            let dict = match kind.dict_offset.cast_signed() {
                1.. => self
                    .memory
                    .read_u64(address.wrapping_add(kind.dict_offset))?,
                _ => 0,
            };
            return Ok(Attributes::Dict(dict));
        }
        if self.since(13) {
            let values = address.wrapping_add(kind.basic_size);
            let valid = |about: u64| about.to_le_bytes()[3] != 0;
            if kind.flags & INLINE_VALUES != 0 && valid(self.memory.read_u64(values)?) {
                return Ok(Attributes::Values(values));
            }
            let words = if self.layout.free_threaded { 1 } else { 3 };
            return Ok(Attributes::Dict(before(words)?));
        }
        if self.since(12) {
            // `PyDictOrValues`: the lowest bit says which it is, and values are one byte further on.
            let either = before(3)?;
            let is_values = either & 1 == 1;
            return Ok(if is_values {
                Attributes::Values(either.wrapping_add(1))
            } else {
                Attributes::Dict(either)
            });
        }
        Ok(match before(4)? {
            0 => Attributes::Dict(before(3)?),
            values => Attributes::Values(values),
        })
    }
}
