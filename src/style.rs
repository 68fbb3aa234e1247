//! How outputs shall look.

use std::io::{self, IsTerminal};

use pystrobe_exporters::Style;

use crate::args::OutputOptions;

/// The exporters' style for these options.
pub(crate) fn style(options: &OutputOptions) -> Style {
    let to_terminal = io::stdout().is_terminal();
    Style {
        threads: options.threads,
        lines: options.lines,
        pstats_flavor: options.pstats_flavor,
        width: to_terminal.then(terminal_width).flatten(),
        color: to_terminal && is_colorful(),
        ..Style::default()
    }
}

/// In characters.
fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(width.0))
}

/// Whether what goes to a terminal is coloured: where the terminal can, unless the user objects
/// (<https://no-color.org>).
pub(crate) fn is_colorful() -> bool {
    let objected = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !objected && !dumb
}
