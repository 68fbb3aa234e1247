//! What each format looks like. `PYSTROBE_BLESS=1` rewrites the expected files.

use std::path::PathBuf;

use pystrobe_exporters::{ExportError, Format, PstatsFlavor, Style, write, write_table};
use pystrobe_profile::{Clock, Counted, Profile, StatsTable};

use crate::recorder::{function, record, thread};
use crate::sample::{by_all_clocks, profile, traced, written};

/// Compares with a file of expected output.
fn golden(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("PYSTROBE_BLESS").is_some_and(|bless| bless == "1") {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, expected,
        "{name} differs; PYSTROBE_BLESS=1 accepts what was found"
    );
}

fn text_of(profile: &Profile, format: Format) -> String {
    String::from_utf8(written(profile, format, &Style::default())).unwrap()
}

fn text(format: Format, style: &Style) -> String {
    String::from_utf8(written(&profile(), format, style)).unwrap()
}

#[test]
fn folded() {
    golden("plain.folded", &text(Format::Folded, &Style::default()));
    let style = Style {
        threads: true,
        lines: true,
        ..Style::default()
    };
    golden("threads-lines.folded", &text(Format::Folded, &style));
}

#[test]
fn table() {
    golden("plain.table", &text(Format::Table, &Style::default()));
    let style = Style {
        rows: Some(3),
        width: Some(80),
        color: true,
        ..Style::default()
    };
    golden("narrow-colour.table", &text(Format::Table, &style));
}

/// inferno's script and style sheet change with inferno; the drawing is ours.
fn drawing(svg: &str) -> String {
    let (_, frames) = svg.split_once("<text id=\"title\"").unwrap();
    format!("<text id=\"title\"{frames}").replace("</g>", "</g>\n")
}

#[test]
fn flamegraph() {
    let svg = text(Format::Flamegraph, &Style::default());
    golden("plain.svg-drawing", &drawing(&svg));
    assert!(svg.contains("id=\"search\""), "it can be searched");
    let style = Style {
        threads: true,
        ..Style::default()
    };
    golden(
        "threads.svg-drawing",
        &drawing(&text(Format::Flamegraph, &style)),
    );
}

#[test]
fn other_clocks_are_named() {
    for clock in [Clock::Wall, Clock::Active, Clock::Cpu, Clock::Gil] {
        let profile = by_all_clocks().with_clock(clock).unwrap();
        let (table, svg) = (
            text_of(&profile, Format::Table),
            text_of(&profile, Format::Flamegraph),
        );
        match clock {
            Clock::Wall => {
                assert_eq!(table, text(Format::Table, &Style::default()));
                assert_eq!(svg, text(Format::Flamegraph, &Style::default()));
            }
            clock => {
                let name = clock.name();
                let header = table.lines().next().unwrap();
                assert!(header.contains(&format!("own {name} s")), "{header}");
                assert!(header.contains(&format!("cum {name} s")), "{header}");
                let seconds = profile.tree().total().nanoseconds as f64 / 1e9;
                assert!(svg.contains(&format!("{seconds:.2} s of {name} time")));
            }
        }
        // One thread only waits: by the other clocks there is nothing of it.
        let sleeps = clock == Clock::Wall;
        for format in [Format::Table, Format::Flamegraph, Format::Folded] {
            assert_eq!(text_of(&profile, format).contains("time.sleep"), sleeps);
        }
    }
    let cpu = by_all_clocks().with_clock(Clock::Cpu).unwrap();
    golden("cpu.table", &text_of(&cpu, Format::Table));
}

/// A traced profile counts calls, and its times are too short for microseconds.
#[test]
fn calls_are_calls() {
    golden("traced.folded", &text_of(&traced(), Format::Folded));
    golden("traced.table", &text_of(&traced(), Format::Table));
    let svg = text_of(&traced(), Format::Flamegraph);
    assert!(svg.contains("123 calls, 0.00 s"), "{svg}");
    assert!(svg.contains("30,350 nanoseconds"), "{svg}");
    let style = Style {
        pstats_flavor: PstatsFlavor::Python315,
        ..Style::default()
    };
    let mut out = Vec::new();
    let error = write(&traced(), Format::Pstats, &style, &mut out).unwrap_err();
    assert!(matches!(error, ExportError::NoSamples), "{error}");
    assert!(out.is_empty());
}

#[test]
fn flamegraphs_do_not_change_from_run_to_run() {
    let svg = || text(Format::Flamegraph, &Style::default());
    assert_eq!(svg(), svg());
}

#[test]
fn nothing_sampled_is_an_error() {
    let empty = record(&[function("a.py", 1, "f", "")], &[thread("", 1)], &[]);
    let no_exceptions = by_all_clocks().with_clock(Clock::Exception).unwrap();
    for profile in [empty, no_exceptions] {
        for format in Format::ALL {
            let mut out = Vec::new();
            let error = write(&profile, format, &Style::default(), &mut out).unwrap_err();
            assert!(matches!(error, ExportError::Empty), "{format}: {error}");
            assert!(out.is_empty());
        }
    }
    let error = write_table(
        &StatsTable::default(),
        Counted::Calls,
        &Style::default(),
        &mut Vec::new(),
    );
    assert!(matches!(error, Err(ExportError::Empty)));
}

#[test]
fn a_failing_output_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let style = Style {
        pstats_flavor: PstatsFlavor::Python315,
        ..Style::default()
    };
    for format in Format::ALL {
        let error = write(&profile(), format, &style, &mut Full).unwrap_err();
        let ExportError::Io(error) = error else {
            panic!("{format}: {error}")
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{format}");
    }
}
