//! A program that pystrobe starts: a script, a module, code, or any command behind `--`.

use std::ffi::OsString;

use clap::Args;

use crate::errors::Failure;

/// A program with its own arguments, one way or another.
#[derive(Args, Debug)]
pub(super) struct ProgramArgs {
    #[command(flatten)]
    words: Words,

    /// The interpreter [default: python3, else python, from PATH]
    #[arg(long, value_name = "PYTHON")]
    python: Option<OsString>,
}

/// One of the ways. A struct of its own, because clap takes all of a struct for the group.
#[derive(Args, Debug)]
#[group(id = "program", required = true, multiple = false)]
struct Words {
    /// The script and its arguments; behind `--` any command that is or becomes a Python
    #[arg(value_name = "SCRIPT", trailing_var_arg = true)]
    script: Vec<OsString>,

    /// Run a module, as `python -m` does; the rest is its arguments
    #[arg(short, value_name = "MODULE", num_args = 1.., allow_hyphen_values = true)]
    module: Vec<OsString>,

    /// Run this code, as `python -c` does; the rest is its arguments
    #[arg(short, value_name = "CODE", num_args = 1.., allow_hyphen_values = true)]
    code: Vec<OsString>,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgramSpec {
    /// Programs to try, in this order, until one is found.
    pub(crate) candidates: Vec<OsString>,
    /// Their arguments.
    pub(crate) arguments: Vec<OsString>,
}

impl ProgramArgs {
    /// The words of a script and its arguments, where they are not behind `--` and no interpreter is named.
    pub(super) fn plain_words(&self, typed: &[OsString]) -> Option<&[OsString]> {
        let script = &self.words.script;
        let plain = self.python.is_none() && !is_behind_escape(typed, script);
        (plain && !script.is_empty()).then_some(script)
    }

    /// What was typed, as a program to start. `typed` is the whole command line.
    ///
    /// # Errors
    ///
    /// Where `--python` is given for a command that names its own, and where `-mMODULE` hides where the program's own
    /// arguments begin.
    pub(super) fn into_spec(self, typed: &[OsString]) -> Result<ProgramSpec, Failure> {
        let Words {
            script,
            module,
            code,
        } = self.words;
        if !script.is_empty() {
            if is_behind_escape(typed, &script) {
                command(script, self.python.is_some())
            } else {
                Ok(interpreter(self.python, None, script))
            }
        } else if !module.is_empty() {
            unglued(typed, "-m", &module)?;
            Ok(interpreter(self.python, Some("-m"), module))
        } else {
            unglued(typed, "-c", &code)?;
            Ok(interpreter(self.python, Some("-c"), code))
        }
    }
}

/// Whether the program was typed behind `--`.
///
/// clap swallows the `--`, and does not let a second positional argument tell the two cases apart. But the
/// program and its arguments are the end of what was typed, so what stands before them can be seen.
fn is_behind_escape(typed: &[OsString], program: &[OsString]) -> bool {
    typed
        .len()
        .checked_sub(program.len() + 1)
        .and_then(|before| typed.get(before))
        .is_some_and(|word| word == "--")
}

/// Refuses `-mpytest -q`: clap ends an option at a value that is glued to it, and would take `-q` for ours.
fn unglued(typed: &[OsString], option: &str, values: &[OsString]) -> Result<(), Failure> {
    if typed.ends_with(values) || (values.len() == 1 && is_glued_at_the_end(typed, &values[0])) {
        return Ok(());
    }
    Err(Failure::usage(
        format!("the value of {option} is glued to it"),
        format!("put a space behind {option}"),
    ))
}

/// Glued, but with nothing behind it, it is harmless.
fn is_glued_at_the_end(typed: &[OsString], value: &OsString) -> bool {
    typed
        .last()
        .is_some_and(|last| last.as_encoded_bytes().ends_with(value.as_encoded_bytes()))
}

fn interpreter(python: Option<OsString>, option: Option<&str>, rest: Vec<OsString>) -> ProgramSpec {
    let candidates = match python {
        Some(python) => vec![python],
        None => vec![OsString::from("python3"), OsString::from("python")],
    };
    let arguments = option.map(OsString::from).into_iter().chain(rest).collect();
    ProgramSpec {
        candidates,
        arguments,
    }
}

fn command(mut words: Vec<OsString>, with_python: bool) -> Result<ProgramSpec, Failure> {
    if with_python {
        return Err(Failure::usage(
            "--python does not go with a command behind `--`",
            "leave out `--` to run a script by that Python",
        ));
    }
    let program = words.remove(0);
    Ok(ProgramSpec {
        candidates: vec![program],
        arguments: words,
    })
}
