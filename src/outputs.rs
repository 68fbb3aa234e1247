//! The files that a profile goes to.
//!
//! Every output is opened before the target is touched, so that a bad path fails first; how each is written is its sink's (`sink.rs`).
//!
//! Which processes there will be is not known then. Where each is to have a file, the folder is tried first, by a
//! file that is removed again, and the files are opened when the processes are known.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use pystrobe_exporters::{ExportError, Format};

use crate::args::{OutputSpec, PID, Place};
use crate::errors::Failure;
use crate::litter::Litter;
use crate::sink::Sink;
use crate::stderr::Notes;

/// Outputs that are open and wait for a profile. Dropped without being written, they leave nothing behind.
#[derive(Debug)]
pub(crate) struct Outputs {
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct Output {
    /// As typed; `stdout` for that.
    name: PathBuf,
    format: Format,
    sink: Opened,
}

#[derive(Debug)]
enum Opened {
    One(Sink),
    /// A file for each process, named like this one, which is absolute and never made.
    Each {
        like: PathBuf,
        litter: Litter,
    },
}

/// What is to be written: the whole, or the process at a position among the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// The whole profile.
    All,
    /// One process of it.
    Process(usize),
}

/// What became of the outputs.
#[derive(Debug, Default)]
pub(crate) struct Results {
    files: Vec<Written>,
    failures: Vec<Failure>,
}

/// An output that was written to a file.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    /// Its path, as typed.
    path: PathBuf,
    format: Format,
}

impl Outputs {
    /// Opens every output, or none.
    ///
    /// # Errors
    ///
    /// The first one that cannot be opened, that is the same file as another one, or that would pour a binary
    /// format onto a terminal.
    pub(crate) fn open(specs: &[OutputSpec], litter: &Litter) -> Result<Outputs, Failure> {
        let mut outputs: Vec<Output> = Vec::with_capacity(specs.len());
        for spec in specs {
            let output = match &spec.place {
                Place::Stdout => stdout(spec.format)?,
                Place::File(path) => Output {
                    name: path.clone(),
                    format: spec.format,
                    sink: Opened::One(open(path, litter)?),
                },
                Place::FileEach(path) => Output {
                    name: path.clone(),
                    format: spec.format,
                    sink: try_folder(path, litter)?,
                },
            };
            if let Some(other) = outputs.iter().find(|other| other.is_same_file(&output)) {
                return Err(Failure::usage(
                    format!(
                        "{} and {} are the same file",
                        other.name.display(),
                        output.name.display()
                    ),
                    "give each output a name of its own",
                ));
            }
            outputs.push(output);
        }
        Ok(Outputs { outputs })
    }

    /// Whether some output is a file for each process.
    pub(crate) fn wants_each(&self) -> bool {
        let each = |output: &Output| matches!(output.sink, Opened::Each { .. });
        self.outputs.iter().any(each)
    }

    /// Writes every output, and puts those that are files in their places; `processes` are named so in the names
    /// of theirs. One that fails does not keep the others from being written. A reader of stdout or of a pipe that
    /// goes away early is no failure.
    pub(crate) fn write(
        self,
        processes: &[&str],
        mut export: impl FnMut(Of, Format, &mut dyn Write) -> Result<(), ExportError>,
    ) -> Results {
        let mut results = Results::default();
        for Output { name, format, sink } in self.outputs {
            match sink {
                Opened::One(sink) => {
                    results.add(name, format, sink, |out| export(Of::All, format, out));
                }
                Opened::Each { litter, .. } => {
                    for (index, process) in processes.iter().enumerate() {
                        let name = named(&name, process);
                        match open(&name, &litter) {
                            Ok(sink) => results.add(name, format, sink, |out| {
                                export(Of::Process(index), format, out)
                            }),
                            Err(failure) => results.failures.push(failure),
                        }
                    }
                }
            }
        }
        results
    }
}

/// Opens the file at a path, or what else is there.
fn open(path: &Path, litter: &Litter) -> Result<Sink, Failure> {
    Sink::open(path, litter).map_err(|source| Failure::output("write", path, source))
}

/// Makes sure that files can be made where this one would be.
fn try_folder(path: &Path, litter: &Litter) -> Result<Opened, Failure> {
    match open(path, litter)? {
        Sink::Replace { destination, .. } => Ok(Opened::Each {
            like: destination,
            litter: litter.clone(),
        }),
        Sink::Stdout | Sink::Direct(_) => Err(Failure::output(
            "write",
            path,
            io::Error::other("not a file that each process can have one like"),
        )),
    }
}

/// The name of the file for one process.
fn named(path: &Path, process: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut named = Vec::new();
    let mut rest = name;
    let find = |bytes: &[u8]| {
        bytes
            .windows(PID.len())
            .position(|part| part == PID.as_bytes())
    };
    while let Some(at) = find(rest) {
        named.extend_from_slice(&rest[..at]);
        named.extend_from_slice(process.as_bytes());
        rest = &rest[at + PID.len()..];
    }
    named.extend_from_slice(rest);
    path.with_file_name(OsString::from_vec(named))
}

impl Results {
    /// Writes one output.
    fn add(
        &mut self,
        name: PathBuf,
        format: Format,
        sink: Sink,
        export: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
    ) {
        let is_file = !matches!(sink, Sink::Stdout);
        match sink.fill(&name, export) {
            Ok(()) if is_file => self.files.push(Written { path: name, format }),
            Ok(()) => {}
            Err(failure) => self.failures.push(failure),
        }
    }

