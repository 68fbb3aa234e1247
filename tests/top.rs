//! `top`: what is on the screen, what the keys do to it, and that the terminal is as it was afterwards.

use std::path::Path;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::process::PATIENCE;
use crate::support::pystrobe::{PROGRAM, Pystrobe, pystrobe};
use crate::support::target::Target;
use crate::support::tmux::Tmux;
use crate::support::{interpreters, machine, pstats, target_script};

/// The line that counts the samples.
fn samples(screen: &str) -> u64 {
    let line = screen
        .lines()
        .find(|line| line.contains(" samples in "))
        .unwrap_or_else(|| panic!("no samples on this screen:\n{screen}"));
    let (before, _) = line.split_once(" samples in ").unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

fn has_samples(screen: &str) -> bool {
    screen.contains(" samples in ") && samples(screen) > 100
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(
        status
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next()),
        None | Some('Z' | 'X')
    )
}

fn wait_for_end(pid: u32) {
    let began = Instant::now();
    while is_alive(pid) {
        assert!(began.elapsed() < PATIENCE, "{pid} does not end");
        std::thread::yield_now();
    }
}

#[test]
fn every_key_does_what_the_help_says() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let target = Target::launch(python, "alternating.py", &[]);
    let pid = target.pid().to_string();
    let Some(tmux) = Tmux::start((120, 40), &[], &["top", &pid]) else {
        return;
    };
    let screen = tmux.until("samples", has_samples);
    assert!(tmux.is_alternate());
    let first = screen.lines().next().unwrap();
    assert!(first.starts_with(&pid), "{screen}");
    let header = format!("Python {}  recording", python.full_version());
    assert!(first.ends_with(&header), "{screen}");
    assert!(
        screen.contains("by own time, now  all 1 threads"),
        "{screen}"
    );
    tmux.shows("fibonacci");
    tmux.shows("CPU ");
    tmux.shows("GIL ");

    tmux.press(&["c"]);
    tmux.shows("by cumulative time, now");
    tmux.press(&["n"]);
    let screen = tmux.shows("by cumulative time, since start");
    let position = |name: &str| screen.lines().position(|line| line.contains(name)).unwrap();
    assert!(
        position(" alternate ") < position(" fibonacci "),
        "{screen}"
    );

    tmux.type_in("/LOOP");
    tmux.until("only `loop`", |screen| {
        screen.contains("filter: LOOP")
            && screen.contains(" loop ")
            && !screen.contains("fibonacci")
    });
    tmux.press(&["Enter"]);
    tmux.shows("q quit");
    tmux.press(&["Escape"]);
    tmux.shows(" fibonacci ");

    tmux.press(&["Home", "Enter"]);
    tmux.shows("callees of ");
    tmux.press(&["x"]);
    let screen = tmux.shows("callers of ");
    assert!(screen.contains("x: callees"), "{screen}");
    tmux.shows("100.0%");
    tmux.press(&["Enter"]);
    tmux.until("no tree", |screen| !screen.contains("callers of"));

    tmux.press(&["t"]);
    tmux.shows("thread MainThread");
    tmux.press(&["t"]);
    tmux.shows("all 1 threads");

    tmux.press(&["p"]);
    let paused = samples(&tmux.shows("paused"));
    for (key, shown) in [("o", "by own"), ("c", "by cumulative"), ("o", "by own")] {
        tmux.press(&[key]);
        assert_eq!(samples(&tmux.shows(shown)), paused);
    }
    tmux.press(&["p"]);
    let later = tmux.until("more samples", |screen| {
        has_samples(screen) && samples(screen) > paused
    });
    tmux.press(&["r"]);
    tmux.until("fewer samples", |screen| {
        screen.contains(" samples in ") && samples(screen) < samples(&later)
    });

    tmux.until("samples again", has_samples);
    tmux.press(&["s"]);
    tmux.shows(&format!("save as: pystrobe-{pid}.pstats_"));
    tmux.press(&["Enter"]);
    tmux.shows("wrote ");
    let file = tmux.folder().join(format!("pystrobe-{pid}.pstats"));
    let stats = pstats::read(python, &file);
    stats.obeys_the_laws();
    assert!(stats.row("alternating.py", "fibonacci").ct > 0.0);

    // Nothing is replaced without being asked.
    let before = std::fs::read(&file).unwrap();
    tmux.press(&["s", "Enter"]);
    tmux.shows("replace it? y/n");
    tmux.press(&["n"]);
    tmux.shows("save as: ");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    tmux.press(&["Enter", "y"]);
    tmux.shows("wrote ");
    assert_ne!(std::fs::read(&file).unwrap(), before);

    tmux.press(&["?"]);
    tmux.shows("sort by own time");
    tmux.press(&["?"]);
    tmux.shows("function");
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), 0);
    let summary = tmux.screen();
    assert!(summary.contains(" samples in "), "{summary}");
    target.stop();
}

