//! What to write and where to: `-o`, `-f`, and how it shall look.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use pystrobe_exporters::{Format, PstatsFlavor};
use pystrobe_profile::Clock;

use crate::errors::Failure;

/// The options that say what to write and where to, of all that record or convert.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output options")]
pub(super) struct PlaceArgs {
    /// Write the profile to this file; repeatable; `-` is stdout [default: a table on stdout]
    ///
    /// The format follows from the name: .pstats or .prof is a pstats file, .svg a flame graph, and
    /// .folded, .collapsed or .txt folded stacks. Every output is opened before the program is touched and
    /// put in its place when it is complete: a bad path fails first, and a recording that is aborted
    /// leaves the file of the day before as it was.
    ///
    /// {pid} in a file's name stands for the process id; with --subprocesses that makes a file for each process.
    #[arg(short, long, value_name = "FILE")]
    output: Vec<PathBuf>,

    /// Format of an output whose name does not tell it, or of the only output
    ///
    /// With one output (or none, which is stdout) this is its format, whatever its name. With several it is
    /// the format of those whose names do not tell one, stdout among them. Stdout is a table unless this
    /// says otherwise.
    #[arg(short, long, value_parser = format())]
    format: Option<Format>,

    /// Keep threads apart in flame graphs and folded stacks
    #[arg(long)]
    threads: bool,

    /// Only the thread of this name or thread id; repeatable
    #[arg(long, value_name = "NAME|TID")]
    thread: Vec<String>,

    /// Start this command on the first output when the recording is done
    ///
    /// The command is split into words as a shell does it, without substitutions, and the path of the first
    /// output that is a file becomes its last argument. pystrobe ends when the command has ended.
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    open_with: Option<Words>,
}

/// The options of `attach`, `run` and `convert`: which of what a sampler measures is written as well.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output options")]
pub(super) struct OutputArgs {
    #[command(flatten)]
    places: PlaceArgs,

    /// Which time counts [default: wall; for convert, what the input shows]
    ///
    /// A recording measures all of them at once. A pstats file shows the one that is chosen here and keeps the
    /// others, so that `convert --mode` can choose again.
    #[arg(long, value_name = "CLOCK", value_enum)]
    mode: Option<Mode>,

    /// Wall time counts also while a thread waits; this is the default
    #[arg(long, overrides_with = "no_idle")]
    idle: bool,

    /// Wall time does not count while a thread waits: in a system call, for a lock, or for the GIL
    #[arg(long, overrides_with = "idle")]
    no_idle: bool,

    /// Label frames with the line that was executing, not with the function's first
    #[arg(long)]
    lines: bool,

    /// Whose meaning of the counts in a pstats file
    #[arg(long, value_name = "FLAVOR", value_enum, default_value_t = Flavor::Classic)]
    pstats_flavor: Flavor,
}

/// The values of `--mode`.
#[derive(ValueEnum, Debug, Clone, Copy)]
enum Mode {
    /// Time that passed
    Wall,
    /// Time on a CPU
    Cpu,
    /// Time with the GIL held
    Gil,
    /// Time spent waiting for the GIL
    GilWait,
    /// Time in which an exception was being handled
    Exception,
}

/// The values of `--pstats-flavor`.
#[derive(ValueEnum, Debug, Clone, Copy)]
enum Flavor {
    /// As cProfile counts; opens in every tool
    Classic,
    /// As the sampler of Python 3.15 counts, with its marker, for pstats.SampledStats
    #[value(name = "3.15")]
    Python315,
}

/// What to write, where to, and how it shall look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputOptions {
    /// The outputs in the order in which they were typed; at least one, at most one of them stdout.
    pub(crate) outputs: Vec<OutputSpec>,
    /// Which time counts; where nobody said, wall time, or what a file shows already.
    pub(crate) clock: Option<Clock>,
    /// Threads are kept apart in flame graphs and stacks.
    pub(crate) threads: bool,
    /// Only threads of these names or thread ids; all where empty.
    pub(crate) only_threads: Vec<String>,
    /// Frames are labelled with the executing line.
    pub(crate) lines: bool,
    /// Whose meaning the counts of a pstats file have.
    pub(crate) pstats_flavor: PstatsFlavor,
    /// What to start on the first file.
    pub(crate) open_with: Option<OpenWith>,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputSpec {
    /// Where it goes.
    pub(crate) place: Place,
    /// What is written there.
    pub(crate) format: Format,
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// pystrobe's own stdout.
    Stdout,
    /// A path, as typed.
    File(PathBuf),
    /// A file for each process. As typed, with [`PID`] in the file's name.
    FileEach(PathBuf),
}

/// What stands for the process id in the name of an output.
pub(crate) const PID: &str = "{pid}";

/// A command and the file that it is started on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenWith {
    /// Program and arguments; never empty.
    pub(crate) words: Vec<String>,
    /// The first output that is a file, as typed.
    pub(crate) file: PathBuf,
}

/// The words of a command; a type of its own, lest clap takes them for values of a repeatable option.
#[derive(Debug, Clone)]
struct Words(Vec<String>);

