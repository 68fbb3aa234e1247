//! Folded stacks, one `frame;frame;frame weight` a line, as every tool that takes them reads them.

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stack {
    /// From the outermost to the innermost.
    pub(crate) frames: Vec<String>,
    /// In microseconds.
    pub(crate) weight: u64,
}

impl Stack {
    /// Whether a frame with this function name is on it.
    pub(crate) fn has(&self, function: &str) -> bool {
        self.frames.iter().any(|frame| names(frame, function))
    }
}

/// Whether a frame's label is that of a function with this name.
pub(crate) fn names(frame: &str, function: &str) -> bool {
    frame
        .strip_prefix(function)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(" (") || rest.starts_with(':'))
}

/// Parses a whole file, and holds it to the format.
pub(crate) fn parse(text: &str) -> Vec<Stack> {
    text.lines()
        .map(|line| {
            let (frames, weight) = line
                .rsplit_once(' ')
                .unwrap_or_else(|| panic!("no weight in `{line}`"));
            let frames: Vec<String> = frames.split(';').map(str::to_owned).collect();
            assert!(
                frames.iter().all(|frame| !frame.is_empty()),
                "an empty frame in `{line}`"
            );
            Stack {
                frames,
                weight: weight
                    .parse()
                    .unwrap_or_else(|error| panic!("the weight of `{line}`: {error}")),
            }
        })
        .collect()
}

/// The share of the weight of those stacks that `counts` counts.
pub(crate) fn share(stacks: &[Stack], counts: impl Fn(&Stack) -> bool) -> f64 {
    let total: u64 = stacks.iter().map(|stack| stack.weight).sum();
    let counted: u64 = stacks
        .iter()
        .filter(|stack| counts(stack))
        .map(|stack| stack.weight)
        .sum();
    counted as f64 / total as f64
}
