//! Recordings that begin and end in programs which are at work.

use std::time::Duration;

use pystrobe_calls::Options;
use pystrobe_tracing::Attachment;

use super::support::attempts::{ensure, holds_once};
use super::support::interpreters;
use super::support::program::Program;

const PATIENCE: Duration = Duration::from_secs(60);

/// How many images of the agent a process has mapped.
fn agents(pid: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines()
        .filter(|line| line.contains("pystrobe_agent") && line.contains(" r-xp "))
        .count()
}

/// Calls in a second.
fn rate(program: &mut Program) -> f64 {
    program.tell("measure");
    program.line().parse().unwrap()
}

#[test]
fn a_running_program_is_recorded_and_let_go_two_hundred_times() {
    for python in interpreters::all() {
        let mut program = Program::start(python, "steady.py", &[]);
        let pid = program.pid();
        let before = (0..3).map(|_| rate(&mut program)).fold(0.0, f64::max);
        for round in 0..200 {
            let attachment = Attachment::start(pid, &Options::default(), PATIENCE)
                .unwrap_or_else(|error| panic!("{python}, {round}: {error}"));
            attachment
                .stop(PATIENCE)
                .unwrap_or_else(|error| panic!("{python}, {round}: {error}"));
        }
        let attachment = Attachment::start(pid, &Options::default(), PATIENCE).unwrap();
        let during = rate(&mut program);
        attachment.stop(PATIENCE).unwrap();
        let calls = pystrobe_calls::read(attachment.recording()).unwrap();
        drop(attachment);
        assert!(agents(pid) <= 1, "{python}");
        let named = |name: &str| {
            let index = calls
                .functions
                .iter()
                .position(|function| function.name == name);
            let index = u32::try_from(index.unwrap_or_else(|| panic!("{python}: {name}"))).unwrap();
            let nodes = calls
                .nodes
                .iter()
                .filter(|node| node.function == Some(index));
            nodes.map(|node| node.calls).sum::<u64>()
        };
        // Half a second of calls, in the main thread alone.
        assert!(named("callee") > 20_000, "{python}");
        assert!(calls.about.ended, "{python}");
        // The clock of a busy machine is not exact; what is not taken out costs more than this.
        holds_once(|| {
            let after = rate(&mut program);
            println!("{python}: {before:.0} calls/s before, {during:.0} during, {after:.0} after");
            ensure!(after > before * 0.7, "{python}: {before} {during} {after}");
            Ok(())
        });
        program.finish();
    }
}
