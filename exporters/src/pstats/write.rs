//! Writes a stats table as every reader of pstats takes it.

use std::collections::HashMap;
use std::io::{self, Write};

use pystrobe_profile::{FunctionKey, StatsTable};

use super::SAMPLED;
use crate::PstatsFlavor;
use crate::marshal::{Reference, Writer};

/// Writes the dict. Its first byte carries the reference flag, because tuna takes a file that
/// starts with a plain `{` for one of import times.
pub(crate) fn write_table(
    table: &StatsTable,
    flavor: PstatsFlavor,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut keys = Keys {
        writer: Writer::new(out),
        known: vec![None; table.rows().len()],
        strings: HashMap::new(),
    };
    keys.writer.remember();
    keys.writer.dict()?;
    for (index, row) in table.rows().iter().enumerate() {
        keys.write(index, &row.key)?;
        keys.writer.tuple(5)?;
        keys.writer.int(i128::from(row.cc))?;
        keys.writer.int(i128::from(row.nc))?;
        keys.writer.float(row.tt)?;
        keys.writer.float(row.ct)?;
        keys.writer.dict()?;
        for caller in &row.callers {
            keys.write(caller.row, &table.rows()[caller.row].key)?;
            // In this order, unlike that of rows: `_lsprof` writes callers so, and `pstats` reads them so.
            keys.writer.tuple(4)?;
            keys.writer.int(i128::from(caller.nc))?;
            keys.writer.int(i128::from(caller.cc))?;
            keys.writer.float(caller.tt)?;
            keys.writer.float(caller.ct)?;
        }
        keys.writer.end_dict()?;
    }
    if flavor == PstatsFlavor::Python315 {
        keys.writer.tuple(1)?;
        keys.writer.str(SAMPLED)?;
        keys.writer.bool(true)?;
    }
    keys.writer.end_dict()
}

/// Writes keys, and what was written before as a reference.
struct Keys<'w, 't> {
    writer: Writer<'w>,
    known: Vec<Option<Reference>>,
    strings: HashMap<&'t str, Reference>,
}

impl<'t> Keys<'_, 't> {
    fn write(&mut self, row: usize, key: &'t FunctionKey) -> io::Result<()> {
        if let Some(reference) = self.known[row] {
            return self.writer.reference(reference);
        }
        self.known[row] = Some(self.writer.remember());
        self.writer.tuple(3)?;
        self.string(&key.file)?;
        self.writer.int(i128::from(key.line))?;
        self.string(&key.name)
    }

    fn string(&mut self, text: &'t str) -> io::Result<()> {
        if let Some(&reference) = self.strings.get(text) {
            return self.writer.reference(reference);
        }
        self.strings.insert(text, self.writer.remember());
        self.writer.str(text)
    }
}
