//! The terminal, and that it is given back however we end.
//!
//! Several may want to give it back: the main thread when it is done, a panic on any thread, the thread that handles
//! signals, and the one that waits for the terminal to hang up (`keyboard`). The last two must not depend on the main
//! thread, which may be stuck in crossterm by then.

use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};

use crate::errors::Failure;

/// How long a signal waits for a drawing to be finished.
const PATIENCE: Duration = Duration::from_secs(1);

/// The terminal. Whoever holds the lock may write to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Screen {
    terminal: Arc<Mutex<State>>,
    /// Whether it is ours. It is given back once: a second time would move the cursor back over what was said since.
    taken: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open(Terminal<CrosstermBackend<Stdout>>),
    /// It was given back in a panic, whose message is on it now.
    Lost,
}

impl Screen {
    /// Whether there is anything to draw on.
    ///
    /// # Errors
    ///
    /// Where stdout is not a terminal, or one that says that it can do nothing.
    pub(super) fn check() -> Result<(), Failure> {
        if !io::stdout().is_terminal() {
            return Err(Failure::NoTerminal("stdout is not one"));
        }
        if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return Err(Failure::NoTerminal("this one is dumb (TERM=dumb)"));
        }
        Ok(())
    }

    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// Those of the terminal; it is as it was then.
    pub(super) fn open(&self) -> io::Result<()> {
        let mut state = self.lock();
        self.give_back_on_panic();
        self.taken.store(true, Ordering::SeqCst);
        let opened = enable_raw_mode()
            .and_then(|()| execute!(io::stdout(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match opened {
            Ok(mut terminal) => {
                let ready = terminal.hide_cursor().and_then(|()| terminal.clear());
                *state = State::Open(terminal);
                ready
            }
            Err(error) => {
                give_back(&self.taken);
                Err(error)
            }
        }
    }

    /// Draws. `false` where there is no terminal to draw on any more.
    ///
    /// # Errors
    ///
    /// Those of the terminal.
    pub(super) fn draw(&self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<bool> {
        match &mut *self.lock() {
            State::Open(terminal) => terminal.draw(draw).map(|_| true),
            State::Closed | State::Lost => Ok(false),
        }
    }

    /// Gives the terminal back, where it was taken.
    pub(super) fn close(&self) {
        close(&mut self.lock(), State::Closed, &self.taken);
    }

    /// Gives the terminal back and does `end`, which ends the process: nobody draws meanwhile.
    pub(super) fn close_and(&self, end: impl FnOnce()) {
        let began = Instant::now();
        loop {
            match self.terminal.try_lock() {
                Ok(mut state) => {
                    close(&mut state, State::Closed, &self.taken);
                    return end();
                }
                Err(TryLockError::Poisoned(state)) => {
                    close(&mut state.into_inner(), State::Closed, &self.taken);
                    return end();
                }
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                // Somebody is stuck writing to it, and so would we be; its settings can be put back without that.
                Err(TryLockError::WouldBlock) => {
                    let _ = disable_raw_mode();
                    return end();
                }
            }
        }
    }

    /// Gives the terminal back, does `stop`, which returns when the terminal may be taken again, and takes it.
    pub(super) fn leave_for(&self, stop: impl FnOnce()) {
        let mut state = self.lock();
        give_back(&self.taken);
        stop();
        if let State::Open(terminal) = &mut *state {
            self.taken.store(true, Ordering::SeqCst);
            // What fails now fails again in the next drawing, which says so.
            let _ = enable_raw_mode()
                .and_then(|()| execute!(io::stdout(), EnterAlternateScreen))
                .and_then(|()| terminal.hide_cursor())
                .and_then(|()| terminal.clear());
        }
    }

    /// The message of a panic is to be read on the screen that stays.
    fn give_back_on_panic(&self) {
        let (terminal, taken) = (Arc::clone(&self.terminal), Arc::clone(&self.taken));
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            match terminal.try_lock() {
                Ok(mut state) => close(&mut state, State::Lost, &taken),
                // It is us who hold it: the panic came while drawing.
                Err(_) => give_back(&taken),
            }
            before(panic);
        }));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Clones are with the signals and the panic hook for good, so any that goes out of scope is the main one.
        self.close();
    }
}

fn close(state: &mut State, after: State, taken: &AtomicBool) {
    match std::mem::replace(state, after) {
        State::Open(terminal) => {
            give_back(taken);
            // Dropped, ratatui 0.30 prints to stderr that it cannot show the cursor of a terminal that has hung up, and
            // panics over that. There is nothing else that it would do.
            std::mem::forget(terminal);
        }
        other => *state = other,
    }
}

/// Where the terminal is gone there is nothing to give back.
fn give_back(taken: &AtomicBool) {
    if !taken.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = io::stdout().flush();
    let _ = disable_raw_mode();
}
