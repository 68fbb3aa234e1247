//! Which Python it is: from the number that it exports, or from the text of `sys.version`.

/// What [`Version::find`] needs to see of a text to find a version in it, and more than enough: of two
/// pieces that overlap by so many bytes, one has the whole of it.
pub(crate) const TEXT_LENGTH: usize = 64;

/// A version of Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Major, minor, patch: `sys.version_info[:3]`.
    pub(crate) number: (u8, u8, u8),
    /// As at the start of `sys.version`: `3.12.1`, `3.15.0b2`.
    pub(crate) text: String,
}

impl Version {
    /// From `PY_VERSION_HEX` (`Include/patchlevel.h`), or `None` where it is no such number.
    pub(crate) fn from_hex(hex: u64) -> Option<Self> {
        let [major, minor, patch, level] = u32::try_from(hex).ok()?.to_be_bytes();
        let serial = level & 0xf;
        let suffix = match level >> 4 {
            0xa => format!("a{serial}"),
            0xb => format!("b{serial}"),
            0xc => format!("rc{serial}"),
            0xf => String::new(),
            _ => return None,
        };
        let text = format!("{major}.{minor}.{patch}{suffix}");
        matches!(major, 2 | 3).then_some(Self {
            number: (major, minor, patch),
            text,
        })
    }

    /// From memory that holds what `Py_GetVersion` gives, as in `3.8.18 (default, May  9 2026, 07:31:40)`.
    /// That is in a buffer of zeros which the interpreter fills while it starts (`Python/getversion.c`).
    pub(crate) fn find(memory: &[u8]) -> Option<Self> {
        let ends = memory
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| pair == b" (");
        ends.filter_map(|(end, _)| {
            let text = &memory[end.saturating_sub(TEXT_LENGTH / 2)..end];
            let start = text
                .iter()
                .rposition(|byte| *byte == 0)
                .map_or(0, |zero| zero + 1);
            Self::parse(std::str::from_utf8(&text[start..]).ok()?)
        })
        .next()
    }

    /// From `3.8.18`, `3.15.0b2` or, as a build from a repository calls itself, `3.8.18+`.
    fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let (minor, rest) = rest.split_once('.')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (patch, suffix) = rest.split_at(digits);
        let known = suffix
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
        let number = (
            major.parse().ok()?,
            minor.parse().ok()?,
            patch.parse().ok()?,
        );
        (known && matches!(number.0, 2 | 3)).then(|| Self {
            number,
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read() {
        let text = |hex| Version::from_hex(hex).map(|version| version.text);
        assert_eq!(text(0x030c_01f0).as_deref(), Some("3.12.1"));
        assert_eq!(text(0x030f_00b2).as_deref(), Some("3.15.0b2"));
        assert_eq!(text(0x030f_00c1).as_deref(), Some("3.15.0rc1"));
        assert_eq!(Version::from_hex(0x030f_00c1).unwrap().number, (3, 15, 0));
        assert_eq!(text(0), None);
        assert_eq!(text(0x0001_030c_01f0), None);
    }

    #[test]
    fn the_text_is_found() {
        let find = |text: &[u8]| Version::find(text).map(|version| (version.number, version.text));
        let expected = |number, text: &str| Some((number, text.to_owned()));
        let text =
            b"\0\0 (x)\0junk1.2.3 (no\x003.8.18 (default, May  9 2026, 07:31:40) \n[GCC]\0\0";
        assert_eq!(find(text), expected((3, 8, 18), "3.8.18"));
        assert_eq!(find(b"2.7.18+ (heads"), expected((2, 7, 18), "2.7.18+"));
        assert_eq!(
            find(b"\x003.10.0rc1 (tags"),
            expected((3, 10, 0), "3.10.0rc1")
        );
        assert_eq!(find(b"\x003.300.0 ("), None);
        assert_eq!(find(b"\x003.8.18"), None);
        assert_eq!(find(b""), None);
    }

    proptest::proptest! {
        #[test]
        fn any_memory_is_searched(mut memory in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Version::find(&memory);
            memory.extend(b"\x003.9.1 (");
            proptest::prop_assert!(Version::find(&memory).is_some());
        }
    }
}
