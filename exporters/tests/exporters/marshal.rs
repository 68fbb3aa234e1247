//! marshal against itself and against real interpreters.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use pystrobe_exporters::marshal::{MarshalProblem, Object, Reference, Value, Writer, read};

use crate::pythons::pythons;

/// A value to write.
#[derive(Debug, Clone)]
enum Plain {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Plain>),
    List(Vec<Plain>),
    Dict(Vec<(Plain, Plain)>),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// The notation of `marshal_values.py`.
fn plain_notation(value: &Plain) -> String {
    match value {
        Plain::None => "N".into(),
        Plain::Bool(true) => "T".into(),
        Plain::Bool(false) => "F".into(),
        Plain::Int(value) => format!("i{value}"),
        Plain::Float(value) => format!("f{}", hex(&value.to_be_bytes())),
        Plain::Str(value) => format!("s{}", hex(value.as_bytes())),
        Plain::Bytes(value) => format!("b{}", hex(value)),
        Plain::Tuple(items) => format!("({})", join(items.iter().map(plain_notation))),
        Plain::List(items) => format!("[{}]", join(items.iter().map(plain_notation))),
        Plain::Dict(items) => {
            let items = items.iter();
            let item = |(key, value): &(Plain, Plain)| {
                format!("{}:{}", plain_notation(key), plain_notation(value))
            };
            format!("{{{}}}", join(items.map(item)))
        }
    }
}

fn notation(value: Value<'_, '_>) -> String {
    match value.object() {
        Object::None => "N".into(),
        Object::Bool(true) => "T".into(),
        Object::Bool(false) => "F".into(),
        Object::Int(value) => format!("i{value}"),
        Object::Float(value) => format!("f{}", hex(&value.to_be_bytes())),
        Object::Str(value) => format!("s{}", hex(value.as_bytes())),
        Object::Bytes(value) => format!("b{}", hex(value)),
        Object::Tuple(_) => format!("({})", join(value.items().map(notation))),
        Object::List(_) => format!("[{}]", join(value.items().map(notation))),
        Object::Dict(_) => {
            let items: Vec<_> = value.items().map(notation).collect();
            let pairs = items
                .chunks(2)
                .map(|pair| format!("{}:{}", pair[0], pair[1]));
            format!("{{{}}}", join(pairs))
        }
    }
}

/// Writes a value. Strings are remembered, and referred to when they come again.
fn put(writer: &mut Writer<'_>, value: &Plain, known: &mut Vec<(String, Reference)>) {
    match value {
        Plain::None => writer.none().unwrap(),
        Plain::Bool(value) => writer.bool(*value).unwrap(),
        Plain::Int(value) => writer.int(i128::from(*value)).unwrap(),
        Plain::Float(value) => writer.float(*value).unwrap(),
        Plain::Str(value) => match known.iter().find(|(text, _)| text == value) {
            Some((_, reference)) => writer.reference(*reference).unwrap(),
            None => {
                known.push((value.clone(), writer.remember()));
                writer.str(value).unwrap();
            }
        },
        Plain::Bytes(value) => writer.bytes(value).unwrap(),
        Plain::Tuple(items) => {
            writer.tuple(items.len()).unwrap();
            items.iter().for_each(|item| put(writer, item, known));
        }
        Plain::List(items) => {
            writer.remember();
            writer.list(items.len()).unwrap();
            items.iter().for_each(|item| put(writer, item, known));
        }
        Plain::Dict(items) => {
            writer.dict().unwrap();
            for (key, value) in items {
                put(writer, key, known);
                put(writer, value, known);
            }
            writer.end_dict().unwrap();
        }
    }
}

fn marshalled(value: &Plain) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut Writer::new(&mut bytes), value, &mut Vec::new());
    bytes
}

