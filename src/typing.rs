//! What clap finds wrong with a command line, in the words and the form of every other error.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Whether it is a mistake, and not a request for help or for the version.
pub(crate) fn is_mistake(error: &clap::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
    )
}

/// The mistake in one line.
pub(crate) fn message(error: &clap::Error) -> String {
    let rendered = error.to_string();
    let first = paragraphs(&rendered).next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(&first).to_owned()
}

/// What to type instead: clap's own advice, where it has some.
pub(crate) fn hint(error: &clap::Error) -> String {
    let rendered = error.to_string();
    let advice = paragraphs(&rendered)
        .skip(1)
        .find_map(|paragraph| paragraph.strip_prefix("tip: ").map(str::to_owned));
    if let Some(advice) = advice {
        return advice;
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument))
            if error.kind() == ErrorKind::ValueValidation && argument.contains("PID") =>
        {
            String::from("a process is told by its number: `pgrep -a python` lists those of Python")
        }
        _ => String::from("--help tells what can be typed"),
    }
}

/// What empty lines divide, each in one line.
fn paragraphs(text: &str) -> impl Iterator<Item = String> {
    text.split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ").trim().to_owned()
    })
}