#[test]
fn a_thread_can_be_chosen_from_the_start() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "threads.py", &["3"]);
    let pid = target.pid().to_string();
    let words = ["top", "--thread", "waiter-001", "-r", "200", &pid];
    let Some(tmux) = Tmux::start((100, 30), &[], &words) else {
        return;
    };
    tmux.until("that thread only", |screen| {
        screen.contains("thread waiter-001")
            && screen.contains(" wait ")
            && !screen.contains(" work ")
    });
    tmux.press(&["T"]);
    tmux.until("another one", |screen| {
        !screen.contains("thread waiter-001")
    });
    tmux.press(&["C-c"]);
    assert_eq!(tmux.ended(), 0);
}

#[test]
fn any_size_will_do() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    let Some(tmux) = Tmux::start((10, 5), &[], &["top", &pid]) else {
        return;
    };
    // "1234 recor" is all there is room for.
    tmux.shows("q quit");
    for (size, text) in [
        ((80, 24), "file:line"),
        ((40, 10), "fibonacci"),
        ((10, 5), "% func"),
    ] {
        tmux.resize(size);
        tmux.shows(text);
        tmux.press(&["Enter"]);
        tmux.press(&["Tab", "x", "?"]);
        tmux.shows("any key");
        tmux.press(&["?", "Enter"]);
        tmux.shows("q quit");
    }
    tmux.resize((2, 1));
    tmux.press(&["Down", "Up"]);
    tmux.resize((80, 24));
    tmux.shows("fibonacci");
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), 0);
}

#[test]
fn signals_give_the_terminal_back() {
    let _turn = machine::shared();
    let mut target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    for (signal, status) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
        (Signal::SIGINT, 130),
    ] {
        let Some(tmux) = Tmux::start((80, 24), &[], &["top", &pid]) else {
            return;
        };
        tmux.until("samples", has_samples);
        send(tmux.pid(), signal);
        assert_eq!(tmux.ended(), status);
    }
    assert!(target.is_running());
}

/// By the key and by the signal, more than once; the view comes back as it was.
#[test]
fn it_can_be_stopped_and_brought_back() {
    let _turn = machine::shared();
    let mut target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    let Some(tmux) = Tmux::start((80, 24), &[], &["top", &pid]) else {
        return;
    };
    tmux.until("samples", has_samples);
    tmux.press(&["c"]);
    for by_key in [true, false, true] {
        tmux.shows("by cumulative time");
        match by_key {
            true => tmux.press(&["C-z"]),
            false => send(tmux.pid(), Signal::SIGTSTP),
        }
        tmux.stopped();
        let screen = tmux.until("the view", |screen| {
            has_samples(screen) && screen.contains("fibonacci")
        });
        assert!(tmux.is_alternate(), "{screen}");
        assert!(target.is_running());
    }
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), 0);
}

