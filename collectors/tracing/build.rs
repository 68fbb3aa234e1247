//! Builds the agent, which is embedded into this crate: the library that a traced interpreter loads.
//!
//! It has no dependencies but `pystrobe-calls`, which has none, so the compiler is all that is needed: no second cargo, which would wait for the lock of the first, look
//! for a network, or write beside the sources. It is optimised whatever this crate is: its speed is somebody else's.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    for folder in ["calls/src", "agent/src"] {
        println!("cargo:rerun-if-changed={}", here.join(folder).display());
    }
    println!("cargo:rerun-if-changed=build.rs");

    let calls = out.join("libpystrobe_calls.rlib");
    compile(
        &here.join("calls/src/lib.rs"),
        "pystrobe_calls",
        "rlib",
        &calls,
        &[],
    );
    let calls = format!("pystrobe_calls={}", calls.display());
    // Tools that look at it from outside, as valgrind does, need names.
    println!("cargo:rerun-if-env-changed=PYSTROBE_AGENT_SYMBOLS");
    let symbols = match env::var_os("PYSTROBE_AGENT_SYMBOLS") {
        Some(_) => "-Cstrip=none",
        None => "-Cstrip=symbols",
    };
    let library = ["--extern", &calls, "-Clto=fat", symbols];
    compile(
        &here.join("agent/src/lib.rs"),
        "pystrobe_agent",
        "cdylib",
        &out.join("pystrobe_agent.so"),
        &library,
    );
}

fn compile(source: &Path, name: &str, kind: &str, to: &Path, more: &[&str]) {
    let mut command = Command::new(variable("RUSTC"));
    command
        .args([
            "--edition=2024",
            "--crate-name",
            name,
            "--crate-type",
            kind,
            "--target",
            &variable("TARGET"),
        ])
        // A panic must not run through the frames of an interpreter, and there is nothing to catch it: the agent has none that it knows of.
        .args([
            "-Copt-level=3",
            "-Ccodegen-units=1",
            "-Cpanic=abort",
            "-Cdebuginfo=0",
            "--cap-lints=allow",
        ])
        .args(more)
        .arg("-o")
        .arg(to)
        .arg(source);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        command.arg(format!("-Clinker={linker}"));
    }
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("the compiler ended with {status}: {command:?}")),
        Err(error) => fail(&format!(
            "the compiler cannot be started: {error}: {command:?}"
        )),
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo has not set {name}")))
}

fn fail(why: &str) -> ! {
    println!("cargo:warning=the agent could not be built: {why}");
    exit(1)
}
