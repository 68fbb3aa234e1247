//! What is drawn, at sizes from comfortable to absurd.

use std::time::Duration;

use pystrobe_profile::{Counters, TreeIndex};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::*;
use crate::top::branches::{Direction, branches};
use crate::top::example;
use crate::top::load::Load;
use crate::top::look::{Order, Period, Question, rows};
use crate::top::recent::Recent;
use crate::top::state::Shown;

const SIZES: [(u16, u16); 8] = [
    (120, 40),
    (80, 24),
    (40, 10),
    (10, 5),
    (10, 2),
    (3, 3),
    (1, 1),
    (300, 4),
];

fn screen(size: (u16, u16), state: &mut State, colors: bool) -> Terminal<TestBackend> {
    let builder = example::two_threads();
    let profile = builder.so_far();
    let mut recent = Recent::default();
    recent.advance(profile.tree(), &builder.counters(), builder.elapsed_ns());
    let load = Load {
        cpu: Some(0.97),
        gil: Some(0.9),
    };
    let counters = Counters {
        late: 12,
        ..builder.counters()
    };
    let elapsed = Duration::from_nanos(builder.elapsed_ns());
    let look = Look::at(profile, counters, elapsed, &recent, load);
    let mut index = TreeIndex::default();
    index.update(profile.tree());
    let labels: Vec<Label> = profile.functions().iter().map(Label::of).collect();
    let filter = state.filter.clone();
    let question = Question {
        thread: match state.thread {
            Shown::One(thread) => Some(thread),
            Shown::All | Shown::Awaited(_) => None,
        },
        filter: &filter,
        period: state.period,
        order: state.order,
    };
    let rows = rows(&look, &index, &labels, &question);
    let lines = match (state.pane, rows.get(state.selected_row(&rows))) {
        (Some(direction), Some(row)) => branches(&look, &index, row.function, direction, &question),
        _ => Vec::new(),
    };
    let picture = Picture {
        pid: 1234,
        command: "python app.py --with --many --words",
        python: "3.12.1",
        ended: None,
        look: &look,
        labels: &labels,
        rows: &rows,
        branches: &lines,
    };
    let palette = Palette::new(colors);
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal
        .draw(|frame| draw(frame, state, &picture, &palette))
        .unwrap();
    terminal
}

