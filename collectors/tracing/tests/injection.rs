//! Lines of Python that are executed in programs which are at work.

use std::time::Duration;

use pystrobe_tracing::injection::{self, InjectionError};

use super::support::interpreters::{self, Interpreter};
use super::support::program::Program;

const PATIENCE: Duration = Duration::from_secs(60);
const TIMES: usize = 200;

/// A line that says in the program that it was executed.
pub(crate) fn note(number: usize) -> String {
    format!("import sys; sys.modules['__main__'].seen.append({number})")
}

/// What a program has to print of `seen` when the first so many notes were executed, each once.
fn noted(count: usize) -> String {
    let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    format!("\"seen\": [{}]", numbers.join(", "))
}

fn is_injected_again_and_again(python: &Interpreter) {
    let mut program = Program::start(python, "busy.py", &[]);
    for number in 0..TIMES {
        injection::run(program.pid(), &note(number), PATIENCE)
            .unwrap_or_else(|error| panic!("{python}, {number}: {error}"));
    }
    let told = program.finish();
    let (seen, others) = told.split_once("], ").unwrap();
    println!("{python}: {others}");
    assert!(seen.ends_with(noted(TIMES).trim_end_matches(']')), "{python}: {told}");
    assert!(others.contains("\"wrong\": []"), "{python}: {others}");
}

#[test]
fn a_busy_program_is_right_after_two_hundred_lines() {
    for python in interpreters::all() {
        is_injected_again_and_again(python);
    }
}

/// The ranges of memory of a process and what they are.
fn maps(pid: u32) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().map(String::from).collect()
}

/// A program that never leaves Python code is reached, keeps no memory of it, and sees no name that it did not make.
#[test]
fn nothing_is_left_in_a_program() {
    for python in interpreters::all() {
        let mut program = Program::start(python, "counting.py", &[]);
        let run = |source: &str| injection::run(program.pid(), source, PATIENCE).unwrap();
        // What is allocated the first time.
        for _ in 0..10 {
            run("pass");
        }
        let before = maps(program.pid());
        for number in 0..TIMES {
            run(&note(number));
        }
        let after = maps(program.pid());
        assert_eq!(before, after, "{python}");
        run("import sys; sys.modules['__main__'].stop = True");
        let told = program.finish();
        assert!(told.contains(&noted(TIMES)), "{python}: {told}");
        assert!(told.contains("\"whole\": true"), "{python}: {told}");
        let names = r#""names": ["count", "json", "seen", "signal", "stop", "total"]"#;
        assert!(told.contains(names), "{python}: {told}");
    }
}

#[test]
fn what_a_line_raises_is_told_and_does_not_reach_the_program() {
    for python in interpreters::all() {
        let mut program = Program::start(python, "counting.py", &[]);
        let raised = |source: &str| match injection::run(program.pid(), source, PATIENCE) {
            Err(InjectionError::Raised { exception, .. }) => exception,
            other => panic!("{python}: {other:?}"),
        };
        assert_eq!(raised("1 / 0"), "ZeroDivisionError: division by zero");
        assert_eq!(raised("raise SystemExit(3)"), "SystemExit: 3");
        assert!(raised("this is").starts_with("SyntaxError: "));
        assert_eq!(raised("raise ValueError('ä\\n€')"), "ValueError: ä\n€");
        injection::run(program.pid(), &note(0), PATIENCE).unwrap();
        injection::run(
            program.pid(),
            "import sys\nsys.modules['__main__'].stop = True\n",
            PATIENCE,
        )
        .unwrap();
        let told = program.finish();
        assert!(told.contains(&noted(1)), "{python}: {told}");
    }
}
