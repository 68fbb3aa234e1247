//! Strings in the target's memory: `str` objects, and C strings.
//!
//! The text is fit for any output: what UTF-8 cannot hold is written out. Nothing here trusts a length or
//! a character of the target's.

use crate::layout::Layout;
use crate::memory::{Fields, ReadError, RemoteMemory};

/// Code points of a string that are read; the rest of a longer one becomes an ellipsis.
///
/// As long as the longest path that Linux opens (`PATH_MAX`).
pub const STRING_LIMIT: usize = 4096;

/// Bytes of a C string that are read; the rest of a longer one becomes an ellipsis.
pub const C_STRING_LIMIT: usize = 256;

/// Above this many code points it was not the length of a name that was read.
const PLAUSIBLE_LENGTH: u64 = 1 << 32;

/// Reads the `str` object at `address`, of any kind.
///
/// A lone surrogate, as in the name of a file that is not UTF-8, is written as Python would: `\udc80`. Of
/// more than [`STRING_LIMIT`] code points, the first are kept and `…` stands for the others.
///
/// # Errors
///
/// [`ReadError::Implausible`] where it is no ready `str`; else what `memory` answers.
pub fn read_string(
    memory: &impl RemoteMemory,
    layout: &Layout,
    address: u64,
) -> Result<String, ReadError> {
    let implausible = ReadError::Implausible {
        address,
        expected: "a string",
    };
    let fields = &layout.unicode;
    // No more than the smallest string has: one at the end of a mapping must stay readable.
    let ascii_size = usize::try_from(fields.ascii_data).map_err(|_| implausible)?;
    let head = memory.read_vec(address, ascii_size)?;
    let (Some(length), Some(state)) = (head.u64_at(fields.length), head.u32_at(fields.state))
    else {
        return Err(implausible);
    };
    if length >= PLAUSIBLE_LENGTH {
        return Err(implausible);
    }
    let state = state.checked_shr(fields.kind_bit.into()).unwrap_or(0);
    let (compact, ascii) = (state & 0b0_1000 != 0, state & 0b1_0000 != 0);
    let width: usize = match (state & 0b111, ascii) {
        (1, _) => 1,
        (2, false) => 2,
        (4, false) => 4,
        // Kind 0 is a string before 3.12 that is still to be converted from wchar_t.
        _ => return Err(implausible),
    };

    let past_head = |size: u64| address.checked_add(size).ok_or(implausible);
    let data = match (compact, ascii) {
        (true, true) => past_head(fields.ascii_data)?,
        (true, false) => past_head(fields.compact_data)?,
        // An instance of a subclass, or made by an old C API: the characters are a block of their own.
        (false, _) => memory.read_u64(past_head(fields.compact_data)?)?,
    };
    let kept = usize::try_from(length).map_or(STRING_LIMIT, |length| length.min(STRING_LIMIT));
    let characters = memory.read_vec(data, kept * width)?;

    let mut text = String::with_capacity(characters.len());
    for character in characters.chunks_exact(width) {
        let mut wide = [0; 4];
        wide[..width].copy_from_slice(character);
        let code_point = u32::from_le_bytes(wide);
        match char::from_u32(code_point) {
            Some(_) if ascii && code_point >= 0x80 => return Err(implausible),
            Some(character) => text.push(character),
            None if code_point <= 0xffff => text.push_str(&format!("\\u{code_point:04x}")),
            None => return Err(implausible),
        }
    }
    if length > kept as u64 {
        text.push('…');
    }
    Ok(text)
}