/// Starts pystrobe on a terminal that is not its session's, so that no signal tells of its end, and closes that after so many
/// bytes were drawn; prints the status of pystrobe.
const HANGING_UP: &str = "import fcntl, os, pty, struct, subprocess, sys, termios\n\
    ours, its = pty.openpty()\n\
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))\n\
    top = subprocess.Popen(sys.argv[2:], stdin=its, stdout=its, start_new_session=True)\n\
    os.close(its)\n\
    seen = b''\n\
    while len(seen) < int(sys.argv[1]):\n\
    \x20   new = os.read(ours, 100)\n\
    \x20   seen += new\n\
    \x20   if b'\\x1b[6n' in new: os.write(ours, b'\\x1b[1;1R')\n\
    os.close(ours)\n\
    print(top.wait())\n";

#[test]
fn a_terminal_that_hangs_up_at_once_is_the_end_too() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let target = Target::launch(python, "alternating.py", &[]);
    let pid = target.pid().to_string();
    for bytes in [0, 1, 10, 20, 100, 1000] {
        let mut command = python.command();
        command
            .args(["-c", HANGING_UP, &bytes.to_string(), PROGRAM, "top", &pid])
            .env("TERM", "xterm");
        let finished = Pystrobe::from(command).run().ok();
        assert_eq!(finished.text().trim(), "12", "{bytes}: {finished:?}");
        assert!(
            finished.stderr.contains("top draws on a terminal"),
            "{finished:?}"
        );
    }
}

#[test]
fn a_terminal_that_goes_away_is_the_end() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    let Some(tmux) = Tmux::start((80, 24), &[], &["top", &pid]) else {
        return;
    };
    tmux.until("samples", has_samples);
    let pystrobe = tmux.pid();
    tmux.hang_up();
    wait_for_end(pystrobe);
}

#[test]
fn the_view_stays_when_the_target_has_ended() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let target = Target::launch(python, "alternating.py", &[]);
    let pid = target.pid().to_string();
    let Some(tmux) = Tmux::start((80, 24), &[], &["top", &pid]) else {
        return;
    };
    tmux.until("samples", has_samples);
    target.stop();
    tmux.shows("ended: the process has ended");
    tmux.press(&["c", "n"]);
    tmux.shows("by cumulative time, since start");
    tmux.press(&["s"]);
    tmux.press(&["Enter"]);
    tmux.shows("wrote ");
    let file = tmux.folder().join(format!("pystrobe-{pid}.pstats"));
    pstats::read(python, &file).obeys_the_laws();
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), 0);
}

#[test]
fn the_time_can_be_limited() {
    let _turn = machine::shared();
    let mut target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    let Some(tmux) = Tmux::start((80, 24), &[], &["top", "-d", "1", "-q", &pid]) else {
        return;
    };
    tmux.shows("ended: the time is over");
    assert!(target.is_running());
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), 0);
    assert!(!tmux.screen().contains(" samples in "));
}

