//! The line tables of code objects: which source line a bytecode offset belongs to.
//!
//! CPython has had three encodings ([`LineTableKind`]). Each is decoded once, in one pass, into the same sorted
//! table. Tables may be of any size: a module of 20,000 statements has one well above 64 KiB.

use crate::layout::LineTableKind;

/// Where each line of a code object starts in its bytecode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineTable {
    /// Sorted by `start`, no two with the same; neighbours differ in `line`.
    runs: Box<[Run]>,
}

/// Bytecode from `start` to the next run, all of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// In bytes from the first instruction.
    start: u32,
    /// The line, or `NO_LINE`.
    line: u32,
}

/// Instructions that belong to no line. No source has so many: CPython counts lines in an `int`.
const NO_LINE: u32 = u32::MAX;

impl LineTable {
    /// Decodes the bytes of a `co_lnotab` or a `co_linetable`; `first_line` is `co_firstlineno`.
    ///
    /// Any bytes are accepted. Where a table is cut off or malformed, the lines up to that place are kept.
    #[must_use]
    pub fn decode(kind: LineTableKind, bytes: &[u8], first_line: u32) -> Self {
        let mut builder = Builder {
            runs: Vec::new(),
            offset: 0,
            line: first_line.into(),
        };
        match kind {
            LineTableKind::Lnotab => builder.lnotab(bytes),
            LineTableKind::Ranges => builder.ranges(bytes),
            LineTableKind::Locations => builder.locations(bytes),
        }
        LineTable {
            runs: builder.runs.into_boxed_slice(),
        }
    }

    /// The line of the instruction at `byte_offset` from the first one.
    ///
    /// `None` where the compiler gave it no line, or where the table does not reach.
    #[must_use]
    pub fn line_at(&self, byte_offset: u32) -> Option<u32> {
        let behind = self.runs.partition_point(|run| run.start <= byte_offset);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        (run.line != NO_LINE).then_some(run.line)
    }
}

/// Collects runs while a table is read. Widths are such that no table can overflow them.
struct Builder {
    runs: Vec<Run>,
    /// Bytecode offset that the table has come to.
    offset: u64,
    /// Line that the table has come to; garbage may take it below zero.
    line: i64,
}

impl Builder {
    /// Bytecode from here on has `line`. Replaces a run that turns out to be empty, joins equal neighbours.
    fn start_run(&mut self, line: Option<i64>) {
        // The bytecode of a code object is shorter than 2 GiB; what lies beyond was never executed.
        let Ok(start) = u32::try_from(self.offset) else {
            return;
        };
        let line = line
            .and_then(|line| u32::try_from(line).ok())
            .unwrap_or(NO_LINE);
        if self.runs.last().is_some_and(|last| last.start == start) {
            self.runs.pop();
        }
        if self.runs.last().is_none_or(|last| last.line != line) {
            self.runs.push(Run { start, line });
        }
    }

    /// `Objects/lnotab_notes.txt` of 3.8 and 3.9: pairs of (bytes, lines) to go on by. The last line has no end.
    fn lnotab(&mut self, bytes: &[u8]) {
        self.start_run(Some(self.line));
        for &[bytes, lines] in bytes.as_chunks().0 {
            self.offset += u64::from(bytes);
            self.line += i64::from(lines.cast_signed());
            self.start_run(Some(self.line));
        }
    }

    /// `Objects/lnotab_notes.txt` of 3.10: pairs of (bytes that it covers, lines to go on by first), where -128 is no line.
    fn ranges(&mut self, bytes: &[u8]) {
        for &[bytes, lines] in bytes.as_chunks().0 {
            let line = match lines.cast_signed() {
                i8::MIN => None,
                lines => {
                    self.line += i64::from(lines);
                    Some(self.line)
                }
            };
            self.start_run(line);
            self.offset += u64::from(bytes);
        }
        self.start_run(None);
    }

    /// `Objects/locations.md` of 3.11 and 3.12, in `InternalDocs` since: entries of which only the first byte has bit 7 set.
    fn locations(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&first, behind)) = rest.split_first() {
            if first & 0x80 == 0 {
                break;
            }
            let length = behind.iter().take_while(|byte| **byte & 0x80 == 0).count();
            let (entry, next) = behind.split_at(length);
            let line_delta = match (first >> 3) & 15 {
                // No location.
                15 => None,
                // With all positions, with the line only: the difference is encoded.
                13 | 14 => match signed_varint(entry) {
                    Some(delta) => Some(delta),
                    None => break,
                },
                // One line further, or two, or the same; then the columns.
                code @ 10..=12 => Some(i64::from(code) - 10),
                // The same line; the code is part of a column.
                _ => Some(0),
            };
            self.line += line_delta.unwrap_or(0);
            self.start_run(line_delta.map(|_| self.line));
            // In code units of two bytes.
            self.offset += 2 * (u64::from(first & 7) + 1);
            rest = next;
        }
        self.start_run(None);
    }
}

