//! `convert`: a pstats file, what to write.

use std::path::PathBuf;

use clap::Args;

use super::output::{OutputArgs, OutputOptions};
use crate::errors::Failure;

const EXAMPLES: &str = "\
Examples:
  pystrobe convert out.pstats                 the hottest functions
  pystrobe convert out.pstats -o flame.svg
  pystrobe convert out.pstats -o stacks.folded --threads
  pystrobe convert - -f flamegraph < out.pstats > flame.svg";

/// Write a recorded profile in other formats
///
/// The pstats files that pystrobe writes hold the whole recording, so flame graphs and stacks come out of
/// them exactly. A pstats file of another tool holds a table of functions and no call paths: it can become
/// a table or another pstats file.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConvertArgs {
    /// A pstats file; `-` is stdin
    #[arg(value_name = "INPUT")]
    input: PathBuf,

    /// No summary on stderr; errors stay
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// What `convert` shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConvertOptions {
    /// Where to read; `None` is stdin.
    pub(crate) input: Option<PathBuf>,
    /// What to write.
    pub(crate) output: OutputOptions,
    /// No summary.
    pub(crate) quiet: bool,
}

impl ConvertArgs {
    /// What was typed, as plain options.
    ///
    /// # Errors
    ///
    /// Where the outputs cannot be meant.
    pub(super) fn into_options(self) -> Result<ConvertOptions, Failure> {
        Ok(ConvertOptions {
            input: (self.input.as_os_str() != "-").then_some(self.input),
            output: self.output.into_options()?,
            quiet: self.quiet,
        })
    }
}
