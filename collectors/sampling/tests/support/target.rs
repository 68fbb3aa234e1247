//! A Python process that has said what is true of it, and now waits.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use pystrobe_sampling::memory::{ReadError, Region, RemoteMemory};

use super::interpreters::{Interpreter, target_file};

/// A waiting process; ends with the value.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    /// The lines that it printed before `ready`.
    pub(crate) lines: Vec<String>,
    memory: File,
}

impl Target {
    /// Runs a file of `tests/targets` until it prints `ready`; it then waits for its stdin to close.
    pub(crate) fn start(python: &Interpreter, file: &str) -> Target {
        Target::run(python.command().arg(target_file(file)))
    }

    /// Runs any command that ends in such a file.
    pub(crate) fn run(command: &mut Command) -> Target {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            match line.unwrap() {
                line if line == "ready" => {
                    let memory = File::open(format!("/proc/{}/mem", child.id())).unwrap();
                    return Target {
                        child,
                        lines,
                        memory,
                    };
                }
                line => lines.push(line),
            }
        }
        panic!("{command:?} ended before it was ready: {:?}", child.wait());
    }

    /// The id of the process that was started.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its lines of the form `name=value`.
    pub(crate) fn facts(&self) -> HashMap<&str, &str> {
        self.lines
            .iter()
            .filter_map(|line| line.split_once('='))
            .collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended by itself, which is not what a test is about.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RemoteMemory for Target {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        let mut rest = into;
        for (index, region) in regions.iter().enumerate() {
            let (bytes, behind) = rest.split_at_mut(region.length);
            if self.memory.read_exact_at(bytes, region.address).is_err() {
                return Ok(index);
            }
            rest = behind;
        }
        Ok(regions.len())
    }
}
