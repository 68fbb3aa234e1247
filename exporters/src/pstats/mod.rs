//! The pstats file: `marshal` of `{(file, line, name): (cc, nc, tt, ct, callers)}`, and behind it
//! the whole profile as a trailer, which readers of pstats do not see.

mod read;
mod write;

use std::io::{self, BufWriter, Write};

use pystrobe_profile::{Profile, StatsTable};

use crate::{PstatsFlavor, trailer};

pub use read::{PstatsError, PstatsFile, read_pstats};
pub(crate) use write::write_table;

/// The key that marks a file whose counts are samples: `(SAMPLED,): True`.
const SAMPLED: &str = "__sampled__";

/// Writes a profile's table with the profile behind it.
pub(crate) fn write_profile(
    profile: &Profile,
    flavor: PstatsFlavor,
    out: &mut dyn Write,
) -> io::Result<()> {
    let table = match flavor {
        PstatsFlavor::Classic => StatsTable::of(profile),
        PstatsFlavor::Python315 => StatsTable::sampled(profile),
    };
    let mut out = BufWriter::new(out);
    write_table(&table, flavor, &mut out)?;
    trailer::write(profile, &mut out)?;
    out.flush()
}
