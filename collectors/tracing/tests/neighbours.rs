//! A program that is traced does not notice, and its own profilers work.

use std::fs;

use pystrobe_calls::{FormatError, Options, Pattern};
use pystrobe_sampling::layout::Minor;

use crate::support::interpreters::{self, target_file};
use crate::support::{count, main_totals, trace, trace_command};

#[test]
fn nothing_is_left_to_see() {
    for python in interpreters::all() {
        let arguments = [&target_file("unseen.py"), "a", "b c"];
        let traced = trace(python, &Options::default(), &arguments);
        // Debian's Python has a `sitecustomize` of its own.
        let plain = python.command().args(arguments).output().unwrap();
        let plain = String::from_utf8(plain.stdout).unwrap();
        assert_eq!(traced.stdout, plain, "in {python}: {}", traced.stderr);
        assert_eq!(traced.stderr, "");
    }
}

#[test]
fn the_users_own_sitecustomize_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("sitecustomize.py"),
        "print('mine', __name__, __file__)\n",
    )
    .unwrap();
    for python in interpreters::all() {
        let launch = pystrobe_tracing::Launch::new(&Options::default()).unwrap();
        let output = python.command()
            .args(["-B", "-c", "import sys, os; print(os.environ['PYTHONPATH'], sys.modules['sitecustomize'].__file__)"])
            .envs(launch.environment(Some(folder.path().as_os_str())).unwrap())
            .output()
            .unwrap();
        let own = folder.path().display();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("mine sitecustomize {own}/sitecustomize.py\n{own} {own}/sitecustomize.py\n"),
            "{output:?}"
        );
    }
}

#[test]
fn what_is_not_loaded_has_not_begun() {
    for python in interpreters::all() {
        for flag in ["-I", "-E", "-S"] {
            let traced = trace(python, &Options::default(), &[flag, "-c", "print('ran')"]);
            assert_eq!(traced.stdout, "ran\n");
            assert!(
                matches!(traced.first, Err(FormatError::NotStarted)),
                "{flag}: {:?}",
                traced.first
            );
        }
    }
}

#[test]
fn only_what_is_asked_for() {
    let options = Options {
        only: vec![
            Pattern::parse("__main__:leaf").unwrap(),
            Pattern::parse("__main__:spin").unwrap(),
        ],
        ..Options::default()
    };
    for python in interpreters::all() {
        let traced = trace(python, &options, &[&target_file("endings.py"), "kill"]);
        let totals = main_totals(traced.calls());
        assert_eq!(count(&totals, "leaf"), 1000);
        assert_eq!(count(&totals, "spin"), 1);
        assert_eq!(
            totals.keys().copied().collect::<Vec<_>>(),
            ["<built-in method time.perf_counter>", "leaf", "spin"],
            "in {python}"
        );
    }
}

/// Each prints what it was told by its own profiler.
const PROFILERS: [(&str, u8, &str, &str); 4] = [
    (
        "sys.setprofile",
        8,
        "import sys, threading
seen = []
def f(): pass
def tell(frame, event, argument):
    if event == 'call' and frame.f_code.co_name == 'f': seen.append(event)
sys.setprofile(tell)
print(sys.getprofile() is tell)
for i in range(5): f()
sys.setprofile(None)
print(sys.getprofile())
threading.setprofile(tell)
def run():
    for i in range(3): f()
thread = threading.Thread(target=run)
thread.start()
thread.join()
threading.setprofile(None)
for i in range(4): f()
print(len(seen))",
        "True\nNone\n8\n",
    ),
    (
        "cProfile",
        8,
        "import cProfile
def f(): pass
profile = cProfile.Profile()
profile.enable()
for i in range(8): f()
profile.disable()
profile.create_stats()
for i in range(4): f()
print([row[:2] for key, row in profile.stats.items() if key[2] == 'f'])",
        "[(8, 8)]\n",
    ),
    (
        "sys.settrace",
        8,
        "import sys
seen = []
def f(): pass
def tell(frame, event, argument): seen.append(frame.f_code.co_name)
sys.settrace(tell)
for i in range(8): f()
sys.settrace(None)
for i in range(4): f()
print(seen)",
        "['f', 'f', 'f', 'f', 'f', 'f', 'f', 'f']\n",
    ),
    (
        "sys.monitoring",
        12,
        "import sys
m = sys.monitoring
seen = []
def f(): pass
m.use_tool_id(m.PROFILER_ID, 'mine')
m.register_callback(m.PROFILER_ID, m.events.PY_START, lambda code, offset: seen.append(code.co_name))
m.set_events(m.PROFILER_ID, m.events.PY_START)
for i in range(8): f()
m.set_events(m.PROFILER_ID, 0)
m.free_tool_id(m.PROFILER_ID)
for i in range(4): f()
print(seen)",
        "['f', 'f', 'f', 'f', 'f', 'f', 'f', 'f']\n",
    ),
];

#[test]
fn the_programs_own_profiler_works_and_so_does_ours() {
    for python in interpreters::all() {
        for (name, since, program, expected) in PROFILERS {
            if python.version < Minor(3, since) {
                continue;
            }
            let traced = trace_command(python.command().args(["-c", program]), &Options::default());
            assert_eq!(
                traced.stdout, expected,
                "{name} in {python}: {}",
                traced.stderr
            );
            let calls = traced.calls();
            let all: u64 = calls
                .threads
                .iter()
                .map(|thread| count(&crate::support::totals(calls, thread.root), "f"))
                .sum();
            assert_eq!(all, 12, "{name} in {python}");
        }
    }
}