/// Reads the C string at `address`.
///
/// Of more than [`C_STRING_LIMIT`] bytes, the first are kept and `…` stands for the others.
///
/// # Errors
///
/// [`ReadError::Implausible`] where it is not UTF-8; else what `memory` answers.
pub fn read_c_string(memory: &impl RemoteMemory, address: u64) -> Result<String, ReadError> {
    let implausible = ReadError::Implausible {
        address,
        expected: "a C string",
    };
    let mut bytes = Vec::new();
    let mut ended = false;
    while !ended && bytes.len() < C_STRING_LIMIT {
        // Up to the next boundary of 64 bytes, so that a string at the end of a mapping is read whole.
        let start = address.checked_add(bytes.len() as u64).ok_or(implausible)?;
        let room = 64 - (start % 64) as usize;
        let chunk = memory.read_vec(start, room.min(C_STRING_LIMIT - bytes.len()))?;
        let end = chunk.iter().position(|&byte| byte == 0);
        ended = end.is_some();
        bytes.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
    }
    match String::from_utf8(bytes) {
        Ok(text) if ended => Ok(text),
        Ok(text) => Ok(text + "…"),
        // The cut may have gone through a character; anything else that is wrong is wrong.
        Err(error) if !ended && error.utf8_error().error_len().is_none() => {
            let valid = error.utf8_error().valid_up_to();
            Ok(String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned() + "…")
        }
        Err(_) => Err(implausible),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::{Minor, builtin};
    use crate::memory::Region;

    /// Where the tests put their string.
    const BASE: u64 = 0x7f00_0000_0000;

    /// Bytes that are mapped from `BASE` on, and nothing else.
    struct Image(Vec<u8>);

    impl RemoteMemory for Image {
        fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
            let mut filled = 0;
            for (index, region) in regions.iter().enumerate() {
                let start = region.address.wrapping_sub(BASE);
                let Some(bytes) = usize::try_from(start)
                    .ok()
                    .and_then(|start| self.0.get(start..start.checked_add(region.length)?))
                else {
                    return Ok(index);
                };
                into[filled..filled + region.length].copy_from_slice(bytes);
                filled += region.length;
            }
            Ok(regions.len())
        }
    }

    fn layout(minor: u8) -> &'static Layout {
        builtin(Minor(3, minor)).unwrap()
    }

    /// A string object: `flags` are `ascii`, `compact` and three bits of `kind`.
    fn object(layout: &Layout, flags: u32, length: u64, behind: &[u8]) -> Image {
        let fields = &layout.unicode;
        let ascii = flags & 0b11000 == 0b11000;
        let size = if ascii {
            fields.ascii_data
        } else {
            fields.compact_data
        };
        let mut bytes = vec![0xaa; size as usize];
        let mut put = |offset: u64, value: &[u8]| {
            bytes[offset as usize..offset as usize + value.len()].copy_from_slice(value);
        };
        put(fields.length, &length.to_le_bytes());
        // `interned` below, and what follows above, are not to be looked at.
        let state = flags << fields.kind_bit | 0b1 | 0x8000_0000;
        put(fields.state, &state.to_le_bytes());
        bytes.extend_from_slice(behind);
        Image(bytes)
    }

    fn read(minor: u8, flags: u32, length: u64, behind: &[u8]) -> Result<String, ReadError> {
        let image = object(layout(minor), flags, length, behind);
        read_string(&image, layout(minor), BASE)
    }

    fn implausible(result: Result<String, ReadError>) -> bool {
        matches!(
            result,
            Err(ReadError::Implausible {
                address: BASE,
                expected: "a string"
            })
        )
    }

    #[test]
    fn each_kind_is_read() {
        for minor in 8..=12 {
            assert_eq!(read(minor, 0b11_001, 3, b"abc").unwrap(), "abc");
            assert_eq!(read(minor, 0b01_001, 2, b"\xe9\xff").unwrap(), "éÿ");
            assert_eq!(read(minor, 0b01_010, 2, &[0x3b, 4, 0x20, 0]).unwrap(), "л ");
            assert_eq!(read(minor, 0b01_100, 1, &[0x00, 0xf6, 1, 0]).unwrap(), "😀");
            assert_eq!(read(minor, 0b11_001, 0, b"").unwrap(), "");
        }
    }

    #[test]
    fn the_characters_of_a_subclass_are_elsewhere() {
        let fields = layout(9).unicode;
        let elsewhere = (BASE + fields.compact_data + 8).to_le_bytes();
        let behind = [elsewhere.as_slice(), b"far"].concat();
        assert_eq!(read(9, 0b00_001, 3, &behind).unwrap(), "far");
        assert_eq!(read(9, 0b10_001, 3, &behind).unwrap(), "far");
    }

    #[test]
    fn a_free_threaded_string_has_a_byte_for_interned() {
        let mut free_threaded = *layout(12);
        free_threaded.unicode.kind_bit = 8;
        let image = object(&free_threaded, 0b11_001, 2, b"ok");
        assert_eq!(read_string(&image, &free_threaded, BASE).unwrap(), "ok");
        assert!(implausible(read_string(&image, layout(12), BASE)));
    }

    #[test]
    fn lone_surrogates_are_written_out() {
        assert_eq!(
            read(10, 0b01_010, 3, &[b'a', 0, 0x80, 0xdc, b'b', 0]).unwrap(),
            "a\\udc80b"
        );
        // Python does not join two surrogates into one character, and so neither is this a pair.
        let pair = [0x3d, 0xd8, 0, 0xde];
        assert_eq!(read(10, 0b01_010, 2, &pair).unwrap(), "\\ud83d\\ude00");
        assert_eq!(
            read(10, 0b01_100, 1, &[0xff, 0xdf, 0, 0]).unwrap(),
            "\\udfff"
        );
    }

    #[test]
    fn a_long_string_is_cut_and_says_so() {
        let exact = "x".repeat(STRING_LIMIT);
        assert_eq!(
            read(11, 0b11_001, STRING_LIMIT as u64, exact.as_bytes()).unwrap(),
            exact
        );
        let longer = read(11, 0b11_001, PLAUSIBLE_LENGTH - 1, exact.as_bytes()).unwrap();
        assert_eq!(longer, exact + "…");
    }

    #[test]
    fn what_is_no_string_is_refused() {
        // Not ready, kinds that do not exist, ASCII that is wide, lengths that no string has.
        assert!(implausible(read(8, 0b00_000, 3, b"abc")));
        for kind in [3, 5, 6, 7] {
            assert!(implausible(read(12, 0b01_000 | kind, 1, &[0; 4])));
        }
        assert!(implausible(read(12, 0b11_010, 1, &[0; 4])));
        assert!(implausible(read(12, 0b11_001, PLAUSIBLE_LENGTH, b"abc")));
        assert!(implausible(read(12, 0b11_001, u64::MAX, b"abc")));
        // Characters that the flags or Unicode rule out.
        assert!(implausible(read(12, 0b11_001, 2, b"a\x80")));
        assert!(implausible(read(12, 0b01_100, 1, &[0, 0, 0x11, 0])));
    }

    #[test]
    fn what_is_not_mapped_is_a_fault() {
        let image = object(layout(12), 0b11_001, 4, b"abc");
        assert_eq!(
            read_string(&image, layout(12), BASE),
            Err(ReadError::Fault(BASE + layout(12).unicode.ascii_data))
        );
        assert_eq!(read_string(&image, layout(12), 0), Err(ReadError::Fault(0)));
        assert!(read_string(&image, layout(12), u64::MAX).is_err());
    }

    #[test]
    fn c_strings_end_at_the_null() {
        assert_eq!(
            read_c_string(&Image(b"dict\0rest".to_vec()), BASE),
            Err(ReadError::Fault(BASE))
        );
        let page = [b"dict\0".as_slice(), &[1; 59]].concat();
        assert_eq!(read_c_string(&Image(page), BASE).unwrap(), "dict");
        let two = [vec![b'm'; 100], vec![0; 28]].concat();
        assert_eq!(
            read_c_string(&Image(two.clone()), BASE).unwrap(),
            "m".repeat(100)
        );
        assert_eq!(
            read_c_string(&Image(two), BASE + 63).unwrap(),
            "m".repeat(37)
        );
        assert!(read_c_string(&Image([vec![0xff; 3], vec![0; 61]].concat()), BASE).is_err());
    }

    #[test]
    fn a_long_c_string_is_cut_between_characters() {
        let ascii = Image(vec![b'n'; C_STRING_LIMIT]);
        assert_eq!(
            read_c_string(&ascii, BASE).unwrap(),
            "n".repeat(C_STRING_LIMIT) + "…"
        );
        let mut bytes = b"n".to_vec();
        bytes.extend("é".repeat(C_STRING_LIMIT).into_bytes());
        let text = read_c_string(&Image(bytes), BASE).unwrap();
        assert_eq!(text, format!("n{}…", "é".repeat((C_STRING_LIMIT - 2) / 2)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, minor in 8..=12_u8, offset in 0..64_u64) {
            let image = Image(bytes);
            let _ = read_string(&image, layout(minor), BASE + offset);
            let _ = read_c_string(&image, BASE + offset);
        }

        #[test]
        fn any_text_is_read_back(text in ".{0,80}", minor in 8..=12_u8) {
            let widest = text.chars().map(u32::from).max().unwrap_or(0);
            let (flags, width) = match widest {
                0..0x80 => (0b11_001, 1),
                0x80..0x100 => (0b01_001, 1),
                0x100..0x1_0000 => (0b01_010, 2),
                _ => (0b01_100, 4),
            };
            let data: Vec<u8> = text
                .chars()
                .flat_map(|character| u32::from(character).to_le_bytes().into_iter().take(width))
                .collect();
            prop_assert_eq!(read(minor, flags, text.chars().count() as u64, &data).unwrap(), text);
        }
    }
}
