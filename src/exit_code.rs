//! What pystrobe's exit statuses mean. Scripts may rely on them: a number keeps its meaning for good.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done; also when Ctrl-C ended a recording that was then saved, or when the reader of stdout went away |
//! | 1 | something unexpected: a bug in pystrobe, or a system call that should not fail |
//! | 2 | the command line cannot be understood |
//! | 3 | there is no such process |
//! | 4 | the process is not a Python that can be read, or not by the clock asked for, or not with --async |
//! | 5 | the process may not be read by this user |
//! | 6 | the process has ended, or is a zombie |
//! | 7 | the process could not be read any more; what was recorded until then is saved |
//! | 8 | nothing was sampled or counted, or nothing by the threads or the clock asked for; no file is written |
//! | 9 | an output could not be opened or written |
//! | 10 | the input of `convert` cannot be read, or does not hold what the output needs |
//! | 11 | the command of `--open-with` failed |
//! | 12 | `top`: stdout is not a terminal that can be drawn on, or it has hung up |
//! | 13 | `trace --pid`: the tracer did not get into the process, or not out again |
//! | 126, 127 | `run`, `trace`, `top`: the program could not be started, was not found |
//! | 128 + n | `run`, `trace`: the program was killed by signal n |
//!
//! `run` and `trace` end with the status of the program. Only where that is 0 and the profile could not be
//! saved do they end with one of the above.

/// Everything was done.
pub(crate) const SUCCESS: u8 = 0;
/// A bug in pystrobe, or a system call that should not fail.
pub(crate) const UNEXPECTED: u8 = 1;
/// The command line cannot be understood. clap ends with the same status.
pub(crate) const USAGE: u8 = 2;
/// There is no such process.
pub(crate) const NOT_FOUND: u8 = 3;
/// The process is not a Python, or not one that can be read by the clock asked for, or that tells its asyncio tasks.
pub(crate) const NOT_PYTHON: u8 = 4;
/// The process may not be read by this user.
pub(crate) const NOT_PERMITTED: u8 = 5;
/// The process has ended, or is a zombie.
pub(crate) const ENDED: u8 = 6;
/// The process could not be read any more.
pub(crate) const UNREADABLE: u8 = 7;
/// Nothing was sampled or counted, or nothing by the threads or the clock asked for.
pub(crate) const NOTHING_SAMPLED: u8 = 8;
/// An output could not be opened or written.
pub(crate) const OUTPUT: u8 = 9;
/// The input of `convert` cannot be read, or does not hold what the output needs.
pub(crate) const BAD_INPUT: u8 = 10;
/// The command of `--open-with` failed.
pub(crate) const OPEN_WITH: u8 = 11;
/// `top`: stdout is not a terminal that can be drawn on, or it has hung up.
pub(crate) const NO_TERMINAL: u8 = 12;
/// `trace --pid`: the tracer did not get into the process, or not out again.
pub(crate) const NOT_LET_IN: u8 = 13;
/// A program that was to be run was found and could not be started. As a shell has it.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// A program that was to be run was not found. As a shell has it.
pub(crate) const PROGRAM_NOT_FOUND: u8 = 127;
/// `run`, `trace`: added to the number of the signal that killed the program. As a shell has it.
pub(crate) const KILLED: u8 = 128;

/// Every status with its meaning, as `--help` and the man page list them.
const TABLE: [(&str, &str); 16] = [
    (
        "0",
        "done; also when Ctrl-C ended a recording that was then saved",
    ),
    ("1", "something unexpected"),
    ("2", "the command line cannot be understood"),
    ("3", "there is no such process"),
    (
        "4",
        "the process is not a Python that can be read, or not by that clock, or not --async",
    ),
    ("5", "the process may not be read by this user"),
    ("6", "the process has ended"),
    (
        "7",
        "the process could not be read any more; what was recorded is saved",
    ),
    (
        "8",
        "nothing was sampled or counted, or nothing by that clock; no file is written",
    ),
    ("9", "an output could not be opened or written"),
    (
        "10",
        "the input of `convert` cannot be read, or lacks what the output needs",
    ),
    ("11", "the command of --open-with failed"),
    (
        "12",
        "top: there is no terminal to draw on, or it has hung up",
    ),
    (
        "13",
        "trace --pid: the tracer did not get into the process, or not out again",
    ),
    (
        "126, 127",
        "run: the program could not be started, was not found",
    ),
    ("128 + n", "run, trace: the program was killed by signal n"),
];

/// The section on exit statuses of the long help.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit status:\n");
    for (status, meaning) in TABLE {
        text.push_str(&format!("  {status:<9} {meaning}\n"));
    }
    text.push_str(
        "`run` and `trace` end with the status of the program; only where that is 0 and the\n\
         profile could not be saved, with one of the above.",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_constant() {
        let listed: Vec<u8> = TABLE
            .iter()
            .flat_map(|(status, _)| status.split(", "))
            .filter_map(|status| status.split(' ').next()?.parse().ok())
            .collect();
        for constant in [
            SUCCESS,
            UNEXPECTED,
            USAGE,
            NOT_FOUND,
            NOT_PYTHON,
            NOT_PERMITTED,
            ENDED,
            UNREADABLE,
            NOTHING_SAMPLED,
            OUTPUT,
            BAD_INPUT,
            OPEN_WITH,
            NO_TERMINAL,
            NOT_LET_IN,
            NOT_EXECUTABLE,
            PROGRAM_NOT_FOUND,
            KILLED,
        ] {
            assert_eq!(
                listed.iter().filter(|&&one| one == constant).count(),
                1,
                "{constant} in {listed:?}"
            );
        }
    }
}