/// A script that says something, works until there is a file named `enough`, and ends with a status.
fn script(folder: &Path) -> String {
    let path = folder.join("script.py");
    let text = "import os, sys\n\
                print('on stdout', sys.argv[1:], sys.stdin.read(), flush=True)\n\
                print('on stderr', file=sys.stderr, flush=True)\n\
                def busy():\n    while not os.path.exists(sys.argv[1]):\n        sum(range(1000))\n\
                busy()\nsys.exit(3)\n";
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_program_is_started_and_does_not_disturb() {
    let _turn = machine::shared();
    let folder = tempfile::tempdir().unwrap();
    let script = script(folder.path());
    let enough = folder.path().join("enough");
    let python = interpreters::newest().path.to_str().unwrap();
    let words = |more: &[&'static str]| -> Vec<String> {
        let words = [&["top"], more, &["--python", python, &script]].concat();
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words.extend([enough.to_str().unwrap().to_owned(), String::from("-q")]);
        words
    };
    let kept = words(&["--program-output", "out.txt"]);
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    let Some(tmux) = Tmux::start((120, 30), &[], &kept) else {
        return;
    };
    tmux.until("samples", has_samples);
    let screen = tmux.shows(" busy ");
    assert!(!screen.contains("on std"), "{screen}");
    std::fs::write(&enough, "").unwrap();
    let screen = tmux.shows("ended: exit status: 3");
    assert!(!screen.contains("thrown away"), "{screen}");
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), 0);
    let output = std::fs::read_to_string(tmux.folder().join("out.txt")).unwrap();
    assert!(
        output.contains("on stdout") && output.contains("'-q']"),
        "{output}"
    );
    assert!(output.contains("on stderr"), "{output}");

    std::fs::remove_file(&enough).unwrap();
    let lost = words(&[]);
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    let Some(tmux) = Tmux::start((120, 30), &[], &lost) else {
        return;
    };
    tmux.until("samples", has_samples);
    std::fs::write(&enough, "").unwrap();
    tmux.shows("--program-output FILE keeps it");
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), 0);
}

#[test]
fn what_becomes_of_the_program_is_asked() {
    let _turn = machine::shared();
    let python = interpreters::newest().path.to_str().unwrap();
    let script = target_script("alternating.py");
    let words = ["top", "--python", python, script.to_str().unwrap()];
    for (answer, lives) in [("y", false), ("n", true)] {
        let Some(tmux) = Tmux::start((80, 24), &[], &words) else {
            return;
        };
        let screen = tmux.until("samples", has_samples);
        let program: u32 = screen.split_whitespace().next().unwrap().parse().unwrap();
        tmux.press(&["q"]);
        tmux.shows("end the program too?");
        tmux.press(&["Escape"]);
        tmux.shows("q quit");
        tmux.press(&["q", answer]);
        assert_eq!(tmux.ended(), 0);
        if lives {
            assert!(is_alive(program));
            send(program, Signal::SIGKILL);
        }
        wait_for_end(program);
    }
    // Who ends pystrobe by a signal cannot be asked.
    let Some(tmux) = Tmux::start((80, 24), &[], &words) else {
        return;
    };
    let screen = tmux.until("samples", has_samples);
    let program: u32 = screen.split_whitespace().next().unwrap().parse().unwrap();
    send(tmux.pid(), Signal::SIGTERM);
    assert_eq!(tmux.ended(), 143);
    wait_for_end(program);
}

#[test]
fn no_color_means_none() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    for (settings, colored) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let Some(tmux) = Tmux::start((80, 24), settings, &["top", &pid]) else {
            return;
        };
        tmux.shows("fibonacci");
        let screen = tmux.screen_with_colors();
        // 3x and 38 are colours of the text, 39 is the terminal's own.
        let has_color = (0..=8).any(|color| {
            screen.contains(&format!("[3{color}m")) || screen.contains(&format!("[3{color};"))
        });
        assert_eq!(has_color, colored, "{screen:?}");
        tmux.press(&["q"]);
        assert_eq!(tmux.ended(), 0);
    }
}

#[test]
fn without_a_terminal_it_says_so() {
    let _turn = machine::shared();
    let pid = std::process::id().to_string();
    pystrobe(["top", &pid])
        .run()
        .failed(12, &["terminal", "hint: ", "pystrobe attach"]);
    pystrobe(["top", "0"]).run().failed(2, &["process id"]);
}

#[test]
fn manual_and_completions_know_it() {
    let _turn = machine::shared();
    let page = pystrobe(["man", "top"]).run().ok().text();
    assert!(page.contains("program\\-output"), "{page}");
    let script = pystrobe(["completions", "bash"]).run().ok().text();
    assert!(script.contains("pystrobe__subcmd__top") || script.contains("pystrobe__top"));
    let help = pystrobe(["top", "--help"]).run().ok().text();
    assert!(help.contains("PID|SCRIPT"), "{help}");
}