fn plain() -> impl Strategy<Value = Plain> {
    let text = prop_oneof!["[a-c]{0,2}", ".{0,9}", "[a-z]{250,260}"];
    let leaf = prop_oneof![
        Just(Plain::None),
        any::<bool>().prop_map(Plain::Bool),
        any::<i64>().prop_map(Plain::Int),
        any::<i32>().prop_map(|int| Plain::Int(int.into())),
        any::<f64>().prop_map(Plain::Float),
        text.clone().prop_map(Plain::Str),
        text.prop_map(Plain::Str),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Plain::Bytes),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        // Keys that no Python takes for equal: 1, 1.0 and True would become one.
        let dict = prop::collection::btree_map("[a-z]{1,6}", inner.clone(), 0..5);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Plain::Tuple),
            prop::collection::vec(inner.clone(), 0..8).prop_map(Plain::List),
            dict.prop_map(|dict| {
                Plain::Dict(dict.into_iter().map(|(k, v)| (Plain::Str(k), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in plain()) {
        let mut bytes = marshalled(&value);
        let end = bytes.len();
        bytes.extend_from_slice(b"trailing");
        let document = read(&bytes).unwrap();
        prop_assert_eq!(document.end(), end);
        prop_assert_eq!(notation(document.root()), plain_notation(&value));
        for len in 0..end.min(200) {
            let error = read(&bytes[..len]).unwrap_err();
            prop_assert_eq!(error.problem, MarshalProblem::Truncated);
            prop_assert!(error.offset <= len);
        }
    }
}

#[test]
fn real_interpreters_agree() {
    // The same values for each interpreter.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut values: Vec<Plain> = Vec::new();
    for _ in 0..300 {
        values.push(plain().new_tree(&mut runner).unwrap().current());
    }
    values.push(Plain::Tuple(vec![Plain::None; 300]));
    let input: Vec<String> = values.iter().map(|value| hex(&marshalled(value))).collect();
    let expected: Vec<String> = values.iter().map(plain_notation).collect();
    for python in pythons() {
        // What is written is of version 4, which 2.7 does not read.
        let reads_ours = python.version >= (3, 4);
        let input = if reads_ours {
            input.join("\n")
        } else {
            String::new()
        };
        let output = python.run("marshal_values.py", &[], &input);
        let (theirs, loaded) = output.split_once("\n\n").unwrap();
        let mut count = 0;
        for line in theirs.lines() {
            let (bytes, expected) = line.split_once(' ').unwrap();
            let bytes: Vec<u8> = (0..bytes.len() / 2)
                .map(|at| u8::from_str_radix(&bytes[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            let document = read(&bytes).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(document.end(), bytes.len(), "{line}");
            let (mut found, mut expected) = (notation(document.root()), expected.to_owned());
            if python.version.0 == 2 {
                // There an interned string is bytes.
                (found, expected) = (found.replace('s', "b"), expected.replace('s', "b"));
            }
            assert_eq!(found, expected, "{:?}", python.version);
            count += 1;
        }
        assert!(count > 100);
        if reads_ours {
            assert_eq!(loaded.lines().collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn references() {
    // Flagged None, True and False take no number.
    let bytes = b"\xa9\x05\xce\xd4\xc6\xda\x01ar\x01\0\0\0";
    let document = read(bytes).unwrap();
    assert_eq!(notation(document.root()), "(N,T,F,s61,s61)");
    // To itself, to the future, before the first.
    for bytes in [
        &b"\xdb\x01\0\0\0r\0\0\0\0"[..],
        b"\xa9\x01r\x01\0\0\0",
        b"r\xff\xff\xff\xff",
        b"R\0\0\0\0",
    ] {
        assert_eq!(read(bytes).unwrap_err().problem, MarshalProblem::Reference);
    }
    // Python 2: interned strings by their order.
    let document = read(b"(\x03\0\0\0t\x01\0\0\0at\x01\0\0\0bR\x01\0\0\0").unwrap();
    assert_eq!(notation(document.root()), "(s61,s62,s62)");
}

#[test]
fn faults_say_where() {
    for (bytes, message) in [
        (&b""[..], "cut short at byte 0"),
        (b")\x02N", "cut short at byte 0"),
        (b"{z\x01kN", "cut short at byte 5"),
        (b")\x02Nc", "unexpected type 'c' at byte 3"),
        (b"{N0", "unexpected type '0' at byte 2"),
        (b"0", "unexpected type '0' at byte 0"),
        (b"s\xff\xff\xff\xff", "impossible length at byte 1"),
        (b"f\x02xx", "bad number at byte 1"),
        (b"l\x01\0\0\0\xff\xff", "bad number at byte 1"),
        (b")\x01r\x05\0\0\0", "bad reference at byte 2"),
        (b"g\0\0", "cut short at byte 1"),
        (b"z\x05abc", "cut short at byte 2"),
        (b"l\0\0\0\x80", "cut short at byte 5"),
    ] {
        assert_eq!(read(bytes).unwrap_err().to_string(), message);
    }
}

#[test]
fn integers_of_any_size() {
    let of = |bytes: &[u8]| match *read(bytes).unwrap().root().object() {
        Object::Int(value) => value,
        ref other => panic!("{other:?}"),
    };
    let mut huge = b"l\x00\x10\x00\x00".to_vec();
    huge.extend_from_slice(&b"\xff\x7f".repeat(4096));
    assert_eq!(of(&huge), i64::MAX);
    huge[1..5].copy_from_slice(&(-4096i32).to_le_bytes());
    assert_eq!(of(&huge), i64::MIN);
    assert_eq!(of(b"l\0\0\0\0"), 0);
    assert_eq!(of(b"I\xff\xff\xff\xff\xff\xff\xff\xff"), -1);
}
