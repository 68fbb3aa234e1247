//! Reads marshalled values into a flat arena.

use std::borrow::Cow;
use std::fmt;

use pystrobe_profile::push_escaped;

use super::{REFERENCE_FLAG, code};

/// Deeper nesting is refused, as CPython does (`MAX_MARSHAL_STACK_DEPTH`).
const MAX_DEPTH: usize = 2000;

/// What is wrong with marshalled bytes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarshalError {
    /// How many bytes come before the fault.
    pub offset: usize,
    /// What is wrong there.
    pub problem: MarshalProblem,
}

impl fmt::Display for MarshalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.problem, self.offset)
    }
}

impl std::error::Error for MarshalError {}

/// What can be wrong with marshalled bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarshalProblem {
    /// The bytes end before the value does.
    #[error("cut short")]
    Truncated,
    /// A type that no profile holds, or no type at all.
    #[error("unexpected type {:?}", char::from(*.0))]
    UnexpectedType(u8),
    /// A length that is negative.
    #[error("impossible length")]
    Length,
    /// A reference to a value that does not exist or is not complete.
    #[error("bad reference")]
    Reference,
    /// A number that is not one.
    #[error("bad number")]
    Number,
    /// Nesting deeper than CPython reads.
    #[error("nested too deeply")]
    Depth,
    /// More bytes than offsets of 32 bits reach.
    #[error("more than 4 GiB")]
    TooLarge,
}

/// A value, its parts in the [`Document`].
#[derive(Debug, Clone, PartialEq)]
pub enum Object<'b> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer; what does not fit is the nearest that does.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string. Lone surrogates and what is not UTF-8 are escaped, as `\udc80`.
    Str(Cow<'b, str>),
    /// Bytes; a `str` of Python 2.
    Bytes(&'b [u8]),
    /// A tuple.
    Tuple(Items),
    /// A list.
    List(Items),
    /// A dict: keys and values in turn.
    Dict(Items),
}

/// Where a container's items lie in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Items {
    start: u32,
    end: u32,
}

/// The end of [`Items`] of a container that is still being read.
const UNFINISHED: Items = Items { start: 1, end: 0 };

/// A value that was read, with all that it refers to.
#[derive(Debug, Clone)]
pub struct Document<'b> {
    objects: Vec<Object<'b>>,
    /// Where each object starts in the input.
    offsets: Vec<u32>,
    items: Vec<u32>,
    root: u32,
    end: usize,
}

impl<'b> Document<'b> {
    /// The outermost value.
    #[must_use]
    pub fn root(&self) -> Value<'_, 'b> {
        Value {
            document: self,
            id: self.root,
        }
    }

    /// How many bytes the value took; what follows belongs to somebody else.
    #[must_use]
    pub fn end(&self) -> usize {
        self.end
    }
}

/// A value of a [`Document`].
#[derive(Debug, Clone, Copy)]
pub struct Value<'d, 'b> {
    document: &'d Document<'b>,
    id: u32,
}

impl<'d, 'b> Value<'d, 'b> {
    /// What it is.
    #[must_use]
    pub fn object(self) -> &'d Object<'b> {
        &self.document.objects[self.id as usize]
    }

    /// Tells whether two values are one object.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }

    /// Where it starts in the input. `None`, `True` and `False` are where they were first seen.
    #[must_use]
    pub fn offset(self) -> usize {
        self.document.offsets[self.id as usize] as usize
    }

    /// The items of a tuple or list, the keys and values in turn of a dict; else nothing.
    #[must_use]
    pub fn items(self) -> impl ExactSizeIterator<Item = Value<'d, 'b>> + use<'d, 'b> {
        let document = self.document;
        let items = match *self.object() {
            Object::Tuple(items) | Object::List(items) | Object::Dict(items) => {
                &document.items[items.start as usize..items.end as usize]
            }
            _ => &[],
        };
        items.iter().map(move |&id| Value { document, id })
    }

    /// The item at a position of a tuple or list, or at a position of a dict's keys and values.
    #[must_use]
    pub fn item(self, index: usize) -> Option<Value<'d, 'b>> {
        self.items().nth(index)
    }
}

/// Reads the value at the start of `bytes`.
///
/// # Errors
///
/// When the bytes are not a value, are cut short, or hold what no profile holds.
pub fn read(bytes: &[u8]) -> Result<Document<'_>, MarshalError> {
    let mut reader = Reader {
        bytes,
        at: 0,
        objects: Vec::new(),
        offsets: Vec::new(),
        items: Vec::new(),
        references: Vec::new(),
        interned: Vec::new(),
        constants: [None; 3],
    };
    if u32::try_from(bytes.len()).is_err() {
        return Err(reader.error_at(0, MarshalProblem::TooLarge));
    }
    let root = reader.value()?;
    Ok(Document {
        objects: reader.objects,
        offsets: reader.offsets,
        items: reader.items,
        root,
        end: reader.at,
    })
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    objects: Vec<Object<'b>>,
    offsets: Vec<u32>,
    items: Vec<u32>,
    /// What values with the reference flag became, in the order in which they start.
    references: Vec<u32>,
    /// Interned strings in their order, for Python 2.
    interned: Vec<u32>,
    /// The objects of `None`, `False` and `True`: in one byte each they would otherwise be the
    /// largest growth that an input can cause.
    constants: [Option<u32>; 3],
}

