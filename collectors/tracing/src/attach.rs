//! What a process that runs is told, in Python, so that the agent begins and ends.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The agent: a library for any CPython of 3.8 to 3.15 with a GIL.
pub(crate) const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pystrobe_agent.so"));

/// Writes the agent to a new file.
///
/// # Errors
///
/// That there is one of that name, or that it cannot be written.
pub fn agent_file(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(path)?
        .write_all(AGENT)
}

/// Python that begins a recording into `recording` (made by [`pystrobe_calls::Options::write_to`]) with what runs. It leaves no name
/// behind. `frames` is how many frames there are of those who execute it: 1 if it is executed by C, as by `PyRun_SimpleString`.
#[must_use]
pub fn attach_source(agent: &Path, recording: &Path, frames: u32) -> String {
    // One more is that of the text that is executed here.
    call(
        agent,
        &format!("attach({}, {})", literal(recording.as_os_str()), frames + 1),
    )
}

/// Python that ends the recording that [`attach_source`] with the same agent's file began, and takes all out again. It is to be executed in the
/// same way as that was: what it calls itself is taken out of the recording by the number of `frames` that was given there.
#[must_use]
pub fn detach_source(agent: &Path) -> String {
    call(agent, "detach()")
}

/// An expression, so that no statement leaves a name; executed with globals of its own.
fn call(agent: &Path, what: &str) -> String {
    let source = format!(
        "import sys\n\
         imp = sys.modules['_imp']\n\
         agent = imp.create_dynamic(sys.modules['_frozen_importlib'].ModuleSpec('pystrobe_agent', None, origin={}))\n\
         imp.exec_dynamic(agent)\n\
         agent.{what}\n",
        literal(agent.as_os_str())
    );
    format!("exec({}, {{}})\n", literal(OsStr::new(&source)))
}

/// A text as a Python literal, in ASCII. What is not UTF-8 cannot be a path of ours, which are made of a temporary folder's name: it becomes a path that is not found.
fn literal(text: &OsStr) -> String {
    let mut literal = String::from("'");
    for character in text.to_string_lossy().chars() {
        match character {
            ' '..='~' if character != '\'' && character != '\\' => literal.push(character),
            _ => literal.push_str(&format!("\\U{:08x}", u32::from(character))),
        }
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_python() {
        let source = attach_source(Path::new("/tmp/it's/a.so"), Path::new("/tmp/ü\\b"), 1);
        assert!(source.is_ascii());
        assert!(
            source.starts_with("exec('import sys\\U0000000a"),
            "{source}"
        );
        assert_eq!(
            literal(OsStr::new("ü'\\")),
            "'\\U000000fc\\U00000027\\U0000005c'"
        );
    }
}
