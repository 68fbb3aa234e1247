//! What the keys do.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::{Palette, put};

/// Every key.
pub(super) const KEYS: [(&str, &str); 16] = [
    ("up down k j", "select a function; PgUp PgDn Home End too"),
    ("o", "sort by own time"),
    ("c", "sort by cumulative time"),
    ("n", "now (half-life 2 s) or since the start"),
    ("t T", "next, previous thread; then all again"),
    ("/", "filter by name or file; Enter keeps, Esc clears"),
    ("Enter", "open or close the call tree of the function"),
    ("x", "callees or callers"),
    ("Tab", "move in the table or in the call tree"),
    ("p Space", "pause the view; the recording goes on"),
    ("r", "reset: the recording begins anew"),
    ("s", "save everything recorded, as pstats; or .svg, .folded"),
    ("Esc", "clear the filter; close the call tree"),
    ("?", "this help"),
    ("q Ctrl-C", "quit"),
    ("Ctrl-Z", "stop; `fg` in the shell brings it back"),
];

/// Draws the list.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, palette: &Palette) {
    for (row, (keys, meaning)) in (0..area.height).zip(KEYS) {
        let column = put(frame, area, row, 0, &format!("{keys:<12} "), palette.accent);
        put(frame, area, row, column, meaning, palette.dim);
    }
}
