//! What the user has chosen, and what each key changes about it. Knows no terminal and no recording.

use pystrobe_profile::ThreadId;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::branches::Direction;
use super::look::{Order, Period, Row};

/// What is shown, and how.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) period: Period,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) thread: Shown,
    /// Position of the selected function; the first row while nobody has moved.
    pub(super) selected: Option<usize>,
    /// The call tree, where it is open.
    pub(super) pane: Option<Direction>,
    /// Whether the arrows move in the call tree.
    pub(super) in_pane: bool,
    /// First line of the call tree that is shown, and first row of the table.
    pub(super) pane_top: usize,
    pub(super) table_top: usize,
    /// Rows and lines that there is room for, as the last drawing found.
    pub(super) table_page: usize,
    pub(super) pane_page: usize,
    pub(super) paused: bool,
    pub(super) mode: Mode,
    /// Said once, until the next key.
    pub(super) message: Option<String>,
}

/// Whose time is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    All,
    One(ThreadId),
    /// The thread that `--thread` names has not been seen yet.
    Awaited(String),
}

/// What keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    Help,
    /// A filter is being typed.
    Filter,
    /// The name of a file is being typed.
    SaveAs(String),
    /// That file exists: shall it be replaced?
    Replace(String),
    /// Shall the program that was started here end too?
    EndProgram,
}

/// What the state cannot do itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Quit { end_program: bool },
    Suspend,
    Reset,
    Save { name: String, replace: bool },
}

/// What a key acts on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The table.
    pub(super) rows: &'a [Row],
    /// Lines of the call tree.
    pub(super) branches: usize,
    /// Threads that were seen.
    pub(super) threads: usize,
    /// The process.
    pub(super) pid: u32,
    /// Whether a program that was started here still runs.
    pub(super) program_runs: bool,
}

impl State {
    /// Everything, by own time, now; or only the thread that is named.
    pub(super) fn new(thread: Option<String>) -> State {
        State {
            period: Period::Now,
            order: Order::Own,
            filter: String::new(),
            thread: thread.map_or(Shown::All, Shown::Awaited),
            selected: None,
            pane: None,
            in_pane: false,
            pane_top: 0,
            table_top: 0,
            table_page: 1,
            pane_page: 1,
            paused: false,
            mode: Mode::Table,
            message: None,
        }
    }

    /// Position in the table of the selected row; 0 where the function is not in it.
    pub(super) fn selected_row(&self, rows: &[Row]) -> usize {
        self.selected
            .and_then(|selected| rows.iter().position(|row| row.function == selected))
            .unwrap_or(0)
    }

