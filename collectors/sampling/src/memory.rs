//! The memory of another process, as an argument.
//!
//! Everything that reads an interpreter is written over [`RemoteMemory`], so that it runs alike on a
//! live process, on a recorded image, on a simulated interpreter and on arbitrary bytes. This module
//! does no I/O; `process_memory` does.

use std::time::Instant;

use thiserror::Error;

/// Bytes that the processor's caches keep together, and that are copied at one moment.
pub(crate) const CACHE_LINE: u64 = 64;

/// A range of the target's address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    /// Address of the first byte.
    pub address: u64,
    /// Length in bytes.
    pub length: usize,
}

impl Region {
    /// The address behind the last byte, or `None` where the region would wrap around.
    #[must_use]
    pub fn end(self) -> Option<u64> {
        self.address.checked_add(self.length as u64)
    }
}

/// Why a read of the target's memory failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The process has ended, or is a zombie.
    #[error("the process has ended")]
    Gone,
    /// The kernel does not let this user read that process.
    #[error("reading the process is not permitted")]
    Denied,
    /// Nothing readable is mapped at the address.
    #[error("nothing is mapped at {0:#x}")]
    Fault(u64),
    /// What was read cannot be what it should be; the words name the object.
    #[error("what is at {address:#x} is not {expected}")]
    Implausible {
        /// Where it was read.
        address: u64,
        /// The object that was expected there.
        expected: &'static str,
    },
    /// Any other answer of the kernel, as its error number.
    #[error("the kernel refused the read (errno {0})")]
    Other(i32),
}

/// Reads the memory of a target.
pub trait RemoteMemory {
    /// Copies `regions`, in their order, back to back into the front of `into`.
    ///
    /// Each region is copied at a moment of its own: a running target changes between one region and
    /// the next, and even within one. Returns how many of the leading regions were copied whole; the
    /// first that was not is the one at that index. `into` must be at least as long as all regions together.
    ///
    /// # Errors
    ///
    /// [`ReadError::Gone`] or [`ReadError::Denied`] where no region can be read at all. An unmapped
    /// region is not an error here, it ends the count.
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError>;

    /// The time by which the target runs: another one than the caller's where it is simulated.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Fills `into` from `address`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Fault`] where not all of it is mapped, else as [`Self::read_regions`].
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let region = Region {
            address,
            length: into.len(),
        };
        match self.read_regions(&[region], into)? {
            1 => Ok(()),
            _ => Err(ReadError::Fault(address)),
        }
    }

    /// The pointer-sized little-endian integer at `address`.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    fn read_u64(&self, address: u64) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// `length` bytes from `address`, in a buffer of their own. `length` is trusted: bound it first.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    fn read_vec(&self, address: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }
}

/// Fields of a structure whose bytes are at hand.
///
/// A field that lies outside reads as `None`; nothing here can panic, whatever the offset.
pub trait Fields {
    /// The 8 bytes at `offset` as an integer.
    fn u64_at(&self, offset: u64) -> Option<u64>;
    /// The 4 bytes at `offset` as an integer.
    fn u32_at(&self, offset: u64) -> Option<u32>;
    /// The byte at `offset`.
    fn u8_at(&self, offset: u64) -> Option<u8>;
    /// The 4 bytes at `offset` as a signed integer.
    fn i32_at(&self, offset: u64) -> Option<i32> {
        self.u32_at(offset).map(u32::cast_signed)
    }
}

impl Fields for [u8] {
    fn u64_at(&self, offset: u64) -> Option<u64> {
        bytes_at(self, offset).map(u64::from_le_bytes)
    }

    fn u32_at(&self, offset: u64) -> Option<u32> {
        bytes_at(self, offset).map(u32::from_le_bytes)
    }

    fn u8_at(&self, offset: u64) -> Option<u8> {
        self.get(usize::try_from(offset).ok()?).copied()
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: u64) -> Option<[u8; N]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(N)?)?.try_into().ok()
}
