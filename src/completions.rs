//! `completions`: a script that completes pystrobe's command line in a shell.

use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::errors::Failure;
use crate::stdout;

/// Writes the script to stdout.
///
/// # Errors
///
/// Where stdout cannot be written.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    // clap panics when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    generate(shell, &mut Cli::description(), "pystrobe", &mut script);
    stdout::write(|out| out.write_all(&script))
}