/// A container that is being read.
struct Open {
    id: u32,
    kind: Kind,
    /// Where its items start among those that are pending.
    pending: usize,
}

enum Kind {
    /// With so many items.
    Tuple(u32),
    /// With so many items.
    List(u32),
    /// Until a null.
    Dict,
}

/// What one step of reading met.
enum Met {
    Value(u32),
    Container(u32, Kind),
    Null,
}

impl<'b> Reader<'b> {
    fn value(&mut self) -> Result<u32, MarshalError> {
        let mut open: Vec<Open> = Vec::new();
        let mut pending: Vec<u32> = Vec::new();
        loop {
            let start = self.at;
            match self.step()? {
                Met::Value(id) => pending.push(id),
                Met::Container(id, kind) => {
                    if open.len() == MAX_DEPTH {
                        return Err(self.error_at(start, MarshalProblem::Depth));
                    }
                    open.push(Open {
                        id,
                        kind,
                        pending: pending.len(),
                    });
                }
                Met::Null => match open.last() {
                    // A dict ends where its next key would be.
                    Some(Open {
                        kind: Kind::Dict,
                        pending: first,
                        id,
                    }) if (pending.len() - first).is_multiple_of(2) => {
                        let (id, first) = (*id, *first);
                        self.close(id, pending.drain(first..), Object::Dict);
                        open.pop();
                        pending.push(id);
                    }
                    _ => {
                        return Err(
                            self.error_at(start, MarshalProblem::UnexpectedType(code::NULL))
                        );
                    }
                },
            }
            // Whatever was met may have been the last item of what is open.
            while let Some(last) = open.last() {
                let items = pending.len() - last.pending;
                let make = match last.kind {
                    Kind::Tuple(len) if items == len as usize => Object::Tuple,
                    Kind::List(len) if items == len as usize => Object::List,
                    _ => break,
                };
                let (id, first) = (last.id, last.pending);
                self.close(id, pending.drain(first..), make);
                open.pop();
                pending.push(id);
            }
            if open.is_empty()
                && let Some(root) = pending.pop()
            {
                return Ok(root);
            }
        }
    }

    /// Reads a value without parts, or the head of a container.
    fn step(&mut self) -> Result<Met, MarshalError> {
        let start = self.at;
        let [byte] = self.array()?;
        let flagged = byte & REFERENCE_FLAG != 0;
        let object = match byte & !REFERENCE_FLAG {
            code::NULL => return Ok(Met::Null),
            code::NONE => return Ok(Met::Value(self.constant(start, 0, Object::None))),
            code::FALSE => return Ok(Met::Value(self.constant(start, 1, Object::Bool(false)))),
            code::TRUE => return Ok(Met::Value(self.constant(start, 2, Object::Bool(true)))),
            code::REF => {
                let id = self.referred(start, |reader| &reader.references)?;
                return Ok(Met::Value(id));
            }
            code::STRINGREF => {
                let id = self.referred(start, |reader| &reader.interned)?;
                return Ok(Met::Value(id));
            }
            code::TUPLE => {
                let len = self.length()?;
                return self.container(start, flagged, Kind::Tuple(len), Object::Tuple);
            }
            code::SMALL_TUPLE => {
                let [len] = self.array()?;
                let len = u32::from(len);
                return self.container(start, flagged, Kind::Tuple(len), Object::Tuple);
            }
            code::LIST => {
                let len = self.length()?;
                return self.container(start, flagged, Kind::List(len), Object::List);
            }
            code::DICT | code::FROZENDICT => {
                return self.container(start, flagged, Kind::Dict, Object::Dict);
            }
            code::INT => Object::Int(i64::from(i32::from_le_bytes(self.array()?))),
            code::INT64 => Object::Int(i64::from_le_bytes(self.array()?)),
            code::LONG => Object::Int(self.long()?),
            code::BINARY_FLOAT => Object::Float(f64::from_le_bytes(self.array()?)),
            code::FLOAT => Object::Float(self.decimal()?),
            code::STRING => Object::Bytes(self.text()?),
            code::INTERNED | code::UNICODE => Object::Str(decode_utf8(self.text()?)),
            code::ASCII | code::ASCII_INTERNED => Object::Str(decode_latin1(self.text()?)),
            code::SHORT_ASCII | code::SHORT_ASCII_INTERNED => {
                let [len] = self.array()?;
                Object::Str(decode_latin1(self.take(usize::from(len))?))
            }
            other => return Err(self.error_at(start, MarshalProblem::UnexpectedType(other))),
        };
        let id = self.add(start, flagged, object);
        if byte & !REFERENCE_FLAG == code::INTERNED {
            self.interned.push(id);
        }
        Ok(Met::Value(id))
    }

