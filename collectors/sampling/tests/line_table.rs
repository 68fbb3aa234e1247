//! Line tables, against each interpreter's own reading of them.

use pystrobe_sampling::layout::{LineTableKind, Minor};
use pystrobe_sampling::line_table::LineTable;

use crate::support::interpreters::{self, target_file};

#[test]
fn every_code_unit_has_the_line_that_python_gives_it() {
    for python in interpreters::all() {
        let kind = match python.version {
            Minor(_, ..=9) => LineTableKind::Lnotab,
            Minor(_, 10) => LineTableKind::Ranges,
            _ => LineTableKind::Locations,
        };
        let (mut codes, mut largest) = (0, 0);
        for line in python.output(&[&target_file("line_tables.py")]).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, length, first_line, table, changes @ ..] = words.as_slice() else {
                panic!("{python}: {line}");
            };
            let length: u32 = length.parse().unwrap();
            let bytes = from_hex(table);
            let decoded = LineTable::decode(kind, &bytes, first_line.parse().unwrap());

            let mut changes = changes.iter().map(|change| parse(change)).peekable();
            let mut expected = None;
            for offset in (0..length).step_by(2) {
                while let Some((_, line)) = changes.next_if(|(start, _)| *start <= offset) {
                    expected = line;
                }
                assert_eq!(
                    decoded.line_at(offset),
                    expected,
                    "{python}: {name} at {offset}"
                );
            }
            assert_eq!(changes.next(), None);
            if kind != LineTableKind::Lnotab {
                assert_eq!(decoded.line_at(length), None, "{python}: {name}");
            }
            codes += 1;
            largest = largest.max(bytes.len());
        }
        assert!(codes > 700, "{python}: only {codes} code objects");
        assert!(
            largest > 1 << 16,
            "{python}: no table larger than {largest}"
        );
    }
}

/// `offset:line`, with `-` for no line.
fn parse(change: &str) -> (u32, Option<u32>) {
    let (start, line) = change.split_once(':').unwrap();
    (start.parse().unwrap(), line.parse().ok())
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
