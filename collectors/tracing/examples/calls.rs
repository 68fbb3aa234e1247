//! Runs a program and prints its calls as JSON: `calls [--no-builtins] [--subprocesses] [--only PATTERN]... PYTHON ARGUMENT...`
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use pystrobe_calls::{Calls, Options, Pattern, read_until, unix_ns};
use pystrobe_tracing::Launch;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1).peekable();
    while let Some(word) = words.next_if(|word| word.starts_with("--")) {
        match word.as_str() {
            "--no-builtins" => options.builtins = false,
            "--subprocesses" => options.subprocesses = true,
            "--only" => options
                .only
                .push(Pattern::parse(&words.next().unwrap_or_default())?),
            "--nodes" => options.node_limit = words.next().unwrap_or_default().parse()?,
            other => return Err(format!("unknown: {other}").into()),
        }
    }
    let launch = Launch::new(&options)?;
    let mut command = Command::new(words.next().ok_or("no program")?);
    command
        .args(words)
        .envs(launch.environment(std::env::var_os("PYTHONPATH").as_deref())?);
    let status = command.status()?;
    let ended = unix_ns();
    let mut processes = vec![told(launch.first(), ended)];
    for path in launch.others()? {
        processes.push(told(&File::open(path)?, ended));
    }
    let result = json!({
        "code": status.code(),
        "signal": status.signal(),
        "refusal": launch.refusal(),
        "processes": processes,
    });
    serde_json::to_writer(io::stderr(), &result)?;
    Ok(())
}

fn told(file: &File, ended: u64) -> Value {
    match read_until(file, ended) {
        Ok(calls) => described(&calls),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn described(calls: &Calls) -> Value {
    json!({
        "pid": calls.about.pid,
        "python": calls.about.python,
        "elapsed_ns": calls.about.elapsed_ns,
        "cost": format!("{:?}", calls.about.cost),
        "folded": calls.about.folded,
        "ended": calls.about.ended,
        "functions": calls.functions.iter().map(|f| json!([f.file, f.first_line, f.name, f.qualified_name])).collect::<Vec<_>>(),
        "threads": calls.threads.iter().map(|t| json!({"name": t.name, "native_id": t.native_id, "ident": t.ident, "root": t.root})).collect::<Vec<_>>(),
        "nodes": calls.nodes.iter().map(|n| json!([n.parent, n.function, n.calls, n.own_ns, n.calls_out])).collect::<Vec<_>>(),
    })
}
