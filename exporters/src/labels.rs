//! Labels of frames for folded stacks and flame graphs, and the call tree grouped by them.
//!
//! A label must come through `flamegraph.pl`, inferno and speedscope as it is: they split lines at
//! `;`, take a number at the end for a weight (two of them for a difference), and trim.

use std::collections::HashMap;

use pystrobe_profile::{Frame, Function, GroupedTree, Profile, escape};

use crate::Style;

/// For time that a thread was seen without any Python frame.
pub(crate) const NO_FRAME: &str = "(no Python frame)";

/// A name that is nothing but white space.
const NO_NAME: &str = "(unnamed)";

/// The call tree by labels.
pub(crate) struct Labelled {
    /// Its keys are positions in `labels`.
    pub(crate) tree: GroupedTree,
    /// Sorted, so that children in the order of their keys are in the order of their labels.
    pub(crate) labels: Vec<String>,
    /// Whether the first frame of each stack is a thread.
    pub(crate) threads: bool,
}

impl Labelled {
    /// Groups a profile's call tree by the labels that `style` asks for.
    pub(crate) fn new(profile: &Profile, style: &Style) -> Self {
        let names = profile.thread_names();
        let merged = |frame| match frame {
            Frame::Call { function, .. } if !style.lines => Frame::Call { function, line: 0 },
            frame => frame,
        };
        let mut texts: HashMap<Frame, String> = HashMap::new();
        for id in profile.tree().ids() {
            let frame = merged(profile.tree().node(id).frame);
            match frame {
                Frame::Thread(_) if !style.threads => continue,
                Frame::Thread(thread) => texts
                    .entry(frame)
                    .or_insert_with(|| safe(&format!("thread {}", names[thread.index()]))),
                Frame::Call { function, line } => texts
                    .entry(frame)
                    .or_insert_with(|| of_call(&profile.functions()[function.index()], line)),
            };
        }
        let mut labels: Vec<String> = texts.values().cloned().collect();
        labels.sort();
        labels.dedup();
        let keys: HashMap<Frame, u32> = texts
            .into_iter()
            .map(|(frame, text)| {
                let position = labels.partition_point(|label| *label < text);
                (frame, position as u32)
            })
            .collect();
        Self {
            tree: GroupedTree::new(profile.tree(), |frame| keys.get(&merged(frame)).copied()),
            labels,
            threads: style.threads,
        }
    }

    /// The label of a node.
    pub(crate) fn label(&self, node: usize) -> &str {
        &self.labels[self.tree.key(node) as usize]
    }

    /// Whether a node is the foot of stacks, so that its own time was seen without a frame.
    pub(crate) fn is_foot(&self, node: usize) -> bool {
        match self.tree.parent(node) {
            None => true,
            Some(parent) => self.threads && parent == 0,
        }
    }
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
