//! Programs in which a line of Python can not be executed: each is told, and is as it was.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pystrobe_sampling::AttachError;
use pystrobe_sampling::layout::Minor;
use pystrobe_tracing::injection::{self, InjectionError};

use super::injection::{note, pages_of_ours};
use super::support::interpreters::{self, Interpreter, target_file};
use super::support::program::Program;

/// Long enough for whoever can answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// For those who cannot.
const SHORT: Duration = Duration::from_millis(300);

fn raw(program: &Program) -> Pid {
    Pid::from_raw(program.pid().cast_signed())
}

fn refused(program: &Program, patience: Duration) -> InjectionError {
    injection::run(program.pid(), &note(0), patience).unwrap_err()
}

/// Starts a program whose main thread is in C and does not come back, and waits until it is there.
fn blocked(python: &Interpreter, how: &str) -> Program {
    let program = Program::start(python, "blocked.py", &[how]);
    let pid = program.pid();
    if how == "held" {
        // From its last line of Python to the C code it needs less than the clock of the kernel counts.
        let counted = processor_ticks(pid);
        while processor_ticks(pid) < counted + 20 {
            thread::yield_now();
        }
    } else {
        while !is_in_call(pid, how) {
            thread::yield_now();
        }
    }
    program
}

/// The time of a process on a CPU, in hundredths of a second.
fn processor_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    behind_name
        .split_whitespace()
        .nth(11)
        .unwrap()
        .parse()
        .unwrap()
}

/// Whether the main thread sleeps in the system call by which Python does what `how` says.
fn is_in_call(pid: u32, how: &str) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/syscall")).unwrap();
    let number = call.split_whitespace().next().unwrap();
    let calls = [
        libc::SYS_select,
        libc::SYS_pselect6,
        libc::SYS_clock_nanosleep,
    ];
    match how {
        // Not the wait for the GIL, which has a limit: that of a lock has none.
        "lock" => {
            let timeout = call.split_whitespace().nth(4);
            number == libc::SYS_futex.to_string() && timeout == Some("0x0")
        }
        _ => calls.iter().any(|call| number == call.to_string()),
    }
}

/// What is given up is not executed later, when the main thread is there again.
#[test]
fn a_main_thread_that_waits_in_c_is_given_up() {
    for python in interpreters::all() {
        let mut program = blocked(python, "lock");
        for _ in 0..3 {
            let error = refused(&program, SHORT);
            assert!(
                matches!(error, InjectionError::Blocked { waited, .. } if waited == SHORT),
                "{python}: {error}"
            );
            assert!(error.advice().is_some());
        }
        // What the interpreter may still come to has to be there.
        let kept = if python.version < Minor(3, 14) { 3 } else { 0 };
        assert_eq!(pages_of_ours(program.pid()), kept, "{python}");
        assert!(program.finish().contains("\"seen\": []"), "{python}");
    }
}

#[test]
fn a_main_thread_that_sleeps_or_holds_the_gil_in_c_is_given_up() {
    for python in interpreters::all() {
        for how in ["sleep", "held"] {
            let program = blocked(python, how);
            let error = refused(&program, SHORT);
            assert!(
                matches!(error, InjectionError::Blocked { .. }),
                "{python}, {how}: {error}"
            );
            // It is where it was.
            assert!(pystrobe_sampling::process::is_alive(program.pid()));
            assert_eq!(pystrobe_sampling::process::tracer(program.pid()), None);
        }
    }
}

/// Whoever was given up can be asked again.
#[test]
fn a_main_thread_that_comes_back_is_reached() {
    for python in interpreters::all() {
        let mut program = blocked(python, "lock");
        assert!(matches!(
            refused(&program, SHORT),
            InjectionError::Blocked { .. }
        ));
        let pid = program.pid();
        let later = thread::spawn(move || injection::run(pid, &note(1), PATIENCE));
        program.tell("until seen");
        let told = program.finish();
        later
            .join()
            .unwrap()
            .unwrap_or_else(|error| panic!("{python}: {error}"));
        assert!(told.contains("\"seen\": [1]"), "{python}: {told}");
    }
}

#[test]
fn a_stopped_program_is_told_and_stays_stopped() {
    for python in interpreters::all() {
        let program = Program::start(python, "refusing.py", &[]);
        kill(raw(&program), Signal::SIGSTOP).unwrap();
        while !pystrobe_sampling::process::is_stopped(program.pid()) {
            thread::yield_now();
        }
        let error = refused(&program, PATIENCE);
        assert_eq!(
            error,
            InjectionError::Stopped { pid: program.pid() },
            "{python}"
        );
        assert!(pystrobe_sampling::process::is_stopped(program.pid()));
        kill(raw(&program), Signal::SIGCONT).unwrap();
        injection::run(program.pid(), "pass", PATIENCE).unwrap();
    }
}