fn text(size: (u16, u16), state: &mut State) -> Vec<String> {
    let terminal = screen(size, state, false);
    let buffer = terminal.backend().buffer();
    let cells = buffer.content().chunks(usize::from(size.0));
    cells
        .map(|row| {
            let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

#[test]
fn a_wide_one_shows_everything() {
    let mut state = State::new(None);
    let lines = text((120, 40), &mut state);
    assert!(lines[0].starts_with("1234 python app.py"), "{lines:#?}");
    assert!(lines[0].ends_with("Python 3.12.1  recording"), "{lines:#?}");
    assert!(
        lines[1].starts_with("1000/s  CPU 97%  GIL 90%  9000 samples in 9.0 s: 0 repaired"),
        "{lines:#?}"
    );
    assert_eq!(lines[2], "by own time, now  all 2 threads");
    assert_eq!(
        lines[3].split_whitespace().collect::<Vec<_>>().join(" "),
        "now own% now cum% own% own s cum% cum s function file:line"
    );
    assert_eq!(
        lines[4].split_whitespace().collect::<Vec<_>>().join(" "),
        "66.7 66.7 66.7 8.000 66.7 8.000 Class.parse /srv/app/parse.py:7"
    );
    assert!(lines[39].starts_with("q quit"), "{lines:#?}");
    assert_eq!(state.table_page, 35);
}

#[test]
fn a_usual_one_shows_the_call_tree_below_the_table() {
    let mut state = State::new(None);
    state.order = Order::Cumulative;
    state.period = Period::Start;
    state.pane = Some(Direction::Callees);
    let lines = text((80, 24), &mut state);
    assert_eq!(lines[2], "by cumulative time, since start  all 2 threads");
    assert!(lines[4].contains("Class.main"), "{lines:#?}");
    let title = lines
        .iter()
        .position(|line| line.starts_with("callees of Class.main"));
    let title = title.unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(lines[title].ends_with("x: callers"), "{lines:#?}");
    assert_eq!(
        lines[title + 3],
        " 16.7%     2.000     Class.parse  /srv/app/parse.py:7"
    );
    state.in_pane = true;
    state.pane_top = 99;
    state.pane = Some(Direction::Callers);
    let lines = text((80, 24), &mut state);
    assert_eq!(state.pane_top, 0);
    assert!(
        lines.iter().any(|line| line.ends_with("MainThread")),
        "{lines:#?}"
    );
}

#[test]
fn a_narrow_one_keeps_what_matters() {
    let lines = text((40, 10), &mut State::new(None));
    assert_eq!(lines[0], "1234 recording 1000/s  CPU 97%  GIL 90%");
    assert_eq!(
        lines[2].split_whitespace().collect::<Vec<_>>().join(" "),
        "66.7 66.7 Class.parse"
    );
    assert_eq!(
        text((10, 5), &mut State::new(None)),
        [
            "1234 recor",
            "    % func",
            " 66.7 Clas",
            " 33.3 Clas",
            "q quit  ?"
        ]
    );
}

#[test]
fn nothing_is_too_small_in_any_state() {
    for size in SIZES {
        for mode in [
            Mode::Table,
            Mode::Help,
            Mode::Filter,
            Mode::SaveAs("a-rather-long-name.pstats".repeat(9)),
            Mode::Replace(String::from("x")),
            Mode::EndProgram,
        ] {
            for pane in [None, Some(Direction::Callees), Some(Direction::Callers)] {
                for in_pane in [false, true] {
                    let mut state = State::new(None);
                    state.mode = mode.clone();
                    state.pane = pane;
                    state.in_pane = in_pane && pane.is_some();
                    state.selected = Some(2);
                    screen(size, &mut state, true);
                    state.filter = String::from("matches nothing");
                    screen(size, &mut state, true);
                }
            }
        }
    }
}

#[test]
fn what_is_asked_stands_in_the_last_line() {
    let mut state = State::new(None);
    for (mode, said) in [
        (Mode::Filter, "/par_"),
        (Mode::SaveAs(String::from("x.pstats")), "save as: x.pstats_"),
        (
            Mode::Replace(String::from("x")),
            "replace it? y/n  x exists",
        ),
    ] {
        state.filter = String::from("par");
        state.mode = mode;
        let lines = text((80, 24), &mut state);
        assert_eq!(lines[23], said);
        assert!(lines[2].ends_with("filter: par"), "{lines:#?}");
    }
    state.mode = Mode::Table;
    state.message = Some(String::from("wrote x.pstats"));
    assert_eq!(text((80, 24), &mut state)[23], "wrote x.pstats");
    state.mode = Mode::Help;
    let lines = text((80, 24), &mut state);
    assert!(
        lines.iter().any(|line| line.starts_with("q Ctrl-C")),
        "{lines:#?}"
    );
    state.mode = Mode::Table;
    state.thread = Shown::Awaited(String::from("worker"));
    assert!(text((80, 24), &mut state)[2].contains("not seen yet"));
}

#[test]
fn without_colors_there_are_none() {
    let colored = |colors| {
        let terminal = screen((80, 24), &mut State::new(None), colors);
        let cells = terminal.backend().buffer().content().to_vec();
        cells
            .iter()
            .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(colored(true));
    assert!(!colored(false));
}

#[test]
fn long_paths_lose_their_beginning() {
    assert_eq!(tail("/a/b/c.py:7", 20), "/a/b/c.py:7");
    assert_eq!(tail("/a/b/c.py:7", 8), "..c.py:7");
    assert_eq!(tail("/a/b/c.py:7", 0), "..");
}
