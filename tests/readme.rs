//! What README.md shows is what happens.
//!
//! Every fenced block says in which language it is, and that says how it is checked:
//!
//! - `console`: a session in bash. Lines that begin with `$ ` are commands (a `\` at the end continues them), the lines
//!   below a command are what it prints, stdout and stderr together. All blocks run in this order in one scratch folder,
//!   which holds links to the folders of this repository; variables and background jobs last to the end of a block. A
//!   command has to succeed, unless it is shown with a line that begins with `error:`.
//! - `sh`: commands that need what a test machine may not have (Docker, a cluster, somebody at the terminal). Their syntax is checked, and that
//!   each `pystrobe` in them is followed by a subcommand that exists.
//! - `text`, `yaml`, `dockerfile`, `toml`: not commands.
//!
//! In a session
//!
//! - `pystrobe`, and `cargo run --release --` with or without `-q`, are the program that was built for the tests;
//!   `cargo build …` and `cargo install …` are left out, since that is what was built;
//! - `tests/run` is left out, since that is what runs this; it has to exist and to be executable;
//! - `1234` is the process id of a Python program that runs all the time, `-d 30` is `-d 1`;
//! - `sudo` is left out; the viewers (profiling-explorer, snakeviz, tuna, `xdg-open`) only look whether their file is there.
//!
//! In what is printed, paths are taken from the scratch folder on, each number stands for any number, white space for any
//! white space, and a line `...` for any lines. No output shown means that what is printed does not matter.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::interpreters;
use crate::support::process::Running;
use crate::support::pystrobe::{PROGRAM, pystrobe};
use crate::support::target::Target;
use crate::support::{machine, tests_folder};

/// A fenced block.
#[derive(Debug)]
struct Block {
    language: String,
    /// Of its first line, counted from 1.
    line: usize,
    lines: Vec<String>,
}

/// A command and what is shown below it.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    shown: Vec<String>,
}

fn readme() -> String {
    std::fs::read_to_string(tests_folder().join("../README.md")).unwrap()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                open = true;
                blocks.push(Block {
                    language: language.trim().to_owned(),
                    line: number + 1,
                    lines: Vec::new(),
                });
            }
            None if open => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            None => {}
        }
    }
    assert!(!open, "a block is not closed");
    blocks
}

fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut continues = false;
    for line in &block.lines {
        if continues {
            let step = steps.last_mut().unwrap();
            step.command.push('\n');
            step.command.push_str(line);
            continues = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ") {
            continues = command.ends_with('\\');
            steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            });
        } else {
            let step = steps
                .last_mut()
                .unwrap_or_else(|| panic!("line {}: output before any command", block.line));
            step.shown.push(line.to_owned());
        }
    }
    for step in &mut steps {
        while step.shown.last().is_some_and(|line| line.trim().is_empty()) {
            step.shown.pop();
        }
    }
    steps
}

/// A command as it can be run here, or nothing where it is left out.
fn runnable(command: &str, pid: u32) -> Option<String> {
    if command.starts_with("tests/run") {
        let run = tests_folder().join("run");
        let mode = std::fs::metadata(run).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "tests/run is not executable");
        return None;
    }
    if command.starts_with("cargo build")
        || command.starts_with("cargo install")
        || command.starts_with("git clone")
    {
        return None;
    }
    let mut command = command.replace("cargo run --release -q -- ", "pystrobe ");
    for (shown, run) in [
        ("cargo run --release -- ", "pystrobe "),
        ("sudo ", ""),
        ("-d 30", "-d 1"),
    ] {
        command = command.replace(shown, run);
    }
    let words = command.split(' ').map(|word| {
        if word == "1234" {
            pid.to_string()
        } else {
            word.to_owned()
        }
    });
    Some(words.collect::<Vec<_>>().join(" "))
}

/// A line with each number as 0 and each stretch of white space as one space.
fn normal(line: &str) -> String {
    let mut normal = String::new();
    let mut characters = line.trim().chars().peekable();
    while let Some(character) = characters.next() {
        if character.is_ascii_digit() {
            normal.push('0');
            while characters
                .next_if(|c| c.is_ascii_digit() || ".,".contains(*c))
                .is_some()
            {}
        } else if character.is_whitespace() {
            normal.push(' ');
            while characters.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            normal.push(character);
        }
    }
    normal
}

/// Whether what was printed is what is shown.
fn is_as_shown(shown: &[String], printed: &[String]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((line, rest)), _) if line.trim() == "..." => {
            (0..=printed.len()).any(|skipped| is_as_shown(rest, &printed[skipped..]))
        }
        (Some((line, shown)), Some((is, printed))) => {
            normal(line) == normal(is) && is_as_shown(shown, printed)
        }
        _ => false,
    }
}

