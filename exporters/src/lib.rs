//! The formats that a profile is written in and read from, one file a format.
//!
//! An exporter sees a finished [`Profile`] and a [`Style`], and writes bytes. It knows nothing of
//! processes that live, of files, or of the command line. Profiles that are read are untrusted:
//! the readers bound depth, lengths and memory by what the input justifies.

mod flamegraph;
mod folded;
mod format;
mod labels;
pub mod marshal;
mod pstats;
mod table;
mod trailer;

use std::io::{self, Write};

use pystrobe_profile::{Clock, Counted, Profile, StatsTable};

pub use format::{Format, UnknownFormat};
pub use pstats::{PstatsError, PstatsFile, read_pstats};

/// How an output is to look. What a format has no use for is ignored there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// Flame graphs and folded stacks start with the thread.
    pub threads: bool,
    /// Flame graphs and folded stacks label a frame with the line it was executing, not with the first
    /// line of its function.
    pub lines: bool,
    /// Which counts a pstats file holds.
    pub pstats_flavor: PstatsFlavor,
    /// The table's longest, in functions; `None` for all of them.
    pub rows: Option<usize>,
    /// The table's widest, in characters; `None` for as wide as it gets.
    pub width: Option<usize>,
    /// The table uses terminal colours.
    pub color: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            threads: false,
            lines: false,
            pstats_flavor: PstatsFlavor::Classic,
            rows: Some(30),
            width: None,
            color: false,
        }
    }
}

/// Which counts a pstats file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PstatsFlavor {
    /// Those of cProfile's readers: a row a function. Opens everywhere.
    #[default]
    Classic,
    /// Those of the sampler of CPython 3.15: a row per executing line, and a key that marks the
    /// file. Only `pstats` of 3.15 and later opens it.
    Python315,
}

/// Why a profile was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Nothing was recorded; most readers fail on an empty profile.
    #[error("nothing was recorded")]
    Empty,
    /// The flavor's counts are samples, and the profile's are calls.
    #[error("the counts are calls, and those of this flavor are samples")]
    NoSamples,
    /// The output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a profile, by the clock that it is on. A pstats file keeps the other ones as well.
///
/// # Errors
///
/// When the profile is empty, or a pstats flavor is asked for that it does not have (nothing is written then), or
/// when `out` fails.
pub fn write(
    profile: &Profile,
    format: Format,
    style: &Style,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    if profile.is_empty() {
        return Err(ExportError::Empty);
    }
    let counted = profile.recording().counted;
    match format {
        Format::Pstats
            if style.pstats_flavor == PstatsFlavor::Python315 && counted == Counted::Calls =>
        {
            return Err(ExportError::NoSamples);
        }
        Format::Pstats => pstats::write_profile(profile, style.pstats_flavor, out)?,
        Format::Flamegraph => flamegraph::write(profile, style, out)?,
        Format::Folded => folded::write(profile, style, out)?,
        Format::Table => {
            let functions = StatsTable::of_functions(profile);
            table::write(&functions, counted, profile.clock(), style, out)?;
        }
    }
    Ok(())
}

/// Writes the table of the hottest functions of a pstats file that has nothing but its rows.
///
/// # Errors
///
/// When there are no rows (nothing is written then), or when `out` fails.
pub fn write_table(
    table: &StatsTable,
    counted: Counted,
    style: &Style,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    if table.is_empty() {
        return Err(ExportError::Empty);
    }
    Ok(table::write(table, counted, Clock::Wall, style, out)?)
}

/// Writes a pstats file that has nothing but its rows, as every reader takes it.
///
/// # Errors
///
/// When there are no rows (nothing is written then), or when `out` fails.
pub fn write_pstats_table(table: &StatsTable, out: &mut dyn Write) -> Result<(), ExportError> {
    if table.is_empty() {
        return Err(ExportError::Empty);
    }
    Ok(pstats::write_table(table, PstatsFlavor::Classic, out)?)
}