impl PlaceArgs {
    /// What was typed, as plain options; wall time counts, and frames are functions.
    ///
    /// # Errors
    ///
    /// Where a format does not follow from a name, where stdout is asked for twice, where a `-f` has nothing to act on, and
    /// where `--open-with` has no file.
    pub(super) fn into_options(self) -> Result<OutputOptions, Failure> {
        let outputs = plan(&self.output, self.format)?;
        let open_with = match self.open_with {
            None => None,
            Some(Words(words)) => Some(OpenWith {
                words,
                file: first_file(&outputs)?,
            }),
        };
        Ok(OutputOptions {
            outputs,
            clock: None,
            threads: self.threads,
            only_threads: self.thread,
            lines: false,
            pstats_flavor: PstatsFlavor::Classic,
            open_with,
        })
    }
}

impl OutputArgs {
    /// What was typed, as plain options.
    ///
    /// # Errors
    ///
    /// Those of [`PlaceArgs::into_options`], and where `--no-idle` has nothing to act on.
    pub(super) fn into_options(self) -> Result<OutputOptions, Failure> {
        Ok(OutputOptions {
            clock: clock(self.mode, self.idle, self.no_idle)?,
            lines: self.lines,
            pstats_flavor: match self.pstats_flavor {
                Flavor::Classic => PstatsFlavor::Classic,
                Flavor::Python315 => PstatsFlavor::Python315,
            },
            ..self.places.into_options()?
        })
    }
}

/// The clock that was asked for, where one was.
fn clock(mode: Option<Mode>, idle: bool, no_idle: bool) -> Result<Option<Clock>, Failure> {
    let clock = match mode {
        None | Some(Mode::Wall) if no_idle => Clock::Active,
        None if !idle => return Ok(None),
        None | Some(Mode::Wall) => Clock::Wall,
        Some(_) if idle || no_idle => {
            return Err(Failure::usage(
                "--idle and --no-idle choose what counts in wall time, and another clock is asked for",
                "leave out one of them, or --mode",
            ));
        }
        Some(Mode::Cpu) => Clock::Cpu,
        Some(Mode::Gil) => Clock::Gil,
        Some(Mode::GilWait) => Clock::GilWait,
        Some(Mode::Exception) => Clock::Exception,
    };
    Ok(Some(clock))
}

/// Gives every output its format.
///
/// That `-f` rules over the name of an only output, but not over the names of several, is what people
/// mean: `-o notes.txt -f pstats` asks for pstats, `-o a.pstats -o - -f folded` does not ask for folded stacks
/// in a.pstats. The other ways, `-f` for the next `-o` or for all, need explaining each time.
fn plan(paths: &[PathBuf], format: Option<Format>) -> Result<Vec<OutputSpec>, Failure> {
    let places: Vec<Place> = match paths {
        [] => vec![Place::Stdout],
        paths => paths
            .iter()
            .map(|path| place(path))
            .collect::<Result<_, _>>()?,
    };
    if places
        .iter()
        .filter(|place| **place == Place::Stdout)
        .count()
        > 1
    {
        return Err(Failure::usage(
            "only one output can go to stdout",
            "name a file for the others",
        ));
    }
    let alone = places.len() == 1;
    let mut format_used = false;
    let mut outputs = Vec::with_capacity(places.len());
    for place in places {
        let told = match &place {
            Place::File(path) | Place::FileEach(path) => Format::from_path(path),
            Place::Stdout => None,
        };
        let decided = match (told, format) {
            (Some(told), None) => told,
            (Some(told), Some(_)) if !alone => told,
            (_, Some(asked)) => {
                format_used = true;
                asked
            }
            (None, None) => match &place {
                Place::Stdout => Format::Table,
                Place::File(path) | Place::FileEach(path) => return Err(untold(path)),
            },
        };
        outputs.push(OutputSpec {
            place,
            format: decided,
        });
    }
    if format.is_some() && !format_used {
        return Err(Failure::usage(
            "the names of all outputs tell their formats, -f has nothing to act on",
            "leave -f out, or rename the output that it is meant for",
        ));
    }
    Ok(outputs)
}

/// `-` and the kernel's names for it are stdout. Opened by name, a file that stdout was redirected to would
/// be written from its start, over what is there.
///
/// Folders cannot be named by process: they would have to be made, and were not there to fail first.
fn place(path: &Path) -> Result<Place, Failure> {
    const STDOUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    let has_pid = |text: &OsStr| text.to_string_lossy().contains(PID);
    if STDOUT.iter().any(|name| path.as_os_str() == *name) {
        Ok(Place::Stdout)
    } else if path
        .parent()
        .is_some_and(|folder| has_pid(folder.as_os_str()))
    {
        Err(Failure::usage(
            format!("{PID} is in the name of a folder in {}", path.display()),
            "put it into the file's own name",
        ))
    } else if path.file_name().is_some_and(has_pid) {
        Ok(Place::FileEach(path.to_path_buf()))
    } else {
        Ok(Place::File(path.to_path_buf()))
    }
}