#[test]
fn another_tracer_is_told_and_not_disturbed() {
    for python in interpreters::all() {
        let program = Program::start(python, "refusing.py", &[]);
        let pid = raw(&program);
        let (seized, when_seized) = mpsc::channel();
        let (finish, when_to_finish) = mpsc::channel::<()>();
        // A tracee belongs to the thread that traces it.
        let tracer = thread::spawn(move || {
            ptrace::seize(pid, ptrace::Options::empty()).unwrap();
            seized.send(()).unwrap();
            // Ends, and lets the program go, when the other side is dropped.
            when_to_finish.recv().unwrap_err();
        });
        when_seized.recv().unwrap();
        let result = injection::run(program.pid(), "pass", PATIENCE);
        if python.version >= Minor(3, 14) {
            // Nothing has to be stopped there.
            assert_eq!(result, Ok(()), "{python}");
        } else {
            let traced = InjectionError::Traced {
                pid: program.pid(),
                tracer: std::process::id(),
            };
            assert_eq!(result, Err(traced), "{python}");
        }
        assert_eq!(
            pystrobe_sampling::process::tracer(program.pid()),
            Some(std::process::id())
        );
        drop(finish);
        tracer.join().unwrap();
        injection::run(program.pid(), "pass", PATIENCE).unwrap();
    }
}

#[test]
fn a_program_that_has_ended_or_ends_meanwhile_is_told() {
    for python in interpreters::all() {
        let mut program = Program::start(python, "refusing.py", &[]);
        let end = |error: InjectionError| {
            assert!(
                matches!(
                    error,
                    InjectionError::Attach(
                        AttachError::Ended { .. }
                            | AttachError::Zombie { .. }
                            | AttachError::NotFound { .. }
                    )
                ),
                "{python}: {error}"
            );
        };
        program.leave_dead();
        end(refused(&program, PATIENCE));
        program.kill();
        end(refused(&program, PATIENCE));

        for _ in 0..5 {
            let mut program = blocked(python, "sleep");
            let pid = program.pid();
            let waiting = thread::spawn(move || injection::run(pid, "pass", PATIENCE));
            program.leave_dead();
            end(waiting.join().unwrap().unwrap_err());
        }
        // Of its own accord, in the line itself.
        let program = Program::start(python, "refusing.py", &[]);
        end(injection::run(program.pid(), "import os; os._exit(0)", PATIENCE).unwrap_err());
    }
}

#[test]
fn remote_debugging_that_is_off_is_told() {
    let mut some = false;
    for python in interpreters::all() {
        if python.version < Minor(3, 14) {
            continue;
        }
        some = true;
        let commands: [fn(&mut Command); 2] = [
            |command| _ = command.env("PYTHON_DISABLE_REMOTE_DEBUG", "1"),
            |command| _ = command.args(["-X", "disable-remote-debug"]),
        ];
        for off in commands {
            let mut command = python.command();
            off(&mut command);
            let program = Program::run(command.arg(target_file("refusing.py")));
            assert_eq!(
                refused(&program, PATIENCE),
                InjectionError::RemoteDebuggingOff { pid: program.pid() },
                "{python}"
            );
        }
    }
    if !some {
        println!("skipped: no Python here has remote debugging");
    }
}

#[test]
fn a_program_that_is_no_python_is_told() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let error = injection::run(child.id(), "pass", PATIENCE).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        matches!(error, InjectionError::Attach(AttachError::NotPython { .. })),
        "{error}"
    );
}

/// Runs this test's own program once more as another user.
fn as_another_user(python: &Interpreter) {
    let program = Program::start(python, "refusing.py", &[]);
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own)
        .args([
            "--exact",
            "refusals::without_rights",
            "--nocapture",
            "--ignored",
        ])
        .env("TARGET", program.pid().to_string())
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// The part of the next test that another user does.
#[test]
#[ignore = "is started by another test, as another user"]
fn without_rights() {
    let pid: u32 = std::env::var("TARGET").unwrap().parse().unwrap();
    let error = injection::run(pid, "pass", PATIENCE).unwrap_err();
    assert!(
        matches!(error, InjectionError::Attach(AttachError::Denied { .. })),
        "{error}"
    );
}

#[test]
fn whoever_may_not_is_told() {
    if pystrobe_sampling::process::owner(std::process::id()).map(|(user, _)| user) != Some(0) {
        println!("skipped: to become another user needs root");
        return;
    }
    for python in interpreters::all() {
        as_another_user(python);
    }
}