/// What a program stands in for in the scratch folder's `bin`.
fn stand_in(bin: &Path, name: &str, script: &str) {
    let path = bin.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn sessions_go_as_shown() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let scratch = tempfile::tempdir().unwrap();
    let bin = scratch.path().join(".bin");
    std::fs::create_dir(&bin).unwrap();
    symlink(PROGRAM, bin.join("pystrobe")).unwrap();
    for name in ["python", "python3"] {
        symlink(&interpreters::newest().path, bin.join(name)).unwrap();
    }
    for viewer in ["profiling-explorer", "snakeviz", "tuna", "xdg-open"] {
        stand_in(
            &bin,
            viewer,
            "#!/bin/sh\nfor last; do :; done\ntest -s \"$last\"\n",
        );
    }
    for folder in ["tests", "benches", "examples"] {
        let folder_here = tests_folder().join("..").join(folder);
        if folder_here.exists() {
            symlink(
                folder_here.canonicalize().unwrap(),
                scratch.path().join(folder),
            )
            .unwrap();
        }
    }

    let mut count = 0;
    for block in blocks(&readme())
        .iter()
        .filter(|block| block.language == "console")
    {
        let steps: Vec<_> = steps(block)
            .into_iter()
            .filter_map(|step| Some((runnable(&step.command, target.pid())?, step)))
            .collect();
        count += steps.len();
        // The end of each command is marked by a line of its own, with the status.
        let mut session =
            String::from("trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null' EXIT\nexec 2>&1\n");
        for (command, _) in &steps {
            session.push_str(&format!("{command}\nprintf '\\n@@ %d\\n' $?\n"));
        }
        let output = Command::new("timeout")
            .args(["120", "bash", "-c", &session])
            .current_dir(scratch.path())
            .env(
                "PATH",
                format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let here = format!("{}/", scratch.path().display());
        let printed = String::from_utf8(output.stdout).unwrap().replace(&here, "");
        let mut printed = printed.split("\n@@ ");
        let mut now = printed.next().unwrap_or_default().to_owned();
        for (_, step) in &steps {
            let next = printed
                .next()
                .unwrap_or_else(|| panic!("line {}: {step:?} did not end: {now}", block.line));
            let (status, rest) = next.split_once('\n').unwrap();
            let fails = step.shown.iter().any(|line| line.starts_with("error:"));
            assert_eq!(
                status != "0",
                fails,
                "line {}: {step:?} ended with {status}: {now}",
                block.line
            );
            let lines: Vec<String> = now.trim_matches('\n').lines().map(str::to_owned).collect();
            assert!(
                step.shown.is_empty() || is_as_shown(&step.shown, &lines),
                "line {}: {step:?}\nprinted this:\n{now}",
                block.line
            );
            now = rest.to_owned();
        }
    }
    assert!(
        count >= 3,
        "README.md shows {count} commands that can be run"
    );
}

#[test]
fn every_block_is_of_a_kind_that_is_checked() {
    let _turn = machine::shared();
    let help = pystrobe(["--help"]).run().ok().text();
    for block in blocks(&readme()) {
        match block.language.as_str() {
            "console" => assert!(!steps(&block).is_empty(), "line {}: no command", block.line),
            "sh" => {
                let script = block.lines.join("\n");
                let mut bash = Command::new("bash");
                let mut running = Running::start(bash.args(["-n", "-c", &script]));
                assert!(
                    running.wait().unwrap().success(),
                    "line {}: {script}",
                    block.line
                );
                let words: Vec<&str> = script.split_whitespace().collect();
                for pair in words.windows(2).filter(|pair| pair[0] == "pystrobe") {
                    assert!(
                        help.contains(&format!("  {} ", pair[1])),
                        "line {}: {pair:?}",
                        block.line
                    );
                }
            }
            "text" | "yaml" | "dockerfile" | "toml" => {}
            other => panic!(
                "line {}: nobody checks a block of kind `{other}`",
                block.line
            ),
        }
    }
}

#[test]
fn the_rules_of_this_file_hold() {
    let text = "Text\n```console\n$ one \\\n  more\nout 12 s\n...\nend\n\n$ two\n```\n\n```text\n$ no\n```\n";
    let blocks = blocks(text);
    assert_eq!(blocks.len(), 2);
    assert_eq!((blocks[0].line, blocks[1].language.as_str()), (3, "text"));
    let steps = steps(&blocks[0]);
    assert_eq!(steps[0].command, "one \\\n  more");
    assert_eq!(
        steps[1],
        Step {
            command: "two".to_owned(),
            shown: Vec::new()
        }
    );
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    assert!(is_as_shown(
        &steps[0].shown,
        &lines("out  9.75   s\na\nb\nend")
    ));
    assert!(is_as_shown(&steps[0].shown, &lines("out 1 s\nend")));
    assert!(!is_as_shown(&steps[0].shown, &lines("out 1 s\nend\nmore")));
    assert!(!is_as_shown(&steps[0].shown, &lines("out s\nend")));
    assert_eq!(
        runnable("sudo pystrobe attach 1234 -d 30", 5).unwrap(),
        "pystrobe attach 5 -d 1"
    );
    assert_eq!(
        runnable("cargo run --release -- run x.py", 5).unwrap(),
        "pystrobe run x.py"
    );
    assert_eq!(runnable("cargo build --release", 5), None);
}