fn untold(path: &Path) -> Failure {
    Failure::usage(
        format!("the name {} does not tell a format", path.display()),
        "use .pstats, .svg or .folded, or give the format by -f",
    )
}

fn first_file(outputs: &[OutputSpec]) -> Result<PathBuf, Failure> {
    outputs
        .iter()
        .find_map(|output| match &output.place {
            Place::File(path) => Some(path.clone()),
            // Which of them, or whether there will be any, is not known.
            Place::FileEach(_) | Place::Stdout => None,
        })
        .ok_or_else(|| {
            Failure::usage(
                "--open-with needs an output that is one file",
                "add -o FILE, such as -o out.pstats",
            )
        })
}

fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["pstats", "flamegraph", "folded", "table"])
        .try_map(|name| name.parse::<Format>())
}

fn words(typed: &str) -> Result<Words, String> {
    let words = shell_words::split(typed).map_err(|error| error.to_string())?;
    if words.is_empty() {
        return Err(String::from("no command"));
    }
    Ok(Words(words))
}

impl OpenWith {
    /// Program, arguments, file.
    pub(crate) fn command(&self) -> impl Iterator<Item = OsString> {
        let words = self.words.iter().map(OsString::from);
        words.chain([self.file.clone().into_os_string()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(paths: &[&str], format: Option<Format>) -> Result<Vec<(String, Format)>, String> {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        match plan(&paths, format) {
            Ok(outputs) => Ok(outputs
                .into_iter()
                .map(|output| match output.place {
                    Place::Stdout => (String::from("stdout"), output.format),
                    Place::File(path) => (path.display().to_string(), output.format),
                    Place::FileEach(path) => (format!("each {}", path.display()), output.format),
                })
                .collect()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn formats_follow_from_names() {
        let outputs = planned(&["a.pstats", "dir.d/b.svg", "c.folded"], None).unwrap();
        assert_eq!(
            outputs,
            [
                (String::from("a.pstats"), Format::Pstats),
                (String::from("dir.d/b.svg"), Format::Flamegraph),
                (String::from("c.folded"), Format::Folded),
            ]
        );
    }

    #[test]
    fn a_name_may_be_one_for_each_process() {
        let outputs = planned(&["d/a-{pid}.pstats", "{pid}.svg"], None).unwrap();
        assert_eq!(
            outputs,
            [
                (String::from("each d/a-{pid}.pstats"), Format::Pstats),
                (String::from("each {pid}.svg"), Format::Flamegraph),
            ]
        );
        let folder = planned(&["{pid}/a.pstats"], None);
        assert!(folder.unwrap_err().contains("folder"));
        let each = plan(&[PathBuf::from("{pid}.svg")], None).unwrap();
        assert!(first_file(&each).is_err());
    }

    #[test]
    fn stdout_is_a_table_unless_told() {
        for paths in [&[][..], &["-"], &["/dev/stdout"]] {
            let table = planned(paths, None).unwrap();
            assert_eq!(table, [(String::from("stdout"), Format::Table)]);
            let folded = planned(paths, Some(Format::Folded)).unwrap();
            assert_eq!(folded, [(String::from("stdout"), Format::Folded)]);
        }
    }

    #[test]
    fn the_format_rules_over_the_name_of_the_only_output() {
        let outputs = planned(&["notes.txt"], Some(Format::Pstats)).unwrap();
        assert_eq!(outputs, [(String::from("notes.txt"), Format::Pstats)]);
    }

    #[test]
    fn among_several_the_format_is_for_names_that_tell_none() {
        let outputs = planned(&["a.pstats", "-", "b"], Some(Format::Folded)).unwrap();
        assert_eq!(
            outputs,
            [
                (String::from("a.pstats"), Format::Pstats),
                (String::from("stdout"), Format::Folded),
                (String::from("b"), Format::Folded),
            ]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        let nothing_to_act_on = planned(&["a.pstats", "b.svg"], Some(Format::Folded));
        assert!(nothing_to_act_on.unwrap_err().contains("-f"));
        let untold = planned(&["a.xyz"], None);
        assert!(untold.unwrap_err().contains("a.xyz"));
        let twice = planned(&["-", "/dev/stdout"], None);
        assert!(twice.unwrap_err().contains("stdout"));
    }

    #[test]
    fn commands_are_split_like_a_shell_does() {
        let Words(split) = words("'my viewer' --port 80 \"a b\"").unwrap();
        assert_eq!(split, ["my viewer", "--port", "80", "a b"]);
        assert!(words("  ").is_err());
        assert!(words("unfinished 'quote").is_err());
    }

    #[test]
    fn opening_needs_a_file() {
        let outputs = plan(&[], None).unwrap();
        assert!(first_file(&outputs).is_err());
        let outputs = plan(&[PathBuf::from("-"), PathBuf::from("x.svg")], None).unwrap();
        assert_eq!(first_file(&outputs).unwrap(), PathBuf::from("x.svg"));
    }
}