    /// Says which files there are now.
    ///
    /// # Errors
    ///
    /// The last of the failures; those before it are reported here.
    pub(crate) fn tell(mut self, notes: Notes) -> Result<(), Failure> {
        for file in &self.files {
            notes.line(&format!("wrote {} ({})", file.path.display(), file.format));
        }
        let last = self.failures.pop();
        for failure in &self.failures {
            failure.report();
        }
        match last {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

impl Output {
    /// Where it, or the file that stands for those of all processes, is put.
    fn destination(&self) -> Option<&Path> {
        match &self.sink {
            Opened::One(Sink::Replace { destination, .. }) => Some(destination),
            Opened::One(Sink::Stdout | Sink::Direct(_)) => None,
            Opened::Each { like, .. } => Some(like),
        }
    }

    fn is_same_file(&self, other: &Output) -> bool {
        self.destination().is_some() && self.destination() == other.destination()
    }
}

fn stdout(format: Format) -> Result<Output, Failure> {
    if format == Format::Pstats && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "pstats is binary, and stdout is a terminal",
            "name a file by -o, or redirect stdout",
        ));
    }
    Ok(Output {
        name: PathBuf::from("stdout"),
        format,
        sink: Opened::One(Sink::Stdout),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::exit_code;

    fn spec(path: &Path) -> OutputSpec {
        OutputSpec {
            place: Place::File(path.to_path_buf()),
            format: Format::Folded,
        }
    }

    fn open_all(paths: &[&Path]) -> Result<Outputs, Failure> {
        let specs: Vec<OutputSpec> = paths.iter().map(|path| spec(path)).collect();
        Outputs::open(&specs, &Litter::default())
    }

    fn hello(_: Of, _: Format, out: &mut dyn Write) -> Result<(), ExportError> {
        Ok(out.write_all(b"hello")?)
    }

    fn entries(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_appears_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.folded");
        let outputs = open_all(&[&path]).unwrap();
        assert!(!path.exists());
        let Results { files, failures } = outputs.write(&[], hello);
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(files.len(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        assert_eq!(entries(directory.path()), ["a.folded"]);
    }

    #[test]
    fn an_aborted_recording_leaves_yesterdays_profile_and_no_litter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.folded");
        fs::write(&path, "yesterday").unwrap();
        drop(open_all(&[&path]).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"yesterday");
        assert_eq!(entries(directory.path()), ["a.folded"]);
    }

    #[test]
    fn a_failed_export_leaves_yesterdays_profile_and_does_not_stop_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let bad = directory.path().join("bad.folded");
        let good = directory.path().join("good.folded");
        fs::write(&bad, "yesterday").unwrap();
        let mut first = true;
        let Results { files, failures } =
            open_all(&[&bad, &good])
                .unwrap()
                .write(&[], |of, format, out| {
                    hello(of, format, out)?;
                    if std::mem::take(&mut first) {
                        return Err(ExportError::Io(io::ErrorKind::StorageFull.into()));
                    }
                    Ok(())
                });
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].exit_code(), exit_code::OUTPUT);
        assert_eq!(files.len(), 1);
        assert_eq!(fs::read(&bad).unwrap(), b"yesterday");
        assert_eq!(fs::read(&good).unwrap(), b"hello");
        assert_eq!(entries(directory.path()), ["bad.folded", "good.folded"]);
    }

    #[test]
    fn bad_paths_fail_first() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "").unwrap();
        symlink("loop.folded", at("loop.folded")).unwrap();
        for bad in [
            at("missing/a.folded"),
            at("file/a.folded"),
            at("loop.folded"),
            directory.path().to_path_buf(),
            at(".."),
            PathBuf::from(""),
        ] {
            let failure = open_all(&[&at("good.folded"), &bad]).unwrap_err();
            assert_eq!(failure.exit_code(), exit_code::OUTPUT, "{bad:?}");
        }
        assert_eq!(entries(directory.path()), ["file", "loop.folded"]);
    }

    #[test]
    fn one_file_under_two_names_is_a_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.folded");
        let again = directory.path().join(".").join("a.folded");
        let failure = open_all(&[&path, &again]).unwrap_err();
        assert_eq!(failure.exit_code(), exit_code::USAGE);
    }

    #[test]
    fn each_process_has_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let each = |name: &str| OutputSpec {
            place: Place::FileEach(directory.path().join(name)),
            format: Format::Folded,
        };
        let specs = [
            each("a-{pid}.folded"),
            spec(&directory.path().join("all.folded")),
        ];
        let outputs = Outputs::open(&specs, &Litter::default()).unwrap();
        assert!(outputs.wants_each());
        let Results { files, failures } =
            outputs.write(&["7", "7-2"], |of, _, out| Ok(write!(out, "{of:?}")?));
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(files.len(), 3);
        let names = ["a-7-2.folded", "a-7.folded", "all.folded"];
        assert_eq!(entries(directory.path()), names);
        let written = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(names.map(written), ["Process(1)", "Process(0)", "All"]);

        let twice = [each("{pid}.folded"), each("./{pid}.folded")];
        let failure = Outputs::open(&twice, &Litter::default()).unwrap_err();
        assert_eq!(failure.exit_code(), exit_code::USAGE);
        let missing = [each("missing/{pid}.folded")];
        let failure = Outputs::open(&missing, &Litter::default()).unwrap_err();
        assert_eq!(failure.exit_code(), exit_code::OUTPUT);
        assert_eq!(entries(directory.path()), names);
    }

    #[test]
    fn every_mention_is_replaced() {
        let name = |path: &str| named(Path::new(path), "42");
        assert_eq!(name("d/{pid}-{pid}.svg"), Path::new("d/42-42.svg"));
        assert_eq!(name("{pi{pid}d}"), Path::new("{pi42d}"));
    }
}
