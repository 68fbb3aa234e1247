//! `top`: what a program does, live.
//!
//! The main thread draws and reads keys. Between that it takes the sampler's batches, which wait in their channel for some
//! seconds and beyond that grow with the sampler: however long a drawing takes, the sampler never waits.
//!
//! What is shown follows from three things that know no terminal: the recording (a `profile::Builder`), the last
//! look at its numbers (`look`), and what the user has chosen (`state`).

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pystrobe_profile::TreeIndex;
use pystrobe_sampling::{Ending, Recording, Target};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::low_level::emulate_default_handler;

use crate::args::{Subject, TopOptions};
use crate::errors::Failure;
use crate::litter::Litter;
use crate::program::{Program, Stage};
use crate::progress::summary;
use crate::record::{self, Collected};
use crate::save::answers_to;
use crate::signals;
use crate::stderr::Notes;
use crate::style::is_colorful;

use branches::{Branch, branches};
use keyboard::Keyboard;
use load::{Load, Meter};
use look::{Label, Look, Question, Row, rows};
use recent::Recent;
use screen::Screen;
use state::{Action, Mode, Scene, Shown, State};
use view::{Palette, Picture};

mod branches;
#[cfg(test)]
mod example;
mod job;
mod keyboard;
mod load;
mod look;
mod recent;
mod saving;
mod screen;
mod state;
mod view;

/// How long a key is waited for before news is taken in again.
const KEYS_FOR: Duration = Duration::from_millis(50);
/// How often there are new numbers.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looking and drawing may take this part of the time at most: where a look takes long, there are fewer.
const MOST_OF_THE_TIME: u32 = 5;

/// Watches a program until the user has seen enough.
///
/// # Errors
///
/// Where there is no terminal, the program cannot be started or sampled, or could not be read to its end.
pub(crate) fn top(options: &TopOptions) -> Result<(), Failure> {
    Screen::check()?;
    let keyboard = Keyboard::open()?;
    let notes = Notes::new(options.recording.quiet);
    let screen = Screen::default();
    let litter = Litter::default();
    let program = Arc::new(Program::default());
    handle_signals(&screen, &program, &litter)?;
    handle_hanging_up(&keyboard, &screen, &program, &litter)?;

    let watched = target(&options.subject, &program).and_then(|target| {
        let mut watch = Watch::start(target, options, &program, &litter)?;
        screen.open().map_err(|error| keyboard.failure(error))?;
        let end_program = watch.run(&screen, &keyboard);
        screen.close();
        Ok((watch, end_program?))
    });
    match watched {
        Ok((watch, end_program)) => watch.finish(end_program, notes),
        Err(failure) => {
            // Nobody would see any more what it does.
            program.signal(SIGTERM);
            Err(failure)
        }
    }
}

/// Finds the process, or starts the program and waits until it is a Python.
fn target(subject: &Subject, program: &Program) -> Result<Target, Failure> {
    let (spec, output) = match subject {
        Subject::Process(pid) => return Ok(Target::attach(*pid)?),
        Subject::Program(spec, output) => (spec, output),
    };
    let output = match output {
        Some(path) => File::create(path).map_err(|error| Failure::output("write", path, error))?,
        None => {
            let null = Path::new("/dev/null");
            let opened = OpenOptions::new().write(true).open(null);
            opened.map_err(|error| Failure::output("write", null, error))?
        }
    };
    let copy = || {
        output.try_clone().map_err(|source| Failure::System {
            doing: "cannot pass on the output",
            source,
        })
    };
    let pid = program.start(spec, |command| {
        // The keys are the view's.
        command.stdin(Stdio::null()).stdout(copy()?).stderr(copy()?);
        Ok(())
    })?;
    Ok(Target::wait_for(pid, || program.has_ended())?)
}

/// Any signal that ends us gives the terminal back first, and ends the program that we started too: nobody would see it
/// any more. What the terminal sends has reached that program already. One that stops us gives it back for as long.
fn handle_signals(screen: &Screen, program: &Arc<Program>, litter: &Litter) -> Result<(), Failure> {
    let (screen, program, litter) = (screen.clone(), Arc::clone(program), litter.clone());
    let mut numbers = vec![SIGINT, SIGTERM, SIGHUP, SIGQUIT];
    numbers.extend(signals::not_ignored(&[SIGTSTP]));
    signals::watch(&numbers, move |signal| {
        if signal.number == SIGTSTP {
            if job::is_one() {
                // It fails only for signals that do not exist.
                screen.leave_for(|| drop(emulate_default_handler(SIGTSTP)));
            }
            return;
        }
        screen.close_and(|| {
            if !signal.from_terminal {
                program.signal(signal.number);
            }
            litter.abort(signal.number);
        });
    })
    .map_err(|source| Failure::System {
        doing: "cannot handle signals",
        source,
    })
}

