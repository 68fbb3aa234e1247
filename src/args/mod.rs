//! The command line as it is typed, and the plain options that come out of it.
//!
//! Every subcommand has a `...Args`, which is what clap fills, and a `...Options`, which is what the rest of
//! the program sees. Going from one to the other validates and does nothing else.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::errors::Failure;
use crate::exit_code;

mod async_value;
mod attach;
mod convert;
mod dump;
mod duration;
mod output;
mod program;
mod recording;
mod run;
mod target;
mod top;
mod trace;

pub(crate) use attach::AttachOptions;
pub(crate) use convert::ConvertOptions;
pub(crate) use dump::DumpOptions;
pub(crate) use output::{OpenWith, OutputOptions, OutputSpec, PID, Place};
pub(crate) use program::ProgramSpec;
pub(crate) use recording::RecordingOptions;
pub(crate) use run::RunOptions;
pub(crate) use top::{Subject, TopOptions};
pub(crate) use trace::{TraceOptions, TraceSpec};

const EXAMPLES: &str = "\
Examples:
  pystrobe attach 1234 -d 30 -o out.pstats
  pystrobe run -o out.pstats -o flame.svg script.py --its --own args
  pystrobe trace -o out.pstats script.py --its --own args
  pystrobe top 1234
  pystrobe dump 1234
  pystrobe convert out.pstats -o flame.svg";

/// A profiler for Python programs.
///
/// pystrobe reads the stacks of a live CPython (3.8 and later; older ones are paused for it) without stopping
/// or changing it, or counts every call from inside (trace), and writes pstats files that every Python tool opens,
/// flame graphs and folded stacks.
#[derive(Parser, Debug)]
#[command(
    name = "pystrobe",
    version,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit_code::help()),
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Attach(attach::AttachArgs),
    Run(run::RunArgs),
    Trace(trace::TraceArgs),
    Top(top::TopArgs),
    Dump(dump::DumpArgs),
    Convert(convert::ConvertArgs),
    /// Write a completion script for a shell to stdout
    ///
    /// For example `pystrobe completions bash > ~/.local/share/bash-completion/completions/pystrobe`.
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write a man page to stdout
    ///
    /// For example `pystrobe man | man -l -`, or `pystrobe man attach | man -l -`.
    Man {
        /// The subcommand [default: the page of pystrobe itself]
        subcommand: Option<String>,
    },
}

/// What pystrobe shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Sample a running program.
    Attach(AttachOptions),
    /// Run a program and sample it.
    Run(RunOptions),
    /// Run a program and count its calls.
    Trace(TraceOptions),
    /// Watch a program on the terminal.
    Top(TopOptions),
    /// Print the stacks once.
    Dump(DumpOptions),
    /// Write a recorded profile in other formats.
    Convert(ConvertOptions),
    /// Write a completion script.
    Completions(Shell),
    /// Write a man page.
    Man(Option<String>),
}

impl Cli {
    /// Reads a command line, program name first.
    ///
    /// # Errors
    ///
    /// What clap finds wrong with it (or `--help` and `--version`, which clap treats alike), and combinations that
    /// cannot be meant.
    pub(crate) fn read(typed: &[OsString]) -> Result<Request, Failure> {
        let typed = &async_value::joined(typed);
        let cli = Cli::try_parse_from(typed)?;
        Ok(match cli.command {
            Command::Attach(args) => Request::Attach(args.into_options()?),
            Command::Run(args) => Request::Run(args.into_options(typed)?),
            Command::Trace(args) => Request::Trace(args.into_options(typed)?),
            Command::Top(args) => Request::Top(args.into_options(typed)?),
            Command::Dump(args) => Request::Dump(args.into_options()),
            Command::Convert(args) => Request::Convert(args.into_options()?),
            Command::Completions { shell } => Request::Completions(shell),
            Command::Man { subcommand } => Request::Man(subcommand),
        })
    }

    /// The command line's own description, for completions and man pages.
    pub(crate) fn description() -> clap::Command {
        Cli::command()
    }
}

#[cfg(test)]
mod tests {
    use pystrobe_sampling::AsyncStacks;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::description().debug_assert();
    }

    #[test]
    fn every_long_help_can_be_written() {
        let mut command = Cli::description();
        assert!(
            command
                .render_long_help()
                .to_string()
                .contains("Exit status")
        );
        for subcommand in command.get_subcommands_mut() {
            let help = subcommand.render_long_help().to_string();
            assert!(help.contains("Usage"), "{help}");
        }
    }

    #[test]
    fn dump_and_convert() {
        let read = |typed: &str| {
            let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            Cli::read(&typed).map_err(|failure| failure.to_string())
        };
        assert_eq!(
            read("pystrobe dump --json 12"),
            Ok(Request::Dump(DumpOptions {
                pid: 12,
                subprocesses: false,
                tasks: None,
                json: true
            }))
        );
        assert_eq!(
            read("pystrobe dump --async all --subprocesses 12"),
            Ok(Request::Dump(DumpOptions {
                pid: 12,
                subprocesses: true,
                tasks: Some(AsyncStacks::All),
                json: false
            }))
        );
        let Ok(Request::Convert(options)) = read("pystrobe convert - -o x.svg") else {
            panic!("convert");
        };
        assert_eq!(options.input, None);
        assert!(read("pystrobe convert").is_err());
        assert!(read("pystrobe completions tcsh").is_err());
        assert_eq!(
            read("pystrobe man attach"),
            Ok(Request::Man(Some(String::from("attach"))))
        );
    }
}
