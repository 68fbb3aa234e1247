//! From a profile to its outputs.

use std::borrow::Cow;
use std::time::Duration;

use pystrobe_profile::{Counted, Profile, Thread};

use crate::args::OutputOptions;
use crate::errors::Failure;
use crate::outputs::{Of, Outputs};
use crate::progress::summary;
use crate::stderr::Notes;
use crate::style::style;

/// Writes a recording to its outputs, and says how it went and which files there are now.
///
/// # Errors
///
/// Where there is nothing to write; then no file is touched. Where an output fails, after the others were
/// written; of several such errors all but one are reported here.
pub(crate) fn save(
    profile: &Profile,
    outputs: Outputs,
    options: &OutputOptions,
    notes: Notes,
) -> Result<(), Failure> {
    let chosen = chosen(profile, &options.only_threads, notes)?;
    let recording = profile.recording();
    let elapsed = Duration::from_nanos(recording.elapsed_ns);
    let processes = profile.seen_processes().len();
    notes.line(&summary(&recording.counters, elapsed, processes));
    write(&chosen, outputs, options, notes)
}

/// Writes a recording that was read from a file to other ones, and says which there are now.
///
/// # Errors
///
/// As [`save`].
pub(crate) fn save_again(
    profile: &Profile,
    outputs: Outputs,
    options: &OutputOptions,
    notes: Notes,
) -> Result<(), Failure> {
    let chosen = chosen(profile, &options.only_threads, notes)?;
    write(&chosen, outputs, options, notes)
}

fn write(
    profile: &Profile,
    outputs: Outputs,
    options: &OutputOptions,
    notes: Notes,
) -> Result<(), Failure> {
    let style = style(options);
    let each = match outputs.wants_each() {
        true => each(profile),
        false => Vec::new(),
    };
    let names: Vec<&str> = each.iter().map(|(name, _)| name.as_str()).collect();
    let results = outputs.write(&names, |of, format, out| {
        let profile = match of {
            Of::All => profile,
            Of::Process(index) => &each[index].1,
        };
        pystrobe_exporters::write(profile, format, &style, out)
    });
    results.tell(notes)
}

/// The profile of each process of which anything was seen, by its name.
fn each(profile: &Profile) -> Vec<(String, Profile)> {
    let names = profile.process_names();
    let processes = profile.seen_processes().into_iter();
    processes
        .map(|process| (names[process].clone(), profile.of_process(process)))
        .filter(|(_, profile)| !profile.is_empty())
        .collect()
}

/// The profile with only the threads that were asked for.
fn chosen<'a>(
    profile: &'a Profile,
    wanted: &[String],
    notes: Notes,
) -> Result<Cow<'a, Profile>, Failure> {
    if profile.is_empty() {
        return Err(nothing(profile));
    }
    if wanted.is_empty() {
        return Ok(Cow::Borrowed(profile));
    }
    let is_missing = |wanted: &&String| {
        !profile
            .threads()
            .iter()
            .any(|thread| answers_to(thread, wanted))
    };
    let missing: Vec<String> = wanted.iter().filter(is_missing).cloned().collect();
    if missing.len() == wanted.len() {
        return Err(Failure::NoSuchThread {
            wanted: missing,
            seen: profile.thread_names(),
        });
    }
    for name in &missing {
        notes.warning(&format!("no thread is named `{name}`"));
    }
    let kept =
        profile.with_threads(|thread| wanted.iter().any(|wanted| answers_to(thread, wanted)));
    if kept.is_empty() {
        return Err(nothing(profile));
    }
    Ok(Cow::Owned(kept))
}

/// That there is nothing to write.
fn nothing(profile: &Profile) -> Failure {
    match profile.recording().counted {
        Counted::Samples => Failure::NothingSampled {
            clock: profile.clock(),
        },
        Counted::Calls => Failure::NothingTraced,
    }
}

/// Whether a thread is the one that `--thread` names: by its name in Python, by the kernel's id, or by
/// Python's own.
pub(crate) fn answers_to(thread: &Thread, wanted: &str) -> bool {
    thread.name == wanted
        || thread
            .native_id
            .is_some_and(|native_id| native_id.to_string() == wanted)
        || thread.ident.to_string() == wanted
}

#[cfg(test)]
mod tests {
    use pystrobe_profile::{
        Batch, Builder, Clocks, Frame, Function, FunctionId, Node, NodeId, Observation, Process,
        Recording, ThreadId,
    };

    use super::*;

    /// Two threads, each a second in a function of its own.
    fn profile() -> Profile {
        let mut builder = Builder::new(vec![Process {
            pid: 1,
            command: String::from("python"),
            python: String::from("3.12.1"),
        }]);
        let mut batch = Batch::default();
        for (index, name) in ["MainThread", "worker"].into_iter().enumerate() {
            let number = u32::try_from(index).unwrap();
            batch.functions.push(Function {
                file: String::from("a.py"),
                first_line: number + 1,
                name: format!("of_{name}"),
                qualified_name: String::new(),
            });
            batch.threads.push(Thread {
                process: 0,
                name: String::from(name),
                native_id: Some(100 + u64::from(number)),
                ident: 7000 + u64::from(number),
                interpreter: 0,
            });
            batch.nodes.push(Node {
                parent: None,
                frame: Frame::Thread(ThreadId::from_index(index)),
            });
            batch.nodes.push(Node {
                parent: Some(NodeId::from_index(2 * index)),
                frame: Frame::Call {
                    function: FunctionId::from_index(index),
                    line: 1,
                },
            });
            batch.observations.push(Observation {
                node: NodeId::from_index(2 * index + 1),
                nanoseconds: Clocks::of_wall(1_000_000_000),
                samples: Clocks::of_wall(1),
            });
        }
        builder.apply(&batch).unwrap();
        builder.finish(Recording::default())
    }

    fn kept(wanted: &[&str]) -> Result<Vec<String>, Failure> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let profile = profile();
        let kept = chosen(&profile, &wanted, Notes::new(true))?;
        Ok(kept
            .threads()
            .iter()
            .map(|thread| thread.name.clone())
            .collect())
    }

    #[test]
    fn threads_are_chosen_by_name_or_id() {
        assert_eq!(kept(&[]).unwrap(), ["MainThread", "worker"]);
        assert_eq!(kept(&["worker"]).unwrap(), ["worker"]);
        assert_eq!(kept(&["101"]).unwrap(), ["worker"]);
        assert_eq!(kept(&["7000"]).unwrap(), ["MainThread"]);
        assert_eq!(kept(&["worker", "100"]).unwrap().len(), 2);
        assert_eq!(kept(&["worker", "nobody"]).unwrap(), ["worker"]);
    }

    #[test]
    fn who_chooses_nobody_is_told_who_there_was() {
        let failure = kept(&["nobody"]).unwrap_err();
        let Failure::NoSuchThread { seen, .. } = failure else {
            panic!("{failure:?}");
        };
        assert_eq!(seen, ["MainThread", "worker"]);
    }
}
