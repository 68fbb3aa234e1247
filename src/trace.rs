//! `trace`: starts a program with the tracer in it, or lets it into one that runs, and puts together what it has counted.

mod running;

use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pystrobe_profile::{Builder, Counted, Profile, Recording};
use pystrobe_tracing::recording::{Times, batch};
use pystrobe_tracing::{Calls, Cost, FormatError, Launch, LaunchError, read_until};

use crate::args::{ProgramSpec, TraceOptions, TraceSpec};
use crate::errors::Failure;
use crate::launched::Launching;
use crate::outputs::Outputs;
use crate::save::save_again;
use crate::stderr::Notes;
use crate::viewer::Viewer;

/// Traces a program. Gives the exit status of one that was started; where that is 0 and something else went
/// wrong, the status that goes with that.
///
/// # Errors
///
/// Where the program could not be started; of one that runs already, whatever goes wrong.
pub(crate) fn trace(options: &TraceOptions) -> Result<u8, Failure> {
    match &options.traced {
        TraceSpec::Program(program) => started(program, options),
        TraceSpec::Running { pid, duration } => running::trace(*pid, *duration, options),
    }
}

fn started(program: &ProgramSpec, options: &TraceOptions) -> Result<u8, Failure> {
    let notes = Notes::new(options.quiet);
    let launching = Launching::prepare(&options.output.outputs)?;
    let launch = launching
        .litter()
        .folder(|| Launch::new(&options.tracing), Launch::folder)?;
    let environment = launch
        .environment(std::env::var_os("PYTHONPATH").as_deref())
        .map_err(LaunchError::from)?;
    // What the kernel says of it is not yet so right after the start, and nothing any more after the end.
    let mut line = String::new();
    let launched = launching.start(program, |command| {
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        line = words.join(" ");
        Ok(())
    })?;
    launched.record(|_, program, outputs| {
        program.wait_for_end()?;
        let traced = Traced::launched(&launch, &line, options.times)?;
        drop(launch);
        save(traced, outputs, options, notes)
    })
}

/// Says how it went, writes the outputs and starts the viewer. That there was nothing to trace is no failure: the program did what
/// it was started for, and its status says how that went.
fn save(
    traced: Traced,
    outputs: Outputs,
    options: &TraceOptions,
    notes: Notes,
) -> Result<Option<Viewer>, Failure> {
    for why in &traced.left_out {
        notes.warning(&format!("not in the profile: a process of which {why}"));
    }
    let Some(cost) = traced.cost else {
        let why = traced.refusal.as_deref().unwrap_or(
            "the tracer comes in by Python's site module, so not with -I, -E or -S, and only into CPython 3.8 to 3.15 \
             with the GIL",
        );
        notes.warning(&format!(
            "nothing was traced, and no output was written: {why}; `pystrobe run` samples what it can"
        ));
        return Ok(None);
    };
    notes.line(&summary(&traced.profile, cost, options.times));
    let folded = traced.profile.recording().counters.truncated;
    if folded > 0 {
        notes.warning(&format!(
            "{folded} calls have no place of their own in the call tree, and their time is that of their callers; raise \
             --max-places, {} now",
            options.tracing.node_limit
        ));
    }
    save_again(&traced.profile, outputs, &options.output, notes)?;
    match &options.output.open_with {
        Some(open_with) => Viewer::start(open_with).map(Some),
        None => Ok(None),
    }
}

/// What was counted in all processes.
#[derive(Debug)]
struct Traced {
    profile: Profile,
    /// Of a call in the first process; nothing where no process was traced.
    cost: Option<Cost>,
    /// Why processes are missing that should have been traced.
    left_out: Vec<String>,
    /// Why the tracer did not want to work, where it said so.
    refusal: Option<String>,
}

impl Traced {
    /// Reads the recordings of a program that has ended and of those that it started. `command` is its command line.
    fn launched(launch: &Launch, command: &str, times: Times) -> Result<Traced, Failure> {
        let first = read_until(launch.first(), unix_ns());
        let others = launch.others().map_err(LaunchError::from)?;
        let others = others.iter().map(|path| {
            let file = File::open(path)?;
            read_until(&file, unix_ns())
        });
        let recordings = std::iter::once(first).chain(others);
        let mut traced = Traced::of(recordings, command, times)?;
        traced.refusal = launch.refusal();
        Ok(traced)
    }

    /// Puts together what was recorded, of the program itself first.
    fn of(
        recordings: impl Iterator<Item = Result<Calls, FormatError>>,
        command: &str,
        times: Times,
    ) -> Result<Traced, Failure> {
        let mut builder = Builder::new(Vec::new());
        let mut about = Recording {
            command: command.to_owned(),
            collector: times.collector().to_owned(),
            counted: Counted::Calls,
            ..Recording::default()
        };
        let mut cost = None;
        let mut left_out = Vec::new();
        for (source, calls) in (0..).zip(recordings) {
            let calls = match calls {
                Ok(calls) => calls,
                Err(FormatError::NotStarted) => continue,
                Err(error) => {
                    left_out.push(error.to_string());
                    continue;
                }
            };
            // Of the program itself it is known whole.
            let command = if source == 0 {
                command
            } else {
                &calls.about.command
            };
            builder.apply(&batch(&calls, source, command, times)?)?;
            if cost.is_none() {
                cost = Some(calls.about.cost);
                about.pid = calls.about.pid;
                about.python.clone_from(&calls.about.python);
                about.started_unix_ms = calls.about.started_unix_ns / 1_000_000;
            }
        }
        about.counters = builder.counters();
        about.elapsed_ns = builder.elapsed_ns();
        Ok(Traced {
            profile: builder.finish(about),
            cost,
            left_out,
            refusal: None,
        })
    }
}

/// Now, in nanoseconds since 1970.
fn unix_ns() -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// As `1234 calls of 56 functions in 2 threads in 0.12 s: a call costs 40 ns (27 ns of C), subtracted`; of several
/// processes with `, in 5 processes` behind it.
fn summary(profile: &Profile, cost: Cost, times: Times) -> String {
    let recording = profile.recording();
    let of = match profile.seen_processes().len() {
        0 | 1 => String::new(),
        several => format!(", in {several} processes"),
    };
    format!(
        "{} of {} in {} in {:.2} s: a call costs {} ns ({} ns of C), {}{of}",
        count(recording.counters.taken, "call"),
        count(profile.functions().len() as u64, "function"),
        count(profile.threads().len() as u64, "thread"),
        Duration::from_nanos(recording.elapsed_ns).as_secs_f64(),
        cost.python_ns,
        cost.builtin_ns,
        match times {
            Times::Corrected => "subtracted",
            Times::Raw => "not subtracted",
        },
    )
}

fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_as_documented() {
        let mut about = Recording {
            counted: Counted::Calls,
            elapsed_ns: 120_000_000,
            ..Recording::default()
        };
        about.counters.taken = 1234;
        let profile = Builder::new(Vec::new()).finish(about);
        let cost = Cost {
            python_ns: 40,
            builtin_ns: 27,
            ..Cost::default()
        };
        assert_eq!(
            summary(&profile, cost, Times::Corrected),
            "1234 calls of 0 functions in 0 threads in 0.12 s: a call costs 40 ns (27 ns of C), subtracted"
        );
        assert!(summary(&profile, cost, Times::Raw).ends_with("not subtracted"));
        assert_eq!(count(1, "call"), "1 call");
    }
}
