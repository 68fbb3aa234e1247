//! `convert`: writes a recorded profile in other formats.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use pystrobe_exporters::{
    Format, PstatsFile, PstatsFlavor, read_pstats, write_pstats_table, write_table,
};
use pystrobe_profile::{Clock, Counted, NotMeasured, Profile};

use crate::args::{ConvertOptions, OutputOptions, OutputSpec, Place};
use crate::errors::Failure;
use crate::interrupts::Interrupts;
use crate::litter::Litter;
use crate::outputs::Outputs;
use crate::save::save_again;
use crate::stderr::Notes;
use crate::style::style;
use crate::viewer::Viewer;

/// Reads a pstats file and writes it in other formats.
///
/// The input is read to its end before an output is opened, so that both may be the same file.
///
/// # Errors
///
/// Where the input cannot be read or does not hold what an output needs, and where an output fails.
pub(crate) fn convert(options: &ConvertOptions) -> Result<(), Failure> {
    let notes = Notes::new(options.quiet);
    let name = options.input.as_deref().unwrap_or(Path::new("stdin"));
    let input = read(options.input.as_deref()).map_err(|source| Failure::Input {
        path: name.to_path_buf(),
        source,
    })?;
    let mut file = read_pstats(&input).map_err(|source| Failure::NotAProfile {
        path: name.to_path_buf(),
        source,
    })?;
    if let Some(problem) = &file.trailer_problem {
        notes.warning(&format!(
            "{}: only the table of functions can be read: {problem}",
            name.display()
        ));
    }
    let profile = match (file.profile.take(), options.output.clock) {
        (Some(profile), Some(clock)) => {
            let profile = profile.with_clock(clock);
            Some(profile.map_err(|NotMeasured(clock)| not_measured(name, clock))?)
        }
        // Without being asked, the clock stays the one that the file shows.
        (profile, _) => profile,
    };
    match &profile {
        Some(profile) => refuse_what_needs_samples(name, profile, &options.output)?,
        None => refuse_what_needs_a_recording(name, &options.output)?,
    }

    let litter = Litter::default();
    let interrupts = Interrupts::abort_at_once(&litter)?;
    let outputs = Outputs::open(&options.output.outputs, &litter)?;
    match &profile {
        Some(profile) => save_again(profile, outputs, &options.output, notes)?,
        None => save_table(&file, outputs, &options.output, notes)?,
    }
    interrupts.saved();
    match &options.output.open_with {
        Some(open_with) => Viewer::start(open_with)?.wait(),
        None => Ok(()),
    }
}

fn read(path: Option<&Path>) -> io::Result<Vec<u8>> {
    match path {
        Some(path) => fs::read(path),
        None => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes)?;
            Ok(bytes)
        }
    }
}

fn not_measured(path: &Path, clock: Clock) -> Failure {
    Failure::NotMeasured {
        path: path.to_path_buf(),
        clock,
    }
}

/// The counts of CPython 3.15's sampler mean nothing where calls were traced.
fn refuse_what_needs_samples(
    path: &Path,
    profile: &Profile,
    options: &OutputOptions,
) -> Result<(), Failure> {
    match (profile.recording().counted, options.pstats_flavor) {
        (Counted::Calls, PstatsFlavor::Python315) => Err(Failure::CountsCalls {
            path: path.to_path_buf(),
        }),
        _ => Ok(()),
    }
}

/// A file without our trailer has neither call paths nor threads nor executing lines, and one clock: it says
/// nowhere which, and that of the wall is what cProfile uses.
fn refuse_what_needs_a_recording(path: &Path, options: &OutputOptions) -> Result<(), Failure> {
    let needs_paths = |output: &OutputSpec| match output.format {
        Format::Flamegraph | Format::Folded => true,
        Format::Pstats | Format::Table => false,
    };
    if let Some(clock) = options.clock.filter(|&clock| clock != Clock::Wall) {
        return Err(not_measured(path, clock));
    }
    let is_for_each_process = |output: &OutputSpec| matches!(output.place, Place::FileEach(_));
    let missing = if options.outputs.iter().any(needs_paths) {
        "call paths"
    } else if !options.only_threads.is_empty() {
        "threads"
    } else if options.outputs.iter().any(is_for_each_process) {
        "processes"
    } else if options.pstats_flavor != PstatsFlavor::Classic {
        "executing lines"
    } else {
        return Ok(());
    };
    Err(Failure::OnlyATable {
        path: path.to_path_buf(),
        missing,
    })
}

fn save_table(
    file: &PstatsFile,
    outputs: Outputs,
    options: &OutputOptions,
    notes: Notes,
) -> Result<(), Failure> {
    let style = style(options);
    let results = outputs.write(&[], |_, format, out| match format {
        Format::Pstats => write_pstats_table(&file.table, out),
        // Flame graphs and stacks were refused before the outputs were opened.
        Format::Table | Format::Flamegraph | Format::Folded => {
            write_table(&file.table, file.counted, &style, out)
        }
    });
    results.tell(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(format: Format) -> OutputOptions {
        OutputOptions {
            outputs: vec![OutputSpec {
                place: Place::Stdout,
                format,
            }],
            clock: None,
            threads: false,
            only_threads: Vec::new(),
            lines: false,
            pstats_flavor: PstatsFlavor::Classic,
            open_with: None,
        }
    }

    fn missing(options: &OutputOptions) -> Option<&'static str> {
        match refuse_what_needs_a_recording(Path::new("x"), options) {
            Ok(()) => None,
            Err(Failure::OnlyATable { missing, .. }) => Some(missing),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_table_alone_becomes_tables_alone() {
        assert_eq!(missing(&options(Format::Table)), None);
        assert_eq!(missing(&options(Format::Pstats)), None);
        assert_eq!(missing(&options(Format::Flamegraph)), Some("call paths"));
        assert_eq!(missing(&options(Format::Folded)), Some("call paths"));
        let on_a_cpu = OutputOptions {
            clock: Some(Clock::Cpu),
            ..options(Format::Table)
        };
        let refused = refuse_what_needs_a_recording(Path::new("x"), &on_a_cpu).unwrap_err();
        assert!(matches!(refused, Failure::NotMeasured { clock, .. } if clock == Clock::Cpu));
        let on_the_wall = OutputOptions {
            clock: Some(Clock::Wall),
            ..options(Format::Table)
        };
        assert_eq!(missing(&on_the_wall), None);
        let one_thread = OutputOptions {
            only_threads: vec![String::from("MainThread")],
            ..options(Format::Table)
        };
        assert_eq!(missing(&one_thread), Some("threads"));
        let each = OutputOptions {
            outputs: vec![OutputSpec {
                place: Place::FileEach("{pid}.txt".into()),
                format: Format::Table,
            }],
            ..options(Format::Table)
        };
        assert_eq!(missing(&each), Some("processes"));
        let flavored = OutputOptions {
            pstats_flavor: PstatsFlavor::Python315,
            ..options(Format::Pstats)
        };
        assert_eq!(missing(&flavored), Some("executing lines"));
    }
}