/// A number in groups of six bits, the lowest first, bit 6 marking that another follows. Its lowest bit is the sign.
///
/// `None` where the last group is missing, or the number is larger than any that CPython writes (32 bits).
fn signed_varint(bytes: &[u8]) -> Option<i64> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(6).enumerate() {
        value |= i64::from(byte & 0x3f) << (6 * index);
        if byte & 0x40 == 0 {
            let magnitude = value >> 1;
            return Some(if value & 1 == 0 {
                magnitude
            } else {
                -magnitude
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [LineTableKind; 3] = [
        LineTableKind::Lnotab,
        LineTableKind::Ranges,
        LineTableKind::Locations,
    ];

    /// The runs of a table as (start, line).
    fn runs(kind: LineTableKind, bytes: &[u8], first_line: u32) -> Vec<(u32, Option<u32>)> {
        let table = LineTable::decode(kind, bytes, first_line);
        let starts = table.runs.iter().map(|run| run.start);
        starts.map(|start| (start, table.line_at(start))).collect()
    }

    #[test]
    fn lnotab_goes_on_by_pairs() {
        // Steps of 255 bytes and 200 lines are too large for one pair and come in several.
        let bytes = [0, 1, 6, 1, 44, 5, 255, 127, 0, 73, 45, 0];
        assert_eq!(
            runs(LineTableKind::Lnotab, &bytes, 1),
            [(0, Some(2)), (6, Some(3)), (50, Some(8)), (305, Some(208))]
        );
        let backwards = LineTable::decode(LineTableKind::Lnotab, &[4, 10, 4, 0xfb], 1);
        assert_eq!(backwards.line_at(7), Some(11));
        assert_eq!(backwards.line_at(1_000_000), Some(6));
    }

    #[test]
    fn ranges_may_have_no_line() {
        let bytes = [4, 1, 2, 0x80, 6, 2, 0, 1, 2, 0xff];
        assert_eq!(
            runs(LineTableKind::Ranges, &bytes, 10),
            [(0, Some(11)), (4, None), (6, Some(13)), (14, None)]
        );
    }

    #[test]
    fn locations_have_five_forms() {
        let bytes = [
            0x80 | 15 << 3, // one unit without a location
            0x80 | 13 << 3 | 1,
            0b10, // two units, one line on
            0x80 | 14 << 3,
            0x40,
            1,
            0,
            1,
            2, // one unit, 32 lines on
            0x80 | 12 << 3,
            4,
            9, // one unit, two lines on
            0x80 | 3 << 3 | 7,
            0x11, // eight units, the same line
            0x80 | 13 << 3,
            0b111, // one unit, three lines back
        ];
        assert_eq!(
            runs(LineTableKind::Locations, &bytes, 7),
            [
                (0, None),
                (2, Some(8)),
                (6, Some(40)),
                (8, Some(42)),
                (26, Some(39)),
                (28, None)
            ]
        );
    }

    #[test]
    fn line_zero_is_a_line() {
        // A module's RESUME is on line 0 since 3.11.
        assert_eq!(
            runs(LineTableKind::Locations, &[0x80 | 13 << 3, 0b11], 1),
            [(0, Some(0)), (2, None)]
        );
    }

    #[test]
    fn what_is_cut_off_proves_nothing() {
        // In the middle of a line difference; in the columns behind one, whose line is proven.
        let cut = LineTable::decode(
            LineTableKind::Locations,
            &[0x80, 0, 0x80 | 13 << 3, 0x42],
            5,
        );
        assert_eq!((cut.line_at(1), cut.line_at(2)), (Some(5), None));
        let columns = LineTable::decode(LineTableKind::Locations, &[0x80 | 14 << 3, 0b10], 5);
        assert_eq!((columns.line_at(1), columns.line_at(2)), (Some(6), None));
        let halved = LineTable::decode(LineTableKind::Ranges, &[2, 1, 2], 5);
        assert_eq!((halved.line_at(1), halved.line_at(2)), (Some(6), None));
        assert_eq!(
            LineTable::decode(LineTableKind::Locations, &[], 5).line_at(0),
            None
        );
        assert_eq!(
            LineTable::decode(LineTableKind::Ranges, &[], 5).line_at(0),
            None
        );
        assert_eq!(
            LineTable::decode(LineTableKind::Lnotab, &[], 5).line_at(0),
            Some(5)
        );
    }

    #[test]
    fn large_tables_are_decoded_whole() {
        let units = 200_000_u32;
        let locations = [0x80 | 11 << 3, 0, 1].repeat(units as usize);
        let table = LineTable::decode(LineTableKind::Locations, &locations, 1);
        assert_eq!(table.line_at(2 * units - 1), Some(units + 1));
        assert_eq!(table.line_at(2 * units), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, first_line: u32, offset: u32) {
            for kind in KINDS {
                let table = LineTable::decode(kind, &bytes, first_line);
                let _ = (table.line_at(offset), table.line_at(0), table.line_at(u32::MAX));
                let sorted = table
                    .runs
                    .windows(2)
                    .all(|pair| pair[0].start < pair[1].start && pair[0].line != pair[1].line);
                prop_assert!(sorted);
            }
        }

        #[test]
        fn a_cut_table_agrees_as_far_as_it_goes(
            entries in prop::collection::vec((0..16_u8, 0..8_u8, -2000..2000_i32), 0..40),
            cut in 0..200_usize,
        ) {
            let mut bytes = Vec::new();
            for (code, length, delta) in entries {
                bytes.push(0x80 | code << 3 | length);
                if matches!(code, 13 | 14) {
                    let mut value = delta.unsigned_abs() << 1 | u32::from(delta < 0);
                    while value >= 64 {
                        bytes.push(0x40 | (value & 63) as u8);
                        value >>= 6;
                    }
                    bytes.push(value as u8);
                }
            }
            let whole = LineTable::decode(LineTableKind::Locations, &bytes, 100_000);
            let part = LineTable::decode(LineTableKind::Locations, &bytes[..cut.min(bytes.len())], 100_000);
            for offset in 0..700 {
                if let Some(line) = part.line_at(offset) {
                    prop_assert_eq!(Some(line), whole.line_at(offset));
                }
            }
        }
    }
}
