//! The last line: what is asked, else what was said, else the most important keys.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::{Palette, put, tail};
use crate::top::state::{Mode, State};

const KEYS: &str =
    "q quit  ? help  / filter  Enter tree  t thread  o c n sort  p pause  r reset  s save";

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, palette: &Palette) {
    let (text, style) = match &state.mode {
        Mode::Filter => (typing("/", &state.filter, area), palette.accent),
        Mode::SaveAs(name) => (typing("save as: ", name, area), palette.accent),
        Mode::Replace(name) => {
            let question = format!("replace it? y/n  {name} exists");
            (question, palette.warning)
        }
        Mode::EndProgram => (
            String::from("end the program too? y yes (SIGTERM)  n leave it running  Esc stay"),
            palette.warning,
        ),
        Mode::Help => (String::from("any key goes back"), palette.dim),
        Mode::Table => match &state.message {
            Some(message) => (message.clone(), palette.warning),
            None => (KEYS.to_owned(), palette.dim),
        },
    };
    put(frame, area, 0, 0, &text, style);
}

/// What is being typed, with its end in sight.
fn typing(before: &str, text: &str, area: Rect) -> String {
    let room = usize::from(area.width).saturating_sub(before.len() + 1);
    format!("{before}{}_", tail(text, room))
}
