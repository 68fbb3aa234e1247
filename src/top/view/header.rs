//! The header: which process, how the sampler does, what is shown.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::{Palette, Picture, put, put_right};
use crate::top::look::{Order, Period};
use crate::top::state::{Shown, State};

/// Draws three lines, or the most important things in one.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    picture: &Picture<'_>,
    palette: &Palette,
) {
    let (status, style) = match (picture.ended, state.paused) {
        (Some(_), true) => (String::from("ended, paused"), palette.warning),
        (Some(why), false) => (format!("ended: {why}"), palette.warning),
        (None, true) => (String::from("paused"), palette.warning),
        (None, false) => (String::from("recording"), palette.accent),
    };
    let look = picture.look;
    if area.height == 1 {
        let short = picture.ended.map_or(status.as_str(), |_| "ended");
        let column = put(
            frame,
            area,
            0,
            0,
            &format!("{} ", picture.pid),
            palette.accent,
        );
        let column = put(frame, area, 0, column, short, style);
        let rest = format!(" {:.0}/s{}", look.rate, load(picture));
        let column = put(frame, area, 0, column, &rest, palette.dim);
        put(
            frame,
            area,
            0,
            column + 1,
            &choice(state, picture),
            palette.dim,
        );
        return;
    }
    let column = put(
        frame,
        area,
        0,
        0,
        &format!("{} ", picture.pid),
        palette.accent,
    );
    // A long command line must not push the status out.
    let right = format!("Python {}  {status}", picture.python);
    let room = usize::from(area.width.saturating_sub(column)).saturating_sub(right.len() + 1);
    let command: String = picture.command.chars().take(room).collect();
    let column = put(frame, area, 0, column, &command, palette.plain);
    if usize::from(area.width) > right.len() + usize::from(column) {
        put_right(frame, area, 0, column, &right, style);
    } else {
        put_right(frame, area, 0, 0, &status, style);
    }

    let counters = &look.counters;
    let column = put(
        frame,
        area,
        1,
        0,
        &format!("{:.0}/s", look.rate),
        palette.accent,
    );
    let column = put(frame, area, 1, column, &load(picture), palette.accent);
    let counts = format!(
        "  {} samples in {:.1} s: {} repaired, {} truncated, {} lost, {} late, {} skipped",
        counters.taken,
        look.elapsed,
        counters.repaired,
        counters.truncated,
        counters.lost,
        counters.late,
        counters.skipped,
    );
    put(frame, area, 1, column, &counts, palette.dim);

    put(frame, area, 2, 0, &choice(state, picture), palette.dim);
}

/// How busy the process is, as far as that is known.
fn load(picture: &Picture<'_>) -> String {
    let load = picture.look.load;
    let shares = [("CPU", load.cpu), ("GIL", load.gil)];
    let known = shares
        .into_iter()
        .filter_map(|(name, share)| Some((name, share?)));
    known
        .map(|(name, share)| format!("  {name} {:.0}%", share * 100.0))
        .collect()
}

/// What is shown and in which order, in words.
fn choice(state: &State, picture: &Picture<'_>) -> String {
    let order = match state.order {
        Order::Own => "own",
        Order::Cumulative => "cumulative",
    };
    let period = match state.period {
        Period::Now => "now",
        Period::Start => "since start",
    };
    let threads = &picture.look.threads;
    let thread = match &state.thread {
        Shown::All => format!("all {} threads", threads.len()),
        Shown::One(thread) => {
            let name = threads.get(thread.index()).map_or("?", String::as_str);
            format!("thread {name}")
        }
        Shown::Awaited(name) => format!("thread {name} (not seen yet)"),
    };
    let filter = match state.filter.as_str() {
        "" => String::new(),
        filter => format!("  filter: {filter}"),
    };
    format!("by {order} time, {period}  {thread}{filter}")
}
