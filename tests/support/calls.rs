//! Counts of calls, by pystrobe and by cProfile, and what is different between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pystrobe_exporters::read_pstats;
use pystrobe_profile::{
    Batch, Builder, Clocks, Frame, Node, NodeId, Observation, Profile, StatsTable,
};

/// File, first line, name.
pub(crate) type Key = (String, u32, String);

/// By which cProfile calls a script.
const EXEC: &str = "<built-in method builtins.exec>";

fn builtin(name: &str) -> Key {
    ("~".to_owned(), 0, name.to_owned())
}

/// How often something was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    /// Primitive calls.
    pub(crate) cc: u64,
    /// All calls.
    pub(crate) nc: u64,
}

/// Who was called, and by whom.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) rows: BTreeMap<Key, Count>,
    /// By caller and callee.
    pub(crate) edges: BTreeMap<(Key, Key), Count>,
}

/// The whole profile in one of our own pstats files.
pub(crate) fn profile(file: &Path) -> Profile {
    let file = read_pstats(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(file.trailer_problem, None);
    file.profile.unwrap()
}

impl Counts {
    fn of(table: &StatsTable) -> Counts {
        let mut counts = Counts::default();
        for row in table.rows() {
            let called = key(&row.key);
            counts
                .rows
                .entry(called.clone())
                .or_default()
                .add(row.cc, row.nc);
            for edge in &row.callers {
                let caller = key(&table.rows()[edge.row].key);
                let edges = counts.edges.entry((caller, called.clone())).or_default();
                edges.add(edge.cc, edge.nc);
            }
        }
        counts
    }

    /// What `pystrobe trace` has counted from a script's first line to its last: what Python calls before and after that is
    /// not the program's, and cProfile does not see it.
    pub(crate) fn of_script(profile: &Profile, script: &str) -> Counts {
        Counts::of(&StatsTable::of_functions(&below_script(profile, script)))
    }

    /// What `python -m cProfile` has counted, without what it calls itself: the script by `exec`, and `disable` at the end.
    pub(crate) fn by_cprofile(file: &Path, script: &str) -> Counts {
        let file = read_pstats(&std::fs::read(file).unwrap()).unwrap();
        let mut counts = Counts::of(&file.table);
        let disable = builtin("<method 'disable' of '_lsprof.Profiler' objects>");
        assert!(counts.rows.remove(&disable).is_some());
        let exec = builtin(EXEC);
        let of_exec = counts.rows.get_mut(&exec).unwrap();
        of_exec.nc -= 1;
        if of_exec.nc == 0 {
            counts.rows.remove(&exec);
        }
        let is_script = |key: &Key| key.0 == script && key.2 == "<module>";
        counts
            .edges
            .retain(|(caller, callee), _| !(*caller == exec && is_script(callee)));
        counts
    }

    /// What is not the same, a line each. Which calls of `exec` are primitive is not compared: that cProfile has called the
    /// whole program by it makes them recursive.
    pub(crate) fn differences(mut self, mut other: Counts) -> Vec<String> {
        let mut lines = Vec::new();
        for counts in [&mut self, &mut other] {
            if let Some(exec) = counts.rows.get_mut(&builtin(EXEC)) {
                exec.cc = exec.nc;
            }
        }
        let keys: BTreeSet<&Key> = self.rows.keys().chain(other.rows.keys()).collect();
        for key in keys {
            let (one, two) = (self.rows.get(key), other.rows.get(key));
            if one != two {
                lines.push(format!("{key:?}: {one:?}, {two:?}"));
            }
        }
        let keys: BTreeSet<&(Key, Key)> = self.edges.keys().chain(other.edges.keys()).collect();
        for key in keys {
            let (one, two) = (self.edges.get(key), other.edges.get(key));
            if one != two {
                lines.push(format!("{key:?}: {one:?}, {two:?}"));
            }
        }
        lines
    }
}

impl Count {
    fn add(&mut self, cc: u64, nc: u64) {
        self.cc += cc;
        self.nc += nc;
    }
}

/// A key, with the addresses in the names of some C functions taken out: they are others in every process.
fn key(key: &pystrobe_profile::FunctionKey) -> Key {
    let mut name = String::new();
    let mut rest = &*key.name;
    while let Some((before, address)) = rest.split_once(" at 0x") {
        name.push_str(before);
        name.push_str(" at 0x");
        rest = address.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
    }
    name.push_str(rest);
    (key.file.to_string(), key.line, name)
}

/// The profile with nothing but what a script's own code called.
fn below_script(profile: &Profile, script: &str) -> Profile {
    let tree = profile.tree();
    let mut batch = Batch {
        processes: profile.processes().to_vec(),
        functions: profile.functions().to_vec(),
        threads: profile.threads().to_vec(),
        ..Batch::default()
    };
    let is_script = |frame: Frame| match frame {
        Frame::Call { function, .. } => {
            let function = &profile.functions()[function.index()];
            function.file == script && function.name == "<module>"
        }
        Frame::Thread(_) => false,
    };
    let mut kept: Vec<Option<NodeId>> = Vec::new();
    let mut is_foot: Vec<bool> = Vec::new();
    for id in tree.ids() {
        let node = tree.node(id);
        let keep = match node.parent {
            None => true,
            Some(parent) if is_foot[parent.index()] => is_script(node.frame),
            Some(parent) => kept[parent.index()].is_some(),
        };
        is_foot.push(node.parent.is_none());
        kept.push(keep.then(|| {
            batch.nodes.push(Node {
                parent: node.parent.and_then(|parent| kept[parent.index()]),
                frame: node.frame,
            });
            let id_kept = NodeId::from_index(batch.nodes.len() - 1);
            let own = tree.own(id);
            if node.parent.is_some() {
                batch.observations.push(Observation {
                    node: id_kept,
                    nanoseconds: Clocks::of_wall(own.nanoseconds),
                    samples: Clocks::of_wall(own.samples),
                });
            }
            id_kept
        }));
    }
    let mut builder = Builder::new(Vec::new());
    builder.apply(&batch).unwrap();
    builder.finish(profile.recording().clone())
}
