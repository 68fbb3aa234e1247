//! Every call as often as cProfile says, row by row and edge by edge, of programs that nobody here wrote.

use std::path::Path;

use crate::support::calls::Counts;
use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::traced::Traced;
use crate::support::{machine, target_script, tests_folder};

on_each_version! {
    equals_cprofile = equals_cprofile;
    compiles_and_tests_like_cprofile = compiles_and_tests_like_cprofile;
}

/// The settings under which a program is counted twice: see `tests/support/beside_cprofile`.
fn settings(programs: &Path) -> [(&'static str, String); 2] {
    let beside = tests_folder().join("support/beside_cprofile");
    [
        (
            "PYTHONPATH",
            format!("{}:{}", beside.display(), programs.display()),
        ),
        ("PYTHONHASHSEED", "0".to_owned()),
    ]
}

/// Counts a program by cProfile and by pystrobe, and holds one to the other.
fn counts_as_cprofile(
    python: &'static Interpreter,
    programs: &Path,
    script: &Path,
    arguments: &[&str],
    prepare: &dyn Fn(),
) {
    let traced = Traced::by(python);
    let script_name = script.to_str().unwrap();
    let theirs = traced.folder.path().join("cprofile.prof");
    prepare();
    let output = python
        .command()
        .args(["-m", "cProfile", "-o"])
        .arg(&theirs)
        .arg(script)
        .args(arguments)
        .envs(settings(programs))
        .current_dir(traced.folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script_name}: {stderr}");
    prepare();
    let mut ours = traced.trace(&[]).arg(script).args(arguments);
    for (name, value) in settings(programs) {
        ours = ours.env(name, value);
    }
    let finished = ours.dir(traced.folder.path()).run().ok();
    assert_eq!(finished.stdout, output.stdout, "{finished:?}");

    let by_cprofile = Counts::by_cprofile(&theirs, script_name);
    assert!(by_cprofile.rows.len() > 10, "{by_cprofile:?}");
    let by_pystrobe = Counts::of_script(&traced.profile(), script_name);
    let (rows, edges) = (by_cprofile.rows.len(), by_cprofile.edges.len());
    let differences = by_pystrobe.differences(by_cprofile);
    assert!(
        differences.is_empty(),
        "{script_name} {arguments:?}, pystrobe first:\n{}",
        differences.join("\n")
    );
    println!("{script_name}: {rows} rows and {edges} edges alike");
}

/// Programs of pyperformance, small: recursion, generators, coroutines, comprehensions, exceptions, callbacks from C,
/// class bodies, `exec`.
const BENCHMARKS: [(&str, &[&str]); 14] = [
    (
        "chaos",
        &["--width", "16", "--height", "16", "--iterations", "300"],
    ),
    ("async_generators", &[]),
    ("comprehensions", &[]),
    ("coroutines", &[]),
    ("deepcopy", &[]),
    ("deltablue", &[]),
    ("generators", &[]),
    ("hexiom", &[]),
    ("logging", &[]),
    ("nqueens", &[]),
    ("raytrace", &["--width", "20", "--height", "20"]),
    ("regex_compile", &[]),
    ("richards_super", &[]),
    ("typing_runtime_protocols", &[]),
];

fn equals_cprofile(python: &'static Interpreter) {
    let _turn = machine::shared();
    let Some(programs) = interpreters::programs() else {
        return;
    };
    for (name, arguments) in BENCHMARKS {
        let folder = programs.join("pyperformance/data-files/benchmarks");
        let script = folder.join(format!("bm_{name}/run_benchmark.py"));
        counts_as_cprofile(python, programs, &script, arguments, &|| {});
    }
}

fn compiles_and_tests_like_cprofile(python: &'static Interpreter) {
    let _turn = machine::shared();
    let Some(programs) = interpreters::programs() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("json");
    let stdlib = python.output(&["-c", "import json; print(json.__path__[0])"]);
    let again = || {
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(stdlib.trim()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "py") {
                std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
            }
        }
    };
    let script = target_script("compile_all.py");
    counts_as_cprofile(python, programs, &script, &[copy.to_str().unwrap()], &again);

    let script = target_script("test_functions.py");
    let modules = [
        "mpmath.tests.test_basic_ops",
        "mpmath.tests.test_diff",
        "mpmath.tests.test_str",
    ];
    counts_as_cprofile(python, programs, &script, &modules, &|| {});
}
