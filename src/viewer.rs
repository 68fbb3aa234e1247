//! `--open-with`: the command that the first output is opened with.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use signal_hook::consts::signal::SIGINT;

use crate::args::OpenWith;
use crate::errors::Failure;

/// A viewer that runs.
#[derive(Debug)]
pub(crate) struct Viewer {
    /// As typed, for messages.
    name: String,
    child: Child,
}

impl Viewer {
    /// Starts the command on the file. It has our terminal.
    ///
    /// # Errors
    ///
    /// Where it cannot be started.
    pub(crate) fn start(open_with: &OpenWith) -> Result<Viewer, Failure> {
        let name = shell_words::join(&open_with.words);
        let mut words = open_with.command();
        let mut command = Command::new(words.next().unwrap_or_default());
        match command.args(words).spawn() {
            Ok(child) => Ok(Viewer { name, child }),
            Err(source) => Err(Failure::OpenWith {
                command: name,
                source,
            }),
        }
    }

    /// Waits until it has ended. To go on without waiting would leave a server behind that no Ctrl-C reaches,
    /// and that writes over the shell's prompt.
    ///
    /// # Errors
    ///
    /// Where it fails. To be ended by Ctrl-C is how many viewers end, and no failure.
    pub(crate) fn wait(mut self) -> Result<(), Failure> {
        let status = self.child.wait().map_err(|source| Failure::OpenWith {
            command: self.name.clone(),
            source,
        })?;
        let interrupted = status.signal() == Some(SIGINT) || status.code() == Some(128 + SIGINT);
        if status.success() || interrupted {
            return Ok(());
        }
        Err(Failure::OpenedBadly {
            command: self.name,
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn view(words: &[&str]) -> Result<(), Failure> {
        let open_with = OpenWith {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            file: PathBuf::from("a file"),
        };
        Viewer::start(&open_with)?.wait()
    }

    #[test]
    fn the_file_is_the_last_argument() {
        view(&["sh", "-c", "test \"$2\" = 'a file'", "sh", "x"]).unwrap();
    }

    #[test]
    fn a_failure_is_told_and_an_interrupt_is_none() {
        assert!(view(&["sh", "-c", "exit 3"]).is_err());
        assert!(view(&["sh", "-c", "kill -TERM $$"]).is_err());
        view(&["sh", "-c", "kill -INT $$"]).unwrap();
        let missing = view(&["/nowhere/viewer"]).unwrap_err();
        assert_eq!(missing.exit_code(), crate::exit_code::OPEN_WITH);
    }
}
