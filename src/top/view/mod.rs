//! Draws the view: header, table, call tree, footer. Each piece takes what room there is, and none is no room at all.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::branches::Branch;
use super::look::{Label, Look, Row};
use super::state::{Mode, State};

mod footer;
mod header;
mod help;
mod table;
mod tree;

/// Below this height header and call tree make themselves small.
const SMALL: u16 = 12;

/// What there is to show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picture<'a> {
    /// Process id, command line, version of Python.
    pub(super) pid: u32,
    pub(super) command: &'a str,
    pub(super) python: &'a str,
    /// How the recording ended, where it has.
    pub(super) ended: Option<&'a str>,
    pub(super) look: &'a Look,
    pub(super) labels: &'a [Label],
    pub(super) rows: &'a [Row],
    pub(super) branches: &'a [Branch],
}

/// Styles. Without colours the attributes have to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    plain: Style,
    title: Style,
    accent: Style,
    warning: Style,
    selected: Style,
    dim: Style,
}

impl Palette {
    /// With colours or without.
    pub(super) fn new(colors: bool) -> Palette {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let colored = |color: Color, style: Style| if colors { style.fg(color) } else { style };
        Palette {
            plain,
            title: plain.add_modifier(Modifier::REVERSED),
            accent: colored(Color::Cyan, bold),
            warning: colored(Color::Yellow, bold),
            selected: plain.add_modifier(Modifier::REVERSED),
            dim: if colors {
                plain.fg(Color::DarkGray)
            } else {
                plain
            },
        }
    }
}

/// Draws everything. Tells the state how much room it found.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    state: &mut State,
    picture: &Picture<'_>,
    palette: &Palette,
) {
    let area = frame.area();
    let header = match area.height {
        SMALL.. => 3,
        4.. => 1,
        _ => 0,
    };
    let footer = u16::from(area.height >= 3);
    let (top, rest) = split(area, header);
    let (body, bottom) = split(rest, rest.height.saturating_sub(footer));
    header::draw(frame, top, state, picture, palette);
    if state.mode == Mode::Help {
        help::draw(frame, body, palette);
    } else {
        let (upper, lower) = match (state.pane, state.in_pane) {
            (None, _) => (body, Rect::ZERO),
            (Some(_), _) if body.height >= SMALL - 4 => split(body, body.height / 2),
            (Some(_), false) => (body, Rect::ZERO),
            (Some(_), true) => (Rect::ZERO, body),
        };
        table::draw(frame, upper, state, picture, palette);
        tree::draw(frame, lower, state, picture, palette);
    }
    footer::draw(frame, bottom, state, palette);
}

/// The first rows of an area, and the rest.
fn split(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    let rest = Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    };
    (
        Rect {
            height: rows,
            ..area
        },
        rest,
    )
}

/// Writes a text into a row of an area, from a column on, and gives the column behind it. What has no room is cut off.
fn put(frame: &mut Frame<'_>, area: Rect, row: u16, column: u16, text: &str, style: Style) -> u16 {
    if row >= area.height || column >= area.width {
        return column;
    }
    let room = usize::from(area.width - column);
    let (x, y) = (area.x + column, area.y + row);
    let (end, _) = frame.buffer_mut().set_stringn(x, y, text, room, style);
    end - area.x
}

/// The same against the right edge, where it fits behind `column`.
fn put_right(frame: &mut Frame<'_>, area: Rect, row: u16, column: u16, text: &str, style: Style) {
    let width = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    if let Some(start) = area.width.checked_sub(width)
        && start > column
    {
        put(frame, area, row, start, text, style);
    }
}

/// The last characters of a text that is too long: of a path they tell more than the first.
fn tail(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(2);
    let end: String = text.chars().skip(length - kept).collect();
    format!("..{end}")
}

/// Fills a row with a style.
fn paint(frame: &mut Frame<'_>, area: Rect, row: u16, style: Style) {
    if row < area.height {
        let line = Rect {
            y: area.y + row,
            height: 1,
            ..area
        };
        frame.buffer_mut().set_style(line, style);
    }
}

#[cfg(test)]
mod tests;
