//! What the tests share: the interpreters, programs to record, the built `pystrobe`, and readers for what it wrote.

pub(crate) mod attempts;
pub(crate) mod calls;
pub(crate) mod folded;
pub(crate) mod interpreters;
pub(crate) mod machine;
pub(crate) mod process;
pub(crate) mod pstats;
pub(crate) mod pystrobe;
pub(crate) mod target;
pub(crate) mod terminal;
pub(crate) mod tmux;
pub(crate) mod traced;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The folder of the integration tests.
pub(crate) fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A program in `tests/targets`.
pub(crate) fn target_script(name: &str) -> PathBuf {
    tests_folder().join("targets").join(name)
}

/// The line, counted from 1, at which a program of `tests/targets` says this, whatever stands before it on that line.
/// There has to be just one.
pub(crate) fn line_of(script: &str, statement: &str) -> u32 {
    let source = std::fs::read_to_string(target_script(script)).unwrap();
    let lines: Vec<u32> = (1..)
        .zip(source.lines())
        .filter(|(_, line)| line.trim_start().starts_with(statement))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(lines.len(), 1, "`{statement}` in {script}: {lines:?}");
    lines[0]
}

/// Whether this is the run that decides: there, what is missing fails a test instead of skipping it.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Whether the tests run as root, which some of them need and others are about not being.
pub(crate) fn is_root() -> bool {
    // The owner of what the kernel says about this process is its effective user.
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Says why the rest of a test does not happen. In CI that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(!in_ci(), "not possible here, and CI has to: {why}");
    println!("skipped: {why}");
}
