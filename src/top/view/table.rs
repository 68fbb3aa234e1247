//! The table of functions.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::{Palette, Picture, paint, put, tail};
use crate::top::look::{Order, Period, Row, Times};
use crate::top::state::{Shown, State};

/// From these widths on there are more columns.
const WIDE: u16 = 100;
const MIDDLE: u16 = 60;
const NARROW: u16 = 36;

/// A column of numbers.
#[derive(Debug, Clone, Copy)]
struct Column {
    title: &'static str,
    period: Period,
    order: Order,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Share,
    Seconds,
}

impl Column {
    const fn new(title: &'static str, period: Period, order: Order, unit: Unit) -> Column {
        Column {
            title,
            period,
            order,
            unit,
        }
    }

    fn width(self) -> usize {
        self.title.len().max(match self.unit {
            Unit::Share => 5,
            Unit::Seconds => 9,
        })
    }

    fn value(self, row: &Row) -> String {
        let times: Times = row.times(self.period);
        let (nanoseconds, share) = match self.order {
            Order::Own => (times.own, times.own_share),
            Order::Cumulative => (times.cumulative, times.cumulative_share),
        };
        match self.unit {
            Unit::Share => format!("{:.1}", share * 100.0),
            Unit::Seconds => format!("{:.3}", nanoseconds / 1e9),
        }
    }
}

fn columns(width: u16, state: &State) -> Vec<Column> {
    let of_period = |order| {
        let title = match (state.period, order) {
            (Period::Now, Order::Own) => "now own%",
            (Period::Now, Order::Cumulative) => "now cum%",
            (Period::Start, Order::Own) => "own%",
            (Period::Start, Order::Cumulative) => "cum%",
        };
        Column::new(title, state.period, order, Unit::Share)
    };
    let own_seconds = Column::new("own s", Period::Start, Order::Own, Unit::Seconds);
    let cumulative_seconds = Column::new("cum s", Period::Start, Order::Cumulative, Unit::Seconds);
    match width {
        WIDE.. => vec![
            Column::new("now own%", Period::Now, Order::Own, Unit::Share),
            Column::new("now cum%", Period::Now, Order::Cumulative, Unit::Share),
            Column::new("own%", Period::Start, Order::Own, Unit::Share),
            own_seconds,
            Column::new("cum%", Period::Start, Order::Cumulative, Unit::Share),
            cumulative_seconds,
        ],
        MIDDLE.. => vec![
            of_period(Order::Own),
            of_period(Order::Cumulative),
            own_seconds,
            cumulative_seconds,
        ],
        NARROW.. => vec![of_period(Order::Own), of_period(Order::Cumulative)],
        _ => vec![Column {
            title: "%",
            ..of_period(state.order)
        }],
    }
}

/// Draws a line of titles, and as many rows as there is room for; the selected one is among them.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &mut State,
    picture: &Picture<'_>,
    palette: &Palette,
) {
    let columns = columns(area.width, state);
    let page = usize::from(area.height.saturating_sub(1));
    state.table_page = page.max(1);
    let selected = state.selected_row(picture.rows);
    state.table_top = scroll(state.table_top, selected, page, picture.rows.len());

    paint(frame, area, 0, palette.title);
    let mut at = 0;
    for column in &columns {
        let is_sorted = column.unit == Unit::Share
            && (column.period, column.order) == (state.period, state.order);
        let style = match is_sorted {
            true => palette.title.patch(palette.accent),
            false => palette.title,
        };
        let title = format!("{:>width$} ", column.title, width = column.width());
        at = put(frame, area, 0, at, &title, style);
    }
    let name_width = match area.width {
        MIDDLE.. => (area.width - at) * 2 / 5,
        _ => area.width.saturating_sub(at),
    };
    put(frame, area, 0, at, "function", palette.title);
    let place_at = at + name_width;
    put(frame, area, 0, place_at, "file:line", palette.title);

    if picture.rows.is_empty() {
        put(frame, area, 1, 0, nothing(state), palette.dim);
    }
    let shown = picture.rows.iter().enumerate().skip(state.table_top);
    for (line, (number, row)) in (1..area.height).zip(shown) {
        let mut numbers = String::new();
        for column in &columns {
            let value = column.value(row);
            numbers.push_str(&format!("{value:>width$} ", width = column.width()));
        }
        let start = put(frame, area, line, 0, &numbers, palette.plain);
        let Some(label) = picture.labels.get(row.function) else {
            continue;
        };
        // The name has its own room, with a gap before the place.
        let names = Rect {
            width: place_at
                .min(area.width)
                .saturating_sub(u16::from(area.width >= MIDDLE)),
            ..area
        };
        put(frame, names, line, start, &label.name, palette.accent);
        let room = usize::from(area.width.saturating_sub(place_at));
        if room > 0 {
            put(
                frame,
                area,
                line,
                place_at,
                &tail(&label.place, room),
                palette.dim,
            );
        }
        if number == selected {
            paint(frame, area, line, palette.selected);
        }
    }
}

/// Why there is no row.
fn nothing(state: &State) -> &'static str {
    match (&state.thread, state.filter.is_empty()) {
        (_, false) => "no function matches the filter (Esc clears it)",
        (Shown::Awaited(_), true) => "that thread has not been seen yet (t chooses others)",
        _ => "no samples yet",
    }
}

/// The first row to show: as before, unless the selected one would be out of sight or room be wasted.
fn scroll(top: usize, selected: usize, page: usize, rows: usize) -> usize {
    let lowest = (selected + 1).saturating_sub(page.max(1));
    top.max(lowest)
        .min(selected)
        .min(rows.saturating_sub(page).max(lowest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_in_sight() {
        assert_eq!(scroll(0, 0, 10, 100), 0);
        assert_eq!(scroll(0, 10, 10, 100), 1);
        assert_eq!(scroll(50, 52, 10, 100), 50);
        assert_eq!(scroll(50, 20, 10, 100), 20);
        // The table has become shorter.
        assert_eq!(scroll(95, 0, 10, 5), 0);
        assert_eq!(scroll(90, 99, 20, 100), 80);
        assert_eq!(scroll(3, 0, 0, 0), 0);
    }
}