    fn add(&mut self, start: usize, flagged: bool, object: Object<'b>) -> u32 {
        // Every object takes a byte of the input at least, and so both fit.
        let id = self.objects.len() as u32;
        self.objects.push(object);
        self.offsets.push(start as u32);
        if flagged {
            self.references.push(id);
        }
        id
    }

    /// `None`, `False` or `True`. They take no part in references, flagged or not.
    fn constant(&mut self, start: usize, which: usize, object: Object<'b>) -> u32 {
        if let Some(id) = self.constants[which] {
            return id;
        }
        let id = self.add(start, false, object);
        self.constants[which] = Some(id);
        id
    }

    fn container(
        &mut self,
        start: usize,
        flagged: bool,
        kind: Kind,
        make: fn(Items) -> Object<'b>,
    ) -> Result<Met, MarshalError> {
        if let Kind::Tuple(len) | Kind::List(len) = kind
            && len as usize > self.bytes.len() - self.at
        {
            return Err(self.error_at(start, MarshalProblem::Truncated));
        }
        let id = self.add(start, flagged, make(UNFINISHED));
        Ok(Met::Container(id, kind))
    }

    fn close(&mut self, id: u32, items: impl Iterator<Item = u32>, make: fn(Items) -> Object<'b>) {
        let start = self.items.len() as u32;
        self.items.extend(items);
        let end = self.items.len() as u32;
        self.objects[id as usize] = make(Items { start, end });
    }

    fn referred(&mut self, start: usize, among: fn(&Self) -> &[u32]) -> Result<u32, MarshalError> {
        let index = i32::from_le_bytes(self.array()?);
        let id = usize::try_from(index)
            .ok()
            .and_then(|index| among(self).get(index).copied());
        // A container that contains itself has no end.
        match id {
            Some(id) if !self.is_unfinished(id) => Ok(id),
            _ => Err(self.error_at(start, MarshalProblem::Reference)),
        }
    }

    fn is_unfinished(&self, id: u32) -> bool {
        matches!(
            self.objects[id as usize],
            Object::Tuple(UNFINISHED) | Object::List(UNFINISHED) | Object::Dict(UNFINISHED)
        )
    }

    /// An integer of any size: a count of digits of 15 bits, negative for a negative number.
    fn long(&mut self) -> Result<i64, MarshalError> {
        let start = self.at;
        let count = i32::from_le_bytes(self.array()?);
        let digits = self.take((count.unsigned_abs() as usize).saturating_mul(2))?;
        let mut magnitude: i128 = 0;
        for digit in digits.chunks_exact(2).rev() {
            let digit = u16::from_le_bytes([digit[0], digit[1]]);
            if digit >= 1 << 15 {
                return Err(self.error_at(start, MarshalProblem::Number));
            }
            magnitude = (magnitude << 15 | i128::from(digit)).min(1 << 64);
        }
        let value = if count < 0 { -magnitude } else { magnitude };
        let nearest = value.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Ok(nearest as i64)
    }

    /// A float as Python writes it in decimal; versions 0 and 1, and Python 2's `profile`.
    fn decimal(&mut self) -> Result<f64, MarshalError> {
        let start = self.at;
        let [len] = self.array()?;
        let text = self.take(usize::from(len))?;
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.error_at(start, MarshalProblem::Number))
    }

    fn text(&mut self) -> Result<&'b [u8], MarshalError> {
        let len = self.length()?;
        self.take(len as usize)
    }

    fn length(&mut self) -> Result<u32, MarshalError> {
        let start = self.at;
        u32::try_from(i32::from_le_bytes(self.array()?))
            .map_err(|_| self.error_at(start, MarshalProblem::Length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MarshalError> {
        let start = self.at;
        let bytes = self.take(N)?;
        bytes
            .try_into()
            .map_err(|_| self.error_at(start, MarshalProblem::Truncated))
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], MarshalError> {
        let rest = &self.bytes[self.at..];
        let taken = rest
            .get(..len)
            .ok_or_else(|| self.error_at(self.at, MarshalProblem::Truncated))?;
        self.at += len;
        Ok(taken)
    }

    fn error_at(&self, offset: usize, problem: MarshalProblem) -> MarshalError {
        MarshalError { offset, problem }
    }
}

/// Text that Python wrote with `surrogatepass`, or bytes of Python 2 that are mostly UTF-8.
pub(crate) fn decode_utf8(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    let mut rest = bytes;
    while !rest.is_empty() {
        if let [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, after @ ..] = rest {
            let code = 0xd000 | u32::from(second & 0x3f) << 6 | u32::from(third & 0x3f);
            push_escaped(&mut text, code);
            rest = after;
            continue;
        }
        let Some(chunk) = rest.utf8_chunks().next() else {
            break;
        };
        text.push_str(chunk.valid());
        rest = &rest[chunk.valid().len()..];
        if let [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] = rest {
            continue;
        }
        for &byte in chunk.invalid() {
            push_escaped(&mut text, u32::from(byte));
        }
        rest = &rest[chunk.invalid().len()..];
    }
    Cow::Owned(text)
}

/// Text of one byte a character; ASCII but in forged files.
fn decode_latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}
