//! Real interpreters read what is written, and what they write is read.

use std::collections::BTreeMap;
use std::path::Path;

use pystrobe_exporters::{Format, PstatsFlavor, Style, read_pstats};
use pystrobe_profile::{Counted, StatsTable};
use serde_json::Value;

use crate::pythons::pythons;
use crate::sample::{profile, written};

type Key = (String, u64, String);
type Callers = BTreeMap<Key, Vec<f64>>;
type Rows = BTreeMap<Key, (Vec<f64>, Callers)>;

fn of_table(table: &StatsTable) -> Rows {
    let key = |row: usize| {
        let key = &table.rows()[row].key;
        (
            key.file.to_string(),
            u64::from(key.line),
            key.name.to_string(),
        )
    };
    let rows = table.rows().iter().enumerate().map(|(index, row)| {
        let callers = row.callers.iter().map(|caller| {
            let numbers = [caller.nc as f64, caller.cc as f64, caller.tt, caller.ct];
            (key(caller.row), numbers.to_vec())
        });
        let numbers = vec![row.cc as f64, row.nc as f64, row.tt, row.ct];
        (key(index), (numbers, callers.collect()))
    });
    rows.collect()
}

fn of_json(rows: &Value) -> Rows {
    let key = |key: &[Value]| {
        let [Value::String(file), line, Value::String(name)] = key else {
            panic!("{key:?}")
        };
        (file.clone(), line.as_u64().unwrap(), name.clone())
    };
    let number = |number: &Value| match number {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap(),
    };
    let numbers = |numbers: &[Value]| numbers.iter().map(number).collect();
    let rows = rows.as_array().unwrap().iter().map(|row| {
        let row = row.as_array().unwrap();
        let callers = row[5].as_array().unwrap().iter().map(|caller| {
            let caller = caller.as_array().unwrap();
            (key(&caller[..3]), numbers(&caller[3..]))
        });
        let own = key(row[0].as_array().unwrap());
        (own, (numbers(&row[1..5]), callers.collect()))
    });
    rows.collect()
}

#[test]
fn pstats_of_every_interpreter_reads_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    let profile = profile();
    std::fs::write(&ours, written(&profile, Format::Pstats, &Style::default())).unwrap();
    let table = StatsTable::of(&profile);
    let mut tested = 0;
    for python in pythons() {
        // The file is of marshal's version 4.
        if python.version < (3, 4) {
            continue;
        }
        let output = python.run("load_pstats.py", &[&ours, &theirs], "");
        let output: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(
            of_json(&output["rows"]),
            of_table(&table),
            "{:?}",
            python.version
        );
        let difference = output["total"].as_f64().unwrap() - table.total_seconds();
        assert!(difference.abs() < 1e-9);
        assert_eq!(output["sampled"], false);
        // What pstats wrote after adding our file to itself.
        assert!(read_pstats(&std::fs::read(&theirs).unwrap()).is_ok());
        tested += 1;
    }
    assert!(tested > 0);
}

#[test]
fn pstats_of_315_reads_its_flavor() {
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours");
    let profile = profile();
    let style = Style {
        pstats_flavor: PstatsFlavor::Python315,
        ..Style::default()
    };
    std::fs::write(&ours, written(&profile, Format::Pstats, &style)).unwrap();
    for python in pythons() {
        if python.version < (3, 15) {
            continue;
        }
        let output = python.run("load_pstats.py", &[&ours, &ours], "");
        let output: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(output["sampled"], true);
        assert_eq!(
            of_json(&output["rows"]),
            of_table(&StatsTable::sampled(&profile))
        );
    }
    let file = read_pstats(&std::fs::read(&ours).unwrap()).unwrap();
    assert_eq!(file.counted, Counted::Samples);
    for row in file.table.rows() {
        assert_eq!(row.cc, row.nc, "both are samples on the stack");
    }
    assert_eq!(file.profile, Some(profile));
}

#[test]
fn what_the_profilers_of_every_interpreter_write_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for python in pythons() {
        let (c, pure) = (place("cprofile"), place("profile"));
        let output = python.run("make_profiles.py", &[&c, &pure], "");
        let output: Value = serde_json::from_str(&output).unwrap();
        let read = |path: &Path| read_pstats(&std::fs::read(path).unwrap()).unwrap();

        assert_eq!(
            of_table(&read(&c).table),
            of_json(&output[0]),
            "{:?}",
            python.version
        );

        // profile only counts calls by each caller.
        let (found, expected) = (of_table(&read(&pure).table), of_json(&output[1]));
        for (key, (numbers, callers)) in &expected {
            let (found_numbers, found_callers) = &found[key];
            assert_eq!(found_numbers, numbers, "{key:?}");
            for (caller, calls) in callers {
                let found = &found_callers[caller];
                assert_eq!(found[0], calls[0], "{key:?} by {caller:?}");
                assert!(found[3] <= numbers[3], "{key:?} by {caller:?}");
            }
            assert_eq!(found_callers.len(), callers.len());
        }
    }
}
