//! Names as they may be shown and written: on one line, without control characters.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use crate::{Process, Profile};

/// `text` with whatever would break a line, a terminal or an XML file written as Python writes it
/// in a string literal: `\n`, `\x1b`, `\u2028`. A backslash stays one, so that paths keep their look.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if needs_escape(c) => push_escaped(&mut escaped, c as u32),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Adds a code point as an escape of two or four digits, as Python's `backslashreplace` does.
pub fn push_escaped(text: &mut String, code: u32) {
    // Writing to a String cannot fail.
    let _ = if code < 0x100 {
        write!(text, "\\x{code:02x}")
    } else {
        write!(text, "\\u{code:04x}")
    };
}

/// Control characters, the two line separators of Unicode (`str.splitlines` and terminals break
/// lines there), and the two code points that XML 1.0 forbids.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

impl Profile {
    /// A name for each process that no other process of the profile has: its id, and which bearer of that id it
    /// is where the system has given it out again: `4242`, `4242-2`.
    #[must_use]
    pub fn process_names(&self) -> Vec<String> {
        let mut bearers: HashMap<u32, u32> = HashMap::new();
        let name = |process: &Process| {
            let bearer = bearers.entry(process.pid).or_default();
            *bearer += 1;
            match *bearer {
                1 => process.pid.to_string(),
                bearer => format!("{}-{bearer}", process.pid),
            }
        };
        self.processes.iter().map(name).collect()
    }

    /// A name for each thread that no other thread of the profile has: the one that Python gives it,
    /// with its id where several have that name, with its process where there are several, and
    /// with its interpreter where that is not the main one.
    #[must_use]
    pub fn thread_names(&self) -> Vec<String> {
        let id = |index: usize| {
            let thread = &self.threads[index];
            thread.native_id.unwrap_or(thread.ident).to_string()
        };
        let base: Vec<String> = (0..self.threads.len())
            .map(|index| match escape(&self.threads[index].name).trim() {
                "" => id(index),
                name => name.to_owned(),
            })
            .collect();
        let mut bearers: HashMap<&str, u32> = HashMap::new();
        for name in &base {
            *bearers.entry(name).or_default() += 1;
        }
        let processes = match self.seen_processes().len() {
            0 | 1 => None,
            _ => Some(self.process_names()),
        };

        let mut taken: HashSet<String> = HashSet::new();
        let mut copies: HashMap<String, u32> = HashMap::new();
        let mut names = Vec::with_capacity(base.len());
        for (index, name) in base.iter().enumerate() {
            let thread = &self.threads[index];
            let mut details = Vec::new();
            if bearers[name.as_str()] > 1 && *name != id(index) {
                details.push(id(index));
            }
            if let Some(processes) = &processes {
                details.push(format!("pid {}", processes[thread.process as usize]));
            }
            if thread.interpreter != 0 {
                details.push(format!("interpreter {}", thread.interpreter));
            }
            let full = if details.is_empty() {
                name.clone()
            } else {
                format!("{name} ({})", details.join(", "))
            };
            // A thread that has ended leaves its name and ids to the next one.
            let mut unique = full.clone();
            let copy = copies.entry(full.clone()).or_insert(1);
            while !taken.insert(unique.clone()) {
                *copy += 1;
                unique = format!("{full} #{copy}");
            }
            names.push(unique);
        }
        names
    }
}
