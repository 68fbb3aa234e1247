//! The formats by name.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A format that a profile can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// What Python's `pstats` reads, with the whole profile behind it.
    Pstats,
    /// A flame graph, as SVG.
    Flamegraph,
    /// A line a stack: `main;helper 1234`, in microseconds, or in nanoseconds where calls were traced.
    Folded,
    /// The hottest functions, to be read by people.
    Table,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 4] = [
        Format::Pstats,
        Format::Flamegraph,
        Format::Folded,
        Format::Table,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Pstats => "pstats",
            Format::Flamegraph => "flamegraph",
            Format::Folded => "folded",
            Format::Table => "table",
        }
    }

    /// The format that a file's name stands for, where it stands for one.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "pstats" | "prof" => Some(Format::Pstats),
            "svg" => Some(Format::Flamegraph),
            "folded" | "collapsed" | "txt" => Some(Format::Folded),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no format's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: it is one of pstats, flamegraph, folded, table")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Format::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "svgz".parse::<Format>().unwrap_err().to_string();
        assert!(error.contains("\"svgz\""));
        for format in Format::ALL {
            assert!(error.contains(format.name()));
        }
    }

    #[test]
    fn paths() {
        let of = |path: &str| Format::from_path(Path::new(path));
        assert_eq!(of("a/out.pstats"), Some(Format::Pstats));
        assert_eq!(of("out.PROF"), Some(Format::Pstats));
        assert_eq!(of("x.svg"), Some(Format::Flamegraph));
        assert_eq!(of("x.folded"), Some(Format::Folded));
        assert_eq!(of("x.collapsed"), Some(Format::Folded));
        assert_eq!(of("x.txt"), Some(Format::Folded));
        assert_eq!(of("svg"), None);
        assert_eq!(of("-"), None);
    }
}