/// Where the terminal is gone we end as well, whatever the main thread is stuck in.
fn handle_hanging_up(
    keyboard: &Keyboard,
    screen: &Screen,
    program: &Arc<Program>,
    litter: &Litter,
) -> Result<(), Failure> {
    let (screen, program, litter) = (screen.clone(), Arc::clone(program), litter.clone());
    let end = move |failure: Failure| {
        screen.close_and(|| {
            program.signal(SIGTERM);
            litter.abort_by(|| {
                failure.report();
                std::process::exit(i32::from(failure.exit_code()));
            });
        });
    };
    keyboard.when_gone(end).map_err(|source| Failure::System {
        doing: "cannot watch the terminal",
        source,
    })
}

/// A recording that is being watched.
struct Watch<'a> {
    /// `None` when it is over.
    recording: Option<Recording>,
    ending: Option<Ending>,
    collected: Collected,
    program: &'a Program,
    /// How the program that we started has ended.
    program_status: Option<ExitStatus>,
    /// Whether what the program prints goes nowhere.
    silenced: bool,
    litter: &'a Litter,
    meter: Meter,
    index: TreeIndex,
    recent: Recent,
    labels: Vec<Label>,
    look: Look,
    state: State,
    palette: Palette,
}

impl<'a> Watch<'a> {
    fn start(
        target: Target,
        options: &TopOptions,
        program: &'a Program,
        litter: &'a Litter,
    ) -> Result<Watch<'a>, Failure> {
        let meter = Meter::new(target.pid());
        let mut state = State::new(options.thread.clone());
        if target.paused_at_each_sample() {
            state.message = Some(format!(
                "Python {} is paused for each sample",
                target.python()
            ));
        }
        let (recording, collected) = record::start(target, &options.recording)?;
        Ok(Watch {
            recording: Some(recording),
            ending: None,
            collected,
            program,
            program_status: None,
            silenced: matches!(options.subject, Subject::Program(_, None)),
            litter,
            meter,
            index: TreeIndex::default(),
            recent: Recent::default(),
            labels: Vec::new(),
            look: Look::default(),
            state,
            palette: Palette::new(is_colorful()),
        })
    }

    /// Until the user quits; tells whether the program shall end too.
    fn run(&mut self, screen: &Screen, keyboard: &Keyboard) -> Result<bool, Failure> {
        let failed = |error| keyboard.failure(error);
        let mut next_look = Instant::now();
        let mut shown = Table::default();
        let mut stale = true;
        loop {
            self.take_news()?;
            let now = Instant::now();
            if now >= next_look {
                self.look();
                stale = true;
            }
            if stale {
                shown = self.table();
                let is_there = screen
                    .draw(|frame| self.draw(frame, &shown))
                    .map_err(failed)?;
                if !is_there {
                    return Ok(true);
                }
                if now >= next_look {
                    next_look = now + LOOK_EVERY.max(now.elapsed() * MOST_OF_THE_TIME);
                }
                stale = false;
            }
            // All keys that are waiting, before anything is drawn for them.
            keyboard.wait(KEYS_FOR).map_err(failed)?;
            while event::poll(Duration::ZERO).map_err(failed)? {
                stale = true;
                let Event::Key(key) = event::read().map_err(failed)? else {
                    continue;
                };
                if key.kind == KeyEventKind::Release {
                    continue;
                }
                let scene = Scene {
                    rows: &shown.rows,
                    branches: shown.branches.len(),
                    threads: self.look.threads.len(),
                    pid: self.collected.about().pid,
                    program_runs: self.program.stage() == Stage::Running,
                };
                match self.state.press(key, &scene) {
                    None => {}
                    Some(Action::Quit { end_program }) => return Ok(end_program),
                    Some(Action::Suspend) if job::is_one() => {
                        job::stop().map_err(failed)?;
                    }
                    Some(Action::Suspend) => {
                        let why = "there is no shell that could bring this back";
                        self.state.message = Some(String::from(why));
                    }
                    Some(Action::Reset) => {
                        self.collected.begin_anew();
                        self.recent = Recent::default();
                        next_look = now;
                    }
                    Some(Action::Save { name, replace }) => self.save(name, replace),
                }
            }
        }
    }

    /// Takes in what the sampler has sent, and whether it has ended.
    fn take_news(&mut self) -> Result<(), Failure> {
        if let Some(recording) = &self.recording {
            loop {
                match recording.batches().try_recv() {
                    Ok(batch) => self.collected.apply(&batch)?,
                    Err(error) if error.is_disconnected() => break,
                    Err(_) => return Ok(()),
                }
            }
        }
        if let Some(recording) = self.recording.take() {
            self.ending = Some(recording.finish());
        }
        // Its process id is let go of only now that nobody reads it any more.
        if self.program.stage() == Stage::Running && self.program.has_ended() {
            let status = self.program.wait()?;
            if self.silenced && !status.success() {
                self.state.message = Some(String::from(
                    "its output was thrown away; --program-output FILE keeps it",
                ));
            }
            self.program_status = Some(status);
        }
        Ok(())
    }

    /// Takes the numbers as they are now, unless the view is paused.
    fn look(&mut self) {
        let profile = self.collected.so_far();
        let elapsed_ns = self.collected.about().elapsed_ns;
        self.recent
            .advance(profile.tree(), &self.collected.counters(), elapsed_ns);
        let load = match self.recording {
            Some(_) => Load {
                gil: (self.collected.about().measured.gil).then(|| self.recent.gil_share()),
                ..self.meter.read()
            },
            None => Load::default(),
        };
        if self.state.paused {
            return;
        }
        self.index.update(profile.tree());
        let new = profile.functions().iter().skip(self.labels.len());
        self.labels.extend(new.map(Label::of));
        self.look = Look::at(
            profile,
            self.collected.counters(),
            self.collected.elapsed(),
            &self.recent,
            load,
        );
        if let Shown::Awaited(wanted) = &self.state.thread {
            let found = profile.threads().iter().position(|t| answers_to(t, wanted));
            if let Some(position) = found {
                self.state.thread = Shown::One(pystrobe_profile::ThreadId::from_index(position));
            }
        }
    }

    /// What there is to show of the last look, as the user wants it now.
    fn table(&self) -> Table {
        let thread = match &self.state.thread {
            Shown::All => None,
            Shown::One(thread) => Some(*thread),
            Shown::Awaited(_) => return Table::default(),
        };
        let question = Question {
            thread,
            filter: &self.state.filter,
            period: self.state.period,
            order: self.state.order,
        };
        let rows = rows(&self.look, &self.index, &self.labels, &question);
        let selected = rows.get(self.state.selected_row(&rows));
        let branches = match (self.state.pane, selected) {
            (Some(direction), Some(row)) => {
                branches(&self.look, &self.index, row.function, direction, &question)
            }
            _ => Vec::new(),
        };
        Table { rows, branches }
    }

    fn draw(&mut self, frame: &mut ratatui::Frame<'_>, shown: &Table) {
        let ended = self.ended();
        let about = self.collected.about();
        let picture = Picture {
            pid: about.pid,
            command: &about.command,
            python: &about.python,
            ended: ended.as_deref(),
            look: &self.look,
            labels: &self.labels,
            rows: &shown.rows,
            branches: &shown.branches,
        };
        view::draw(frame, &mut self.state, &picture, &self.palette);
    }

    /// How the recording has ended, in words.
    fn ended(&self) -> Option<String> {
        let how = match self.ending.as_ref()? {
            Ending::Elapsed => String::from("the time is over"),
            Ending::Stopped => String::from("stopped"),
            Ending::TargetEnded => match self.program_status {
                Some(status) => status.to_string(),
                None => String::from("the process has ended"),
            },
            Ending::TargetReplaced => String::from("it is not a Python any more"),
            Ending::Failed(error) => error.to_string(),
        };
        Some(how)
    }

    fn save(&mut self, name: String, replace: bool) {
        if !replace && saving::exists(&name) {
            self.state.mode = Mode::Replace(name);
            return;
        }
        let said = match saving::save(&self.collected.profile(), &name, self.litter) {
            Ok(said) => said,
            Err(failure) => failure.to_string(),
        };
        self.state.message = Some(pystrobe_profile::escape(&said).into_owned());
    }

    /// Ends the recording, and says on stderr how it went.
    fn finish(mut self, end_program: bool, notes: Notes) -> Result<(), Failure> {
        if let Some(recording) = self.recording.take() {
            recording.stop();
            self.ending = Some(recording.finish());
        }
        if end_program {
            self.program.signal(SIGTERM);
        }
        notes.line(&summary(
            &self.collected.counters(),
            self.collected.elapsed(),
            self.collected.so_far().seen_processes().len(),
        ));
        match self.ending {
            Some(Ending::Failed(error)) => Err(Failure::BrokeOff(error)),
            _ => Ok(()),
        }
    }
}

/// What the last look says, as it is shown.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<Row>,
    branches: Vec<Branch>,
}
