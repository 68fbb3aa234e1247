//! Bytes that start where a line of the processor's caches does.
//!
//! The kernel copies with instructions that move a line at a time where source and destination are aligned alike, and in
//! pieces, in no order that is promised, where they are not (Intel's and AMD's manuals: fast-string operations). Then two
//! words of one line may be of two moments: with a buffer that started 16 bytes off, a frame on the data stack had the code
//! of one call and the caller of another one in up to a thousandth of the samples. So whole lines are read, to where a
//! line starts.

use std::ops::{Deref, DerefMut};

use crate::memory::CACHE_LINE;

const LINE: usize = CACHE_LINE as usize;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    storage: Vec<u8>,
    /// Where in the storage the first line starts.
    start: usize,
    length: usize,
}

impl Bytes {
    /// Makes it longer or shorter; what is new is zero or left over, and what was there stays.
    pub(super) fn resize(&mut self, length: usize) {
        let kept = self.start..self.start + self.length.min(length);
        if self.storage.len() < length + LINE {
            self.storage.resize(length + LINE, 0);
            // It may lie elsewhere now.
            let start = self.storage.as_ptr().align_offset(LINE).min(LINE);
            self.storage.copy_within(kept, start);
            self.start = start;
        }
        self.length = length;
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.length]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_start_at_a_line_and_stay_what_they_are() {
        let mut bytes = Bytes::default();
        assert!(bytes.is_empty());
        for length in [1, 100, 5_000, 70, 1 << 20, 3] {
            let before: Vec<u8> = bytes.iter().copied().take(length).collect();
            bytes.resize(length);
            assert_eq!(bytes.len(), length);
            assert!(bytes.starts_with(&before));
            assert!(bytes.as_ptr().cast::<u8>().addr().is_multiple_of(LINE));
            for (place, byte) in bytes.iter_mut().enumerate() {
                *byte = place as u8;
            }
        }
    }
}
