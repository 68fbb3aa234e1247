//! Writes values as `marshal` of version 4 and lower reads them.

use std::io::{self, Write};

use super::{REFERENCE_FLAG, code};

/// A value that was written and can be referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference(u32);

/// Writes one value after the other. What containers promise, their number of items or the end of a
/// dict, is for the caller to keep.
pub struct Writer<'w> {
    out: &'w mut dyn Write,
    references: u32,
    flag: u8,
}

impl std::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("references", &self.references)
            .finish_non_exhaustive()
    }
}

impl<'w> Writer<'w> {
    /// A writer to `out`.
    pub fn new(out: &'w mut dyn Write) -> Self {
        Self {
            out,
            references: 0,
            flag: 0,
        }
    }

    /// Lets the value that is written next be referred to. Not for `None` and booleans, which take
    /// no part in references.
    pub fn remember(&mut self) -> Reference {
        self.flag = REFERENCE_FLAG;
        let reference = Reference(self.references);
        self.references += 1;
        reference
    }

    /// Writes a value that was written before.
    ///
    /// # Errors
    ///
    /// When `out` fails, as everything here.
    pub fn reference(&mut self, reference: Reference) -> io::Result<()> {
        self.code(code::REF)?;
        self.out.write_all(&reference.0.to_le_bytes())
    }

    /// Writes `None`.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn none(&mut self) -> io::Result<()> {
        self.code(code::NONE)
    }

    /// Writes `True` or `False`.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn bool(&mut self, value: bool) -> io::Result<()> {
        self.code(if value { code::TRUE } else { code::FALSE })
    }

    /// Writes an integer.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn int(&mut self, value: i128) -> io::Result<()> {
        if let Ok(small) = i32::try_from(value) {
            self.code(code::INT)?;
            return self.out.write_all(&small.to_le_bytes());
        }
        // 'l' and not 'I', which Python 3 no longer writes: digits of 15 bits, lowest first.
        self.code(code::LONG)?;
        let mut digits = Vec::new();
        let mut magnitude = value.unsigned_abs();
        while magnitude > 0 {
            digits.extend_from_slice(&((magnitude & 0x7fff) as u16).to_le_bytes());
            magnitude >>= 15;
        }
        let count = (digits.len() / 2) as i32;
        let signed = if value < 0 { -count } else { count };
        self.out.write_all(&signed.to_le_bytes())?;
        self.out.write_all(&digits)
    }

    /// Writes a float.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn float(&mut self, value: f64) -> io::Result<()> {
        self.code(code::BINARY_FLOAT)?;
        self.out.write_all(&value.to_le_bytes())
    }

    /// Writes a string.
    ///
    /// # Errors
    ///
    /// When it is longer than the format can say, or `out` fails.
    pub fn str(&mut self, value: &str) -> io::Result<()> {
        match u8::try_from(value.len()) {
            Ok(len) if value.is_ascii() => {
                self.code(code::SHORT_ASCII)?;
                self.out.write_all(&[len])?;
            }
            _ => {
                self.code(if value.is_ascii() {
                    code::ASCII
                } else {
                    code::UNICODE
                })?;
                self.length(value.len())?;
            }
        }
        self.out.write_all(value.as_bytes())
    }

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// When they are more than the format can say, or `out` fails.
    pub fn bytes(&mut self, value: &[u8]) -> io::Result<()> {
        self.code(code::STRING)?;
        self.length(value.len())?;
        self.out.write_all(value)
    }

    /// Starts a tuple; as many values have to follow.
    ///
    /// # Errors
    ///
    /// When it is longer than the format can say, or `out` fails.
    pub fn tuple(&mut self, len: usize) -> io::Result<()> {
        match u8::try_from(len) {
            Ok(len) => {
                self.code(code::SMALL_TUPLE)?;
                self.out.write_all(&[len])
            }
            Err(_) => {
                self.code(code::TUPLE)?;
                self.length(len)
            }
        }
    }

    /// Starts a list; as many values have to follow.
    ///
    /// # Errors
    ///
    /// When it is longer than the format can say, or `out` fails.
    pub fn list(&mut self, len: usize) -> io::Result<()> {
        self.code(code::LIST)?;
        self.length(len)
    }

    /// Starts a dict; keys and values have to follow, then [`end_dict`](Self::end_dict).
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn dict(&mut self) -> io::Result<()> {
        self.code(code::DICT)
    }

    /// Ends a dict.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn end_dict(&mut self) -> io::Result<()> {
        self.code(code::NULL)
    }

    fn code(&mut self, code: u8) -> io::Result<()> {
        let flag = std::mem::take(&mut self.flag);
        self.out.write_all(&[code | flag])
    }

    fn length(&mut self, len: usize) -> io::Result<()> {
        let len = i32::try_from(len)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "longer than 2 GiB"))?;
        self.out.write_all(&len.to_le_bytes())
    }
}
