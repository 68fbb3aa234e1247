//! What really happened: how long each stack was the stack of the thread.

use rustc_hash::FxHashMap;

/// A stack, by number: a function of the program above another stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Path(pub(super) usize);

/// No frame at all.
pub(super) const EMPTY: Path = Path(0);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Of each path the one below it, the function on top and the time, in picoseconds.
    paths: Vec<(Path, usize, u64)>,
    ids: FxHashMap<(Path, usize), Path>,
    top: Option<Path>,
    since: u64,
}

impl Truth {
    pub(super) fn new() -> Self {
        Self {
            paths: vec![(EMPTY, usize::MAX, 0)],
            ..Self::default()
        }
    }

    /// The path with `function` on top of `below`.
    pub(super) fn path(&mut self, below: Path, function: usize) -> Path {
        let next = Path(self.paths.len());
        *self.ids.entry((below, function)).or_insert_with(|| {
            self.paths.push((below, function, 0));
            next
        })
    }

    /// From `now` on the stack is `path`.
    pub(super) fn switch(&mut self, path: Path, now: u64) {
        self.count(now);
        self.top = Some(path);
    }

    /// The stack as it is now.
    pub(super) fn top(&self) -> Path {
        self.top.unwrap_or(EMPTY)
    }

    /// The functions of a path, outermost first.
    pub(super) fn functions(&self, path: Path) -> Vec<usize> {
        let mut functions = Vec::new();
        let mut at = path;
        while at != EMPTY {
            functions.push(self.paths[at.0].1);
            at = self.paths[at.0].0;
        }
        functions.reverse();
        functions
    }

    /// Counts the time up to `now`.
    pub(super) fn count(&mut self, now: u64) {
        if let Some(Path(top)) = self.top {
            self.paths[top].2 += now - self.since;
        }
        self.since = now;
    }

    /// Forgets all time before `now`.
    pub(super) fn restart(&mut self, now: u64) {
        self.count(now);
        for path in &mut self.paths {
            path.2 = 0;
        }
    }

    /// The stack with these functions, outermost first, if the program can have it.
    pub(super) fn find(&self, functions: &[usize]) -> Option<Path> {
        functions.iter().try_fold(EMPTY, |below, &function| {
            self.ids.get(&(below, function)).copied()
        })
    }

    /// The function on top of a path.
    pub(super) fn function(&self, path: Path) -> Option<usize> {
        self.paths.get(path.0).map(|path| path.1)
    }

    /// Every path with the share of the time that it had.
    pub(super) fn shares(&self) -> impl Iterator<Item = (Path, f64)> {
        let total: u64 = self.paths.iter().map(|path| path.2).sum();
        let share = move |time: u64| time as f64 / total.max(1) as f64;
        self.paths
            .iter()
            .enumerate()
            .skip(1)
            .map(move |(number, path)| (Path(number), share(path.2)))
    }
}
