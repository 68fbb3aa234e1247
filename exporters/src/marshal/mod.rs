//! The part of Python's `marshal` format that profiles are made of (CPython, `Python/marshal.c`).
//!
//! Versions 2 to 6 are read, and version 4 is written, which every Python since 3.4 reads. Values
//! are kept in one flat arena and nothing here recurses, so a hostile file can neither
//! overflow the stack nor ask for more memory than a small multiple of its own size.

mod read;
mod write;

pub(crate) use read::decode_utf8;
pub use read::{Document, MarshalError, MarshalProblem, Object, Value, read};
pub use write::{Reference, Writer};

/// Set in a type code: later values may refer to this one.
const REFERENCE_FLAG: u8 = 0x80;

/// Type codes, as `Python/marshal.c` names them.
mod code {
    pub(super) const NULL: u8 = b'0';
    pub(super) const NONE: u8 = b'N';
    pub(super) const FALSE: u8 = b'F';
    pub(super) const TRUE: u8 = b'T';
    pub(super) const INT: u8 = b'i';
    pub(super) const INT64: u8 = b'I';
    pub(super) const LONG: u8 = b'l';
    pub(super) const FLOAT: u8 = b'f';
    pub(super) const BINARY_FLOAT: u8 = b'g';
    pub(super) const STRING: u8 = b's';
    pub(super) const INTERNED: u8 = b't';
    pub(super) const UNICODE: u8 = b'u';
    pub(super) const ASCII: u8 = b'a';
    pub(super) const ASCII_INTERNED: u8 = b'A';
    pub(super) const SHORT_ASCII: u8 = b'z';
    pub(super) const SHORT_ASCII_INTERNED: u8 = b'Z';
    pub(super) const TUPLE: u8 = b'(';
    pub(super) const SMALL_TUPLE: u8 = b')';
    pub(super) const LIST: u8 = b'[';
    pub(super) const DICT: u8 = b'{';
    /// Since version 6 (3.15).
    pub(super) const FROZENDICT: u8 = b'}';
    pub(super) const REF: u8 = b'r';
    /// Python 2 only: the n-th interned string.
    pub(super) const STRINGREF: u8 = b'R';
}
