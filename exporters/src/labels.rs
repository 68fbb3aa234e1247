//! Labels of frames for folded stacks and flame graphs, and the call tree grouped by them.
//!
//! A label must come through `flamegraph.pl`, inferno and speedscope as it is: they split lines at
//! `;`, take a number at the end for a weight (two of them for a difference), and trim.

use std::collections::HashMap;

use pystrobe_profile::{Frame, Function, GroupedTree, Profile, escape};

use crate::Style;

/// For time that a thread was seen without any Python frame.
pub(crate) const NO_FRAME: &str = "(no Python frame)";

/// The longest command in the label of a process, in characters.
const MAX_COMMAND: usize = 60;

/// A name that is nothing but white space.
const NO_NAME: &str = "(unnamed)";

/// The call tree by labels.
pub(crate) struct Labelled {
    /// Its keys are positions in `labels`.
    pub(crate) tree: GroupedTree,
    /// Sorted, so that children in the order of their keys are in the order of their labels.
    pub(crate) labels: Vec<String>,
    /// How many frames of each stack stand for its process and its thread.
    feet: usize,
}

/// What a label is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    /// By its position.
    Process(u32),
    Frame(Frame),
}

impl Labelled {
    /// Groups a profile's call tree by the labels that `style` asks for.
    pub(crate) fn new(profile: &Profile, style: &Style) -> Self {
        let threads = profile.thread_names();
        let processes = profile.process_names();
        let several_processes = profile.seen_processes().len() > 1;
        // A thread's frame becomes those of its process and of itself, where they are asked for.
        let subjects = |frame| {
            let (process, itself) = match frame {
                Frame::Thread(thread) => {
                    let process = profile.threads()[thread.index()].process;
                    (
                        several_processes.then_some(Subject::Process(process)),
                        style.threads.then_some(frame),
                    )
                }
                Frame::Call { function, .. } if !style.lines => {
                    (None, Some(Frame::Call { function, line: 0 }))
                }
                frame => (None, Some(frame)),
            };
            process.into_iter().chain(itself.map(Subject::Frame))
        };
        let mut texts: HashMap<Subject, String> = HashMap::new();
        for id in profile.tree().ids() {
            for subject in subjects(profile.tree().node(id).frame) {
                texts.entry(subject).or_insert_with(|| match subject {
                    Subject::Process(process) => {
                        let process = process as usize;
                        of_process(&processes[process], &profile.processes()[process].command)
                    }
                    Subject::Frame(Frame::Thread(thread)) => {
                        safe(&format!("thread {}", threads[thread.index()]))
                    }
                    Subject::Frame(Frame::Call { function, line }) => {
                        of_call(&profile.functions()[function.index()], line)
                    }
                });
            }
        }
        let mut labels: Vec<String> = texts.values().cloned().collect();
        labels.sort();
        labels.dedup();
        let keys: HashMap<Subject, u32> = texts
            .into_iter()
            .map(|(subject, text)| {
                let position = labels.partition_point(|label| *label < text);
                (subject, position as u32)
            })
            .collect();
        let key = |subject| keys.get(&subject).copied();
        Self {
            tree: GroupedTree::new(profile.tree(), |frame| subjects(frame).filter_map(key)),
            labels,
            feet: usize::from(several_processes) + usize::from(style.threads),
        }
    }

    /// The label of a node.
    pub(crate) fn label(&self, node: usize) -> &str {
        &self.labels[self.tree.key(node) as usize]
    }

    /// Whether a node is the foot of stacks, so that its own time was seen without a frame.
    pub(crate) fn is_foot(&self, node: usize) -> bool {
        let mut at = node;
        for _ in 0..self.feet {
            at = self.tree.parent(at).unwrap_or(0);
        }
        at == 0
    }
}

/// `process PID (command)`, of which the start is enough to know it by.
fn of_process(name: &str, command: &str) -> String {
    let command = escape(command.trim());
    let start: String = command.chars().take(MAX_COMMAND).collect();
    safe(&match (start.as_str(), start.len() < command.len()) {
        ("", _) => format!("process {name}"),
        (start, false) => format!("process {name} ({start})"),
        (start, true) => format!("process {name} ({start}…)"),
    })
}

/// `qualname (file:line)`, and only the name for what has no source. Line 0 asks for the first line of
/// the function.
fn of_call(function: &Function, line: u32) -> String {
    let name = if function.qualified_name.is_empty() {
        &function.name
    } else {
        &function.qualified_name
    };
    let name = match name.trim() {
        "" => NO_NAME,
        name => name,
    };
    let line = if line == 0 { function.first_line } else { line };
    safe(&match (function.file.as_str(), line) {
        ("" | "~", _) => name.to_owned(),
        (file, 0) => format!("{name} ({file})"),
        (file, line) => format!("{name} ({file}:{line})"),
    })
}

/// A label that cannot break the line it is on. What would is escaped as Python would; the space
/// before a number at the end becomes an underscore.
fn safe(label: &str) -> String {
    let mut label = escape(label.trim()).replace(';', "\\x3b");
    // inferno takes a line that starts so for a comment.
    if label.starts_with('#') {
        label.replace_range(..1, "\\x23");
    }
    if let Some((before, last)) = label.rsplit_once(char::is_whitespace)
        && last.starts_with(|c: char| c.is_ascii_digit())
        && last.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        label = format!("{}_{last}", before.trim_end());
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_break_a_line() {
        for (label, expected) in [
            ("f (a.py:1)", "f (a.py:1)"),
            ("a;b", "a\\x3bb"),
            ("f 123", "f_123"),
            ("f 1 2", "f 1_2"),
            ("f \t1.5", "f \\t1.5"),
            ("f 1.5", "f_1.5"),
            ("f  1.5", "f_1.5"),
            ("123", "123"),
            ("# f", "\\x23 f"),
            ("  f\n ", "f"),
            ("a\nb\x1b", "a\\nb\\x1b"),
            ("f\u{3000}7", "f_7"),
        ] {
            assert_eq!(safe(label), expected, "{label:?}");
        }
    }

    #[test]
    fn parts_that_are_missing() {
        let function = |file: &str, first_line, name: &str, qualified: &str| Function {
            file: file.into(),
            first_line,
            name: name.into(),
            qualified_name: qualified.into(),
        };
        assert_eq!(of_call(&function("a.py", 3, "f", "C.f"), 0), "C.f (a.py:3)");
        assert_eq!(of_call(&function("a.py", 3, "f", ""), 7), "f (a.py:7)");
        assert_eq!(
            of_call(&function("a.py", 0, " ", ""), 0),
            "(unnamed) (a.py)"
        );
        let builtin = "<built-in method len>";
        assert_eq!(of_call(&function("~", 0, builtin, ""), 0), builtin);
        assert_eq!(of_call(&function("", 0, "", ""), 0), "(unnamed)");
    }
}
