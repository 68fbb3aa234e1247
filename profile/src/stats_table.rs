//! The stats table: one row a function, as `pstats` knows it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What tells rows apart, as in `pstats`. Strings are shared: most functions share their file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionKey {
    /// `co_filename`; `~` for what has no source.
    pub file: Arc<str>,
    /// `co_firstlineno`; 0 for what has no source.
    pub line: u32,
    /// `co_name`.
    pub name: Arc<str>,
}

/// What the table says of a function. From a sampler, calls are what is said in brackets.
///
/// From a tracer, calls are what cProfile counts (`Modules/_lsprof.c`): a call is primitive when the same function is not
/// running already further down its thread's stack, and that of an edge when the same function does not run already
/// that was called by the same caller. Functions that share file, line and name add up, where cProfile lets one
/// replace the others; their time is still counted once a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The function.
    pub key: FunctionKey,
    /// Primitive calls, those not made by recursion (samples with the function on the stack). 0 only
    /// in a file that does not say.
    pub cc: u64,
    /// All calls (frames of the function, over all samples). 0 only in a file that does not say.
    pub nc: u64,
    /// Seconds in the function itself.
    pub tt: f64,
    /// Seconds in the function and whatever it calls, each moment once however deep the recursion.
    pub ct: f64,
    /// Who calls it, each caller once.
    pub callers: Vec<Caller>,
}

/// What the table says of the calls of a function by one caller; fields as in [`Row`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caller {
    /// Position of the caller's row.
    pub row: usize,
    /// All calls.
    pub nc: u64,
    /// Primitive calls.
    pub cc: u64,
    /// Seconds in the function itself when called from there.
    pub tt: f64,
    /// Seconds in it and whatever it calls when called from there.
    pub ct: f64,
}

/// The table. Every caller is a row of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatsTable {
    rows: Vec<Row>,
}

/// A caller that is not a row of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("row {row} is called by row {caller}, which does not exist")]
pub struct UnknownCaller {
    /// Position of the row.
    pub row: usize,
    /// The position that it gives for a caller.
    pub caller: usize,
}

impl StatsTable {
    /// A table of these rows.
    ///
    /// # Errors
    ///
    /// When a caller is not one of the rows.
    pub fn from_rows(rows: Vec<Row>) -> Result<Self, UnknownCaller> {
        for (index, row) in rows.iter().enumerate() {
            for caller in &row.callers {
                if caller.row >= rows.len() {
                    return Err(UnknownCaller {
                        row: index,
                        caller: caller.row,
                    });
                }
            }
        }
        Ok(Self { rows })
    }

    /// A table whose callers are known to be rows.
    pub(crate) fn from_checked_rows(rows: Vec<Row>) -> Self {
        Self { rows }
    }

    /// All rows. One that was derived from a profile has them in the order of their keys.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of a function.
    #[must_use]
    pub fn find(&self, file: &str, line: u32, name: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.key.line == line && *row.key.name == *name && *row.key.file == *file)
    }

    /// Seconds that were observed, summed over threads: what all functions took themselves.
    #[must_use]
    pub fn total_seconds(&self) -> f64 {
        self.rows.iter().map(|row| row.tt).sum()
    }
}

/// Gives out the positions of keys, and shares their strings.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    strings: HashSet<Arc<str>>,
    positions: HashMap<FunctionKey, u32>,
    keys: Vec<FunctionKey>,
}

impl Keys {
    /// The position of a key, the next one when it was not seen before.
    pub(crate) fn position(&mut self, file: &str, line: u32, name: &str) -> u32 {
        let key = FunctionKey {
            file: self.share(file),
            line,
            name: self.share(name),
        };
        let next = self.keys.len() as u32;
        *self.positions.entry(key.clone()).or_insert_with(|| {
            self.keys.push(key);
            next
        })
    }

    /// Whether a key has a position.
    pub(crate) fn knows(&mut self, file: &str, line: u32, name: &str) -> bool {
        let key = FunctionKey {
            file: self.share(file),
            line,
            name: self.share(name),
        };
        self.positions.contains_key(&key)
    }

    /// How many positions were given out.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key at a position.
    pub(crate) fn key(&self, position: usize) -> &FunctionKey {
        &self.keys[position]
    }

    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.strings.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = Arc::from(text);
        self.strings.insert(Arc::clone(&shared));
        shared
    }
}
