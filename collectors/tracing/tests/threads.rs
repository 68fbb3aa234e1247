//! Each thread has a tree, a name, and what it called.

use pystrobe_calls::Options;

use crate::support::interpreters::{self, target_file};
use crate::support::{count, totals, trace};

#[test]
fn each_thread_has_its_own_calls() {
    for python in interpreters::all() {
        let traced = trace(python, &Options::default(), &[&target_file("threads.py")]);
        let calls = traced.calls();
        let mut seen = Vec::new();
        for thread in &calls.threads {
            let totals = totals(calls, thread.root);
            let leaves = count(&totals, "leaf");
            if thread.name == "MainThread" {
                assert_eq!((thread.native_id, leaves), (u64::from(calls.about.pid), 3));
            } else {
                let (_, said) = thread.name.rsplit_once('-').unwrap();
                assert_eq!(
                    leaves,
                    said.parse::<u64>().unwrap(),
                    "{thread:?} in {python}"
                );
                assert_eq!(count(&totals, "_bootstrap"), 1);
            }
            seen.push(thread.name.as_str());
        }
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                "MainThread",
                "inner-7",
                "outer-8",
                "worker-1000",
                "worker-2000",
                "worker-3000",
                "worker-4000"
            ]
        );
    }
}
