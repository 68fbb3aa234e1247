//! `man`: a manual page.

use clap_mangen::Man;

use crate::args::Cli;
use crate::errors::Failure;
use crate::stdout;

/// Writes the page of pystrobe, or of one of its subcommands, to stdout.
///
/// # Errors
///
/// Where there is no such subcommand, or stdout cannot be written.
pub(crate) fn man(subcommand: Option<&str>) -> Result<(), Failure> {
    let mut command = Cli::description();
    // Gives the subcommands their full names.
    command.build();
    let page = match subcommand {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(subcommand) => subcommand.clone(),
            None => {
                return Err(Failure::usage(
                    format!("there is no subcommand `{name}`"),
                    "see `pystrobe --help`",
                ));
            }
        },
    };
    stdout::write(|out| Man::new(page).render(out))
}