    /// Reacts to a key.
    pub(super) fn press(&mut self, key: KeyEvent, scene: &Scene<'_>) -> Option<Action> {
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            // In raw mode Ctrl-C and Ctrl-Z are keys like any other.
            return match key.code {
                KeyCode::Char('c') => self.quit(scene),
                KeyCode::Char('z') => Some(Action::Suspend),
                _ => None,
            };
        }
        match std::mem::replace(&mut self.mode, Mode::Table) {
            Mode::Table => self.in_table(key.code, scene),
            Mode::Help => None,
            Mode::Filter => {
                self.in_filter(key.code);
                None
            }
            Mode::SaveAs(name) => self.in_save_as(name, key.code),
            Mode::Replace(name) => match key.code {
                KeyCode::Char('y') => Some(Action::Save {
                    name,
                    replace: true,
                }),
                _ => {
                    self.mode = Mode::SaveAs(name);
                    None
                }
            },
            Mode::EndProgram => match key.code {
                KeyCode::Char('y') => Some(Action::Quit { end_program: true }),
                KeyCode::Char('n') => Some(Action::Quit { end_program: false }),
                _ => None,
            },
        }
    }

    fn quit(&mut self, scene: &Scene<'_>) -> Option<Action> {
        if scene.program_runs {
            self.mode = Mode::EndProgram;
            return None;
        }
        Some(Action::Quit { end_program: false })
    }

    fn in_table(&mut self, code: KeyCode, scene: &Scene<'_>) -> Option<Action> {
        match code {
            KeyCode::Char('q') => return self.quit(scene),
            KeyCode::Char('r') => {
                self.paused = false;
                return Some(Action::Reset);
            }
            KeyCode::Char('s') => {
                self.mode = Mode::SaveAs(format!("pystrobe-{}.pstats", scene.pid));
            }
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('o') => self.order = Order::Own,
            KeyCode::Char('c') => self.order = Order::Cumulative,
            KeyCode::Char('n') => {
                self.period = match self.period {
                    Period::Now => Period::Start,
                    Period::Start => Period::Now,
                }
            }
            KeyCode::Char('t') => self.next_thread(scene.threads, true),
            KeyCode::Char('T') => self.next_thread(scene.threads, false),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Enter => {
                self.pane = match self.pane {
                    None => Some(Direction::Callees),
                    Some(_) => None,
                };
                self.in_pane = false;
                self.pane_top = 0;
            }
            KeyCode::Char('x') => {
                self.pane = match self.pane {
                    Some(Direction::Callees) => Some(Direction::Callers),
                    Some(Direction::Callers) | None => Some(Direction::Callees),
                };
                self.pane_top = 0;
            }
            KeyCode::Tab => self.in_pane = self.pane.is_some() && !self.in_pane,
            KeyCode::Esc if self.filter.is_empty() => {
                self.pane = None;
                self.in_pane = false;
            }
            KeyCode::Esc => self.filter.clear(),
            _ => self.step(code, scene),
        }
        None
    }

    fn next_thread(&mut self, threads: usize, forwards: bool) {
        let now = match self.thread {
            Shown::One(thread) => thread.index() + 1,
            Shown::All | Shown::Awaited(_) => 0,
        };
        let count = threads + 1;
        let next = if forwards { now + 1 } else { now + count - 1 } % count;
        self.thread = match next {
            0 => Shown::All,
            next => Shown::One(ThreadId::from_index(next - 1)),
        };
    }

    fn step(&mut self, code: KeyCode, scene: &Scene<'_>) {
        let (at, last, page) = if self.in_pane {
            let last = scene.branches.saturating_sub(self.pane_page);
            (self.pane_top, last, self.pane_page)
        } else {
            let last = scene.rows.len().saturating_sub(1);
            (self.selected_row(scene.rows), last, self.table_page)
        };
        let to = match code {
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => at + 1,
            KeyCode::PageUp => at.saturating_sub(page),
            KeyCode::PageDown => at + page,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => return,
        }
        .min(last);
        if self.in_pane {
            self.pane_top = to;
            return;
        }
        self.pane_top = 0;
        // At the top the selection is whatever comes first; elsewhere it stays with its function.
        self.selected = match to {
            0 => None,
            to => scene.rows.get(to).map(|row| row.function),
        };
    }

    fn in_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter.clear();
                return;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(typed) => self.filter.push(typed),
            _ => {}
        }
        self.mode = Mode::Filter;
    }

    fn in_save_as(&mut self, mut name: String, code: KeyCode) -> Option<Action> {
        match code {
            KeyCode::Esc => return None,
            KeyCode::Enter if name.is_empty() => return None,
            KeyCode::Enter => {
                return Some(Action::Save {
                    name,
                    replace: false,
                });
            }
            KeyCode::Backspace => {
                name.pop();
            }
            KeyCode::Char(typed) => name.push(typed),
            _ => {}
        }
        self.mode = Mode::SaveAs(name);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::look::Times;

    fn rows(functions: &[usize]) -> Vec<Row> {
        let row = |&function: &usize| Row {
            function,
            now: Times::default(),
            start: Times::default(),
        };
        functions.iter().map(row).collect()
    }

    fn scene(rows: &[Row]) -> Scene<'_> {
        Scene {
            rows,
            branches: 30,
            threads: 2,
            pid: 1234,
            program_runs: false,
        }
    }

    fn press_all(state: &mut State, keys: &[KeyCode], scene: &Scene<'_>) -> Option<Action> {
        let mut action = None;
        for key in keys {
            action = state.press(KeyEvent::from(*key), scene);
        }
        action
    }

    fn typed(text: &str) -> Vec<KeyCode> {
        text.chars().map(KeyCode::Char).collect()
    }

    #[test]
    fn the_selection_stays_with_its_function() {
        let (before, after) = (rows(&[5, 6, 7]), rows(&[7, 5, 6]));
        let mut state = State::new(None);
        assert_eq!(state.selected_row(&before), 0);
        press_all(&mut state, &[KeyCode::Down], &scene(&before));
        assert_eq!(state.selected, Some(6));
        assert_eq!(state.selected_row(&after), 2);
        // A function that a filter has hidden is not lost.
        assert_eq!(state.selected_row(&rows(&[7])), 0);
        press_all(&mut state, &[KeyCode::Home], &scene(&after));
        assert_eq!(state.selected, None);
    }

    #[test]
    fn no_step_leads_out_of_the_table() {
        let rows = rows(&[5, 6, 7, 8]);
        let mut state = State::new(None);
        state.table_page = 3;
        for (keys, at) in [
            (vec![KeyCode::Up], 0),
            (vec![KeyCode::PageDown], 3),
            (vec![KeyCode::PageDown, KeyCode::Down], 3),
            (typed("k"), 2),
            (vec![KeyCode::PageUp], 0),
            (typed("jj"), 2),
            (typed("g"), 0),
            (vec![KeyCode::End], 3),
        ] {
            press_all(&mut state, &keys, &scene(&rows));
            assert_eq!(state.selected_row(&rows), at, "{keys:?}");
        }
        let none = scene(&[]);
        press_all(&mut state, &[KeyCode::Down, KeyCode::End], &none);
        assert_eq!(state.selected_row(&[]), 0);
    }

    #[test]
    fn threads_go_round() {
        let rows = rows(&[]);
        let mut state = State::new(None);
        let mut seen = Vec::new();
        for key in "tttTT".chars() {
            press_all(&mut state, &[KeyCode::Char(key)], &scene(&rows));
            seen.push(state.thread.clone());
        }
        let one = |thread| Shown::One(ThreadId(thread));
        assert_eq!(seen, [one(0), one(1), Shown::All, one(1), one(0)]);
        let mut awaiting = State::new(Some(String::from("worker")));
        assert_eq!(awaiting.thread, Shown::Awaited(String::from("worker")));
        press_all(&mut awaiting, &typed("T"), &scene(&rows));
        assert_eq!(awaiting.thread, one(1));
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let rows = rows(&[]);
        let mut state = State::new(None);
        press_all(&mut state, &typed("/qx"), &scene(&rows));
        assert_eq!((&*state.filter, &state.mode), ("qx", &Mode::Filter));
        press_all(
            &mut state,
            &[KeyCode::Backspace, KeyCode::Enter],
            &scene(&rows),
        );
        assert_eq!((&*state.filter, &state.mode), ("q", &Mode::Table));
        press_all(&mut state, &[KeyCode::Esc], &scene(&rows));
        assert_eq!(state.filter, "");
        press_all(&mut state, &typed("/abc"), &scene(&rows));
        press_all(&mut state, &[KeyCode::Esc], &scene(&rows));
        assert_eq!((&*state.filter, &state.mode), ("", &Mode::Table));
    }

    #[test]
    fn saving_asks_for_a_name_and_before_it_replaces() {
        let rows = rows(&[]);
        let mut state = State::new(None);
        assert_eq!(press_all(&mut state, &typed("s"), &scene(&rows)), None);
        let action = press_all(&mut state, &[KeyCode::Enter], &scene(&rows));
        let name = String::from("pystrobe-1234.pstats");
        assert_eq!(
            action,
            Some(Action::Save {
                name: name.clone(),
                replace: false
            })
        );
        state.mode = Mode::Replace(name.clone());
        assert_eq!(press_all(&mut state, &typed("n"), &scene(&rows)), None);
        assert_eq!(state.mode, Mode::SaveAs(name.clone()));
        state.mode = Mode::Replace(name.clone());
        let action = press_all(&mut state, &typed("y"), &scene(&rows));
        assert_eq!(
            action,
            Some(Action::Save {
                name,
                replace: true
            })
        );
        press_all(&mut state, &typed("s"), &scene(&rows));
        assert_eq!(press_all(&mut state, &[KeyCode::Esc], &scene(&rows)), None);
        assert_eq!(state.mode, Mode::Table);
    }

    #[test]
    fn quitting_asks_about_a_program_of_ours() {
        let rows = rows(&[]);
        let mut state = State::new(None);
        let leave = Some(Action::Quit { end_program: false });
        assert_eq!(press_all(&mut state, &typed("q"), &scene(&rows)), leave);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.press(ctrl_c, &scene(&rows)), leave);
        let ctrl_z = KeyEvent::new(KeyCode::Char('z'), KeyModifiers::CONTROL);
        let stop = Some(Action::Suspend);
        assert_eq!(state.press(ctrl_z, &scene(&rows)), stop);
        let ours = Scene {
            program_runs: true,
            ..scene(&rows)
        };
        assert_eq!(press_all(&mut state, &typed("q"), &ours), None);
        assert_eq!(state.mode, Mode::EndProgram);
        press_all(&mut state, &[KeyCode::Esc], &ours);
        assert_eq!(state.mode, Mode::Table);
        assert_eq!(press_all(&mut state, &typed("qn"), &ours), leave);
        let end = Some(Action::Quit { end_program: true });
        assert_eq!(press_all(&mut state, &typed("qy"), &ours), end);
    }

    #[test]
    fn the_call_tree_opens_turns_scrolls_and_closes() {
        let rows = rows(&[5, 6]);
        let mut state = State::new(None);
        state.pane_page = 10;
        press_all(&mut state, &[KeyCode::Tab], &scene(&rows));
        assert!(!state.in_pane);
        press_all(&mut state, &[KeyCode::Enter], &scene(&rows));
        assert_eq!(state.pane, Some(Direction::Callees));
        press_all(&mut state, &typed("x"), &scene(&rows));
        assert_eq!(state.pane, Some(Direction::Callers));
        press_all(&mut state, &[KeyCode::Tab, KeyCode::End], &scene(&rows));
        assert_eq!((state.pane_top, state.selected), (20, None));
        press_all(&mut state, &[KeyCode::Tab, KeyCode::Down], &scene(&rows));
        assert_eq!((state.pane_top, state.selected), (0, Some(6)));
        press_all(&mut state, &[KeyCode::Esc], &scene(&rows));
        assert_eq!(state.pane, None);
    }

    #[test]
    fn sorting_pausing_resetting() {
        let rows = rows(&[]);
        let mut state = State::new(None);
        press_all(&mut state, &typed("cnp"), &scene(&rows));
        assert_eq!(state.order, Order::Cumulative);
        assert_eq!(state.period, Period::Start);
        assert!(state.paused);
        let action = press_all(&mut state, &typed("r"), &scene(&rows));
        assert_eq!(action, Some(Action::Reset));
        assert!(!state.paused);
        press_all(&mut state, &typed("?"), &scene(&rows));
        assert_eq!(state.mode, Mode::Help);
        // Any key leaves the help, and does nothing else.
        assert_eq!(press_all(&mut state, &typed("q"), &scene(&rows)), None);
        assert_eq!(state.mode, Mode::Table);
    }
}
