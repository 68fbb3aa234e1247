//! However a program ends, what it called until then is there, and it ends as it would have.

use std::os::unix::process::ExitStatusExt;

use pystrobe_calls::{Calls, Options};

use crate::support::interpreters::{self, target_file};
use crate::support::{count, main_totals, trace};

fn leaves(calls: &Calls) -> u64 {
    count(&main_totals(calls), "leaf")
}

#[test]
fn whatever_ends_it() {
    for python in interpreters::all() {
        for (how, code, signal) in [
            ("kill", None, Some(9)),
            ("_exit", Some(5), None),
            ("exit", Some(7), None),
            ("raise", Some(1), None),
            ("", Some(0), None),
        ] {
            let traced = trace(
                python,
                &Options::default(),
                &[&target_file("endings.py"), how],
            );
            assert_eq!(
                (traced.status.code(), traced.status.signal()),
                (code, signal),
                "{how} in {python}"
            );
            let calls = traced.calls();
            assert_eq!(leaves(calls), 1000, "{how} in {python}");
            assert_eq!(
                calls.about.ended,
                !matches!(how, "kill" | "_exit"),
                "{how} in {python}"
            );
            if how == "kill" {
                let totals = main_totals(calls);
                let spun = totals["spin"].1 + totals["<built-in method time.perf_counter>"].1;
                assert!(
                    (200_000_000..=calls.about.elapsed_ns).contains(&spun),
                    "{totals:?}"
                );
            }
        }
    }
}

#[test]
fn a_child_does_not_write_into_its_parents_tree() {
    for python in interpreters::all() {
        for how in ["fork", "mp-fork"] {
            let traced = trace(
                python,
                &Options::default(),
                &[&target_file("endings.py"), how],
            );
            assert!(traced.status.success(), "{traced:?}");
            assert_eq!(
                leaves(traced.calls()),
                1000 + u64::from(how == "fork"),
                "{how} in {python}"
            );
            assert!(traced.others.is_empty());
        }
    }
}

#[test]
fn children_have_recordings_of_their_own() {
    let options = Options {
        subprocesses: true,
        ..Options::default()
    };
    for python in interpreters::all() {
        for how in ["fork", "mp-fork", "mp-spawn", "execute"] {
            let traced = trace(python, &options, &[&target_file("endings.py"), how]);
            assert!(traced.status.success(), "{traced:?}");
            assert_eq!(
                leaves(traced.calls()),
                1000 + u64::from(how == "fork"),
                "{how} in {python}"
            );
            let parents = traced.calls().about.pid;
            let of_children: Vec<u64> = traced
                .others
                .iter()
                .map(leaves)
                .filter(|&leaves| leaves > 0)
                .collect();
            assert_eq!(of_children, [50], "{how} in {python}");
            assert!(traced.others.iter().all(|calls| calls.about.pid != parents));
        }
    }
}
