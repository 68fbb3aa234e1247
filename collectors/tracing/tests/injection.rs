//! Lines of Python that are executed in programs which are at work.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use pystrobe_sampling::layout::Minor;
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
    assert!(
        seen.ends_with(noted(TIMES).trim_end_matches(']')),
        "{python}: {told}"
    );
    assert!(others.contains("\"wrong\": []"), "{python}: {others}");
}

#[test]
fn a_busy_program_is_right_after_two_hundred_lines() {
    for python in interpreters::all() {
        is_injected_again_and_again(python);
    }
}

/// The pages of a process that hold what its interpreter was given to execute. No allocator gives out the start of a page.
pub(crate) fn pages_of_ours(pid: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        for page in (address(start)..address(end)).step_by(4096) {
            let mut bytes = [0; 20];
            // What is not there any more is none.
            let read = memory.read_exact_at(&mut bytes, page);
            count += usize::from(read.is_ok() && bytes == *b"try:\n (lambda exec, ");
        }
    }
    count
}

/// A program that never leaves Python code is reached, keeps no memory of it, and sees no name that it did not make.
#[test]
fn nothing_is_left_in_a_program() {
    for python in interpreters::all() {
        let mut program = Program::start(python, "counting.py", &[]);
        let run = |source: &str| injection::run(program.pid(), source, PATIENCE).unwrap();
        for number in 0..TIMES {
            run(&note(number));
        }
        assert_eq!(pages_of_ours(program.pid()), 0, "{python}");
        run("import sys; sys.modules['__main__'].stop = True");
        let told = program.finish();
        assert!(told.contains(&noted(TIMES)), "{python}: {told}");
        assert!(told.contains("\"whole\": true"), "{python}: {told}");
        let names = r#""names": ["count", "json", "seen", "signal", "stop", "total"]"#;
        assert!(told.contains(names), "{python}: {told}");
    }
}

/// Each wait lasts as long as without us, whether a line was executed after it or given up; and what was said to be executed
/// was, once, and nothing else.
#[test]
fn waits_are_not_cut_short() {
    for python in interpreters::all() {
        let mut program = Program::start(python, "waits.py", &[]);
        let mut executed = Vec::new();
        let mut given_up = 0;
        for number in 0.. {
            match injection::run(program.pid(), &note(number), Duration::from_millis(70)) {
                Ok(()) => executed.push(number.to_string()),
                Err(InjectionError::Blocked { .. }) => given_up += 1,
                // The queue of the interpreter holds 32 calls.
                Err(InjectionError::Busy { .. }) if python.version < Minor(3, 14) => {}
                // It has come to its end, or is about to.
                Err(InjectionError::Attach(_)) => break,
                Err(InjectionError::Hidden {
                    what: "its main thread",
                    ..
                }) => break,
                Err(error) => panic!("{python}: {error}"),
            }
        }
        let told = program.finish();
        let seen = format!("\"seen\": [{}]", executed.join(", "));
        println!("{python}: {} executed, {given_up} given up", executed.len());
        assert!(told.contains(&seen), "{python}: {seen} {told}");
        assert!(told.contains("\"wrong\": []"), "{python}: {told}");
        assert!(given_up > 0, "{python}: {told}");
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
