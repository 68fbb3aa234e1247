//! The call tree of the selected function.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::{Palette, Picture, paint, put, put_right, tail};
use crate::top::branches::{Direction, Subject};
use crate::top::look::Period;
use crate::top::state::State;

/// Draws a title, and as many lines as there is room for.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &mut State,
    picture: &Picture<'_>,
    palette: &Palette,
) {
    let Some(direction) = state.pane else {
        return;
    };
    let page = usize::from(area.height.saturating_sub(1));
    state.pane_page = page.max(1);
    let last = picture.branches.len().saturating_sub(page);
    state.pane_top = state.pane_top.min(last);

    let (what, other) = match direction {
        Direction::Callees => ("callees", "x: callers"),
        Direction::Callers => ("callers", "x: callees"),
    };
    let of = picture
        .branches
        .first()
        .map_or("", |branch| name(branch.subject, picture));
    paint(frame, area, 0, palette.title);
    let style = match state.in_pane {
        true => palette.title.patch(palette.accent),
        false => palette.title,
    };
    let column = put(frame, area, 0, 0, &format!("{what} of {of}"), style);
    put_right(frame, area, 0, column, other, palette.title);

    let shown = picture.branches.iter().skip(state.pane_top);
    for (line, branch) in (1..area.height).zip(shown) {
        let numbers = format!("{:>5.1}% ", branch.share * 100.0);
        let mut column = put(frame, area, line, 0, &numbers, palette.dim);
        // Of what fades, seconds mean nothing.
        if area.width >= 60 && state.period == Period::Start {
            let seconds = format!("{:>9.3} ", branch.weight / 1e9);
            column = put(frame, area, line, column, &seconds, palette.dim);
        }
        // Deep levels are told by a number instead of by more indentation than there is room for.
        let most = usize::from(area.width / 6);
        let indent = match branch.level {
            level if level <= most => " ".repeat(level * 2),
            level => format!("{}[{level}] ", " ".repeat(most * 2)),
        };
        let label = format!("{indent}{}", name(branch.subject, picture));
        let column = put(frame, area, line, column, &label, palette.accent);
        if let Subject::Function(function) = branch.subject
            && let Some(label) = picture.labels.get(function)
        {
            let room = usize::from(area.width.saturating_sub(column + 2));
            if room > 10 {
                put(
                    frame,
                    area,
                    line,
                    column + 2,
                    &tail(&label.place, room),
                    palette.dim,
                );
            }
        }
    }
}

fn name<'a>(subject: Subject, picture: &Picture<'a>) -> &'a str {
    match subject {
        Subject::Function(function) => picture.labels.get(function).map(|label| &*label.name),
        Subject::Thread(thread) => picture.look.threads.get(thread).map(|name| &**name),
    }
    .unwrap_or("?")
}
