//! What is said on stderr besides errors: warnings, notes, summaries.

use std::io::{self, Write};

use pystrobe_profile::escape;

/// Says things on stderr, unless asked to be quiet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notes {
    quiet: bool,
}

impl Notes {
    /// `quiet` silences everything but warnings.
    pub(crate) fn new(quiet: bool) -> Self {
        Notes { quiet }
    }

    /// A line of the summary, as it is.
    pub(crate) fn line(self, text: &str) {
        if !self.quiet {
            put(text);
        }
    }

    /// Something that is good to know.
    pub(crate) fn note(self, text: &str) {
        self.line(&format!("pystrobe: note: {text}"));
    }

    /// Something that the result suffers from. Not silenced: it is what would have been an error, had
    /// there not been something left to do.
    pub(crate) fn warning(self, text: &str) {
        put(&format!("pystrobe: warning: {text}"));
    }
}

/// Where stderr is closed there is nobody to tell; `eprintln!` would panic.
fn put(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escape(text));
}
