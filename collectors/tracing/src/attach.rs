//! What a process that runs is told, in Python, so that the agent begins and ends.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
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

/// Python that ends the recording that [`attach_source`] with the same agent's file began, and takes all out again.
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

/// A text as a Python literal, in ASCII. What is not UTF-8 becomes what Python's file system encoding makes of it.
fn literal(text: &OsStr) -> String {
    let mut literal = String::from("'");
    let mut push = |character: char| match character {
        ' '..='~' if character != '\'' && character != '\\' => literal.push(character),
        _ => literal.push_str(&format!("\\U{:08x}", u32::from(character))),
    };
    let mut stray = Vec::new();
    for chunk in text.as_bytes().utf8_chunks() {
        chunk.valid().chars().for_each(&mut push);
        stray.extend_from_slice(chunk.invalid());
        if !chunk.invalid().is_empty() {
            // No lone surrogate is a `char`; a marker stands for it until the end.
            push('\u{fffd}');
        }
    }
    literal.push('\'');
    literal
}
