//! Reads a pstats file with a Python's own `pstats`, and knows the laws that such a file obeys.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::interpreters::Interpreter;
use super::tests_folder;

/// File, first line, name: what pstats calls a function.
pub(crate) type Key = (String, u32, String);

/// A function's row.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    /// Samples with the function on the stack.
    pub(crate) cc: u64,
    /// Frames of the function over all samples.
    pub(crate) nc: u64,
    /// Seconds on top.
    pub(crate) tt: f64,
    /// Seconds on the stack.
    pub(crate) ct: f64,
    /// Who called it.
    pub(crate) callers: Vec<Edge>,
}

/// What a row says of one caller.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Edge {
    /// The caller.
    pub(crate) key: Key,
    /// Frames over all samples.
    pub(crate) nc: u64,
    /// Samples.
    pub(crate) cc: u64,
    /// Seconds on top.
    pub(crate) tt: f64,
    /// Seconds on the stack.
    pub(crate) ct: f64,
}

/// A file, as one Python's `pstats` reads it.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    /// All rows.
    pub(crate) rows: BTreeMap<Key, Row>,
    /// What `pstats` says is the whole time.
    pub(crate) total_tt: f64,
}

#[derive(Deserialize)]
struct Printed {
    total_tt: f64,
    rows: Vec<(Key, Row)>,
}

/// Reads a file in this Python.
pub(crate) fn read(python: &Interpreter, file: &Path) -> Stats {
    let helper = tests_folder().join("support/read_pstats.py");
    let output = python.output(&[helper.to_str().unwrap(), file.to_str().unwrap()]);
    let printed: Printed = serde_json::from_str(&output).unwrap();
    Stats {
        total_tt: printed.total_tt,
        rows: printed.rows.into_iter().collect(),
    }
}

impl Stats {
    /// The row of a function, by its name and the end of its file's name. There has to be just one.
    pub(crate) fn row(&self, file: &str, name: &str) -> &Row {
        let found: Vec<_> = self.find(file, name).collect();
        assert_eq!(
            found.len(),
            1,
            "rows for {name} of {file}: {found:?} in {:?}",
            self.keys()
        );
        found[0].1
    }

    /// The key of a function, likewise.
    pub(crate) fn key(&self, file: &str, name: &str) -> &Key {
        let found: Vec<_> = self.find(file, name).collect();
        assert_eq!(
            found.len(),
            1,
            "rows for {name} of {file}: {found:?} in {:?}",
            self.keys()
        );
        found[0].0
    }

    /// All rows of that name and the end of that file's name.
    pub(crate) fn find(&self, file: &str, name: &str) -> impl Iterator<Item = (&Key, &Row)> {
        self.rows
            .iter()
            .filter(move |(key, _)| key.0.ends_with(file) && key.2 == name)
    }

    /// All keys, for messages.
    pub(crate) fn keys(&self) -> Vec<&Key> {
        self.rows.keys().collect()
    }

    /// The sum of all own times.
    pub(crate) fn own_time(&self) -> f64 {
        self.rows.values().map(|row| row.tt).sum()
    }

    /// Holds the file to what a sampled pstats file promises.
    pub(crate) fn obeys_the_laws(&self) {
        // Sums of rounded microseconds and of floats in another order may differ in the last places.
        let at_most = |a: f64, b: f64| a <= b * (1.0 + 1e-9) + 1e-9;
        assert!(!self.rows.is_empty());
        let mut edges = 0;
        for (key, row) in &self.rows {
            assert!(1 <= row.cc && row.cc <= row.nc, "{key:?} {row:?}");
            assert!(row.tt >= 0.0 && row.ct.is_finite(), "{key:?} {row:?}");
            assert!(at_most(row.tt, row.ct), "{key:?} {row:?}");
            assert!(
                !key.0.is_empty() && !key.2.chars().any(char::is_control),
                "{key:?}"
            );
            for edge in &row.callers {
                edges += 1;
                let caller = self
                    .rows
                    .get(&edge.key)
                    .unwrap_or_else(|| panic!("{:?} calls {key:?} and has no row", edge.key));
                assert!(1 <= edge.cc && edge.cc <= edge.nc, "{key:?} {edge:?}");
                assert!(
                    edge.cc <= caller.cc && edge.cc <= row.cc,
                    "{key:?} {edge:?}"
                );
                assert!(edge.nc <= row.nc, "{key:?} {edge:?}");
                assert!(
                    at_most(edge.tt, edge.ct) && at_most(edge.tt, row.tt),
                    "{key:?} {edge:?}"
                );
                assert!(
                    at_most(edge.ct, caller.ct) && at_most(edge.ct, row.ct),
                    "{key:?} {edge:?}"
                );
            }
        }
        assert!(
            edges > 0,
            "a file needs an edge, or snakeviz and tuna find no root"
        );
        let roots: f64 = self
            .rows
            .values()
            .filter(|row| row.callers.is_empty())
            .map(|row| row.ct)
            .sum();
        assert!(
            (roots - self.own_time()).abs() <= 1e-6 * self.own_time() + 1e-9,
            "the roots hold {roots} s of {} s: {:?}",
            self.own_time(),
            self.keys()
        );
        assert!((self.total_tt - self.own_time()).abs() <= 1e-6 * self.total_tt + 1e-9);
    }
}
