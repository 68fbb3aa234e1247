//! What the stacks of one process are read by, whatever its version is.

use std::time::Duration;

use py_spy::config::LineNo;
use pystrobe_profile::{Batch, Counters, Process};

use crate::attach_error::AttachError;
use crate::discovery::Interpreter;
use crate::legacy::LegacySampler;
use crate::memory::ReadError;
use crate::names_schedule::NamesSchedule;
use crate::process::{self, ExecWatch};
use crate::process_memory::ProcessMemory;
use crate::processor_time::Accounts;
use crate::sampler::Sampler;
use crate::stacks::Stacks;

/// Where samples come from.
pub(crate) enum Source {
    Remote {
        sampler: Box<Sampler<ProcessMemory>>,
        exec: ExecWatch,
        names: NamesSchedule,
    },
    Legacy(Box<LegacySampler>),
}

impl Source {
    pub(crate) fn of(interpreter: &Interpreter, gc: bool) -> Result<Self, AttachError> {
        let pid = interpreter.pid;
        if interpreter.legacy {
            return Ok(Self::Legacy(Box::new(LegacySampler::new(
                pid,
                LineNo::First,
            )?)));
        }
        let exec = ExecWatch::new(pid).map_err(|_| AttachError::Ended { pid })?;
        let sampler = Box::new(Sampler::new(
            pid,
            stacks(interpreter, gc),
            Accounts::of(pid),
        ));
        Ok(Self::Remote {
            sampler,
            exec,
            names: NamesSchedule::default(),
        })
    }

    /// Notices what the process has executed since an earlier moment: before its interpreter was looked for.
    pub(crate) fn watch_from(&mut self, earlier: ExecWatch) {
        if let Self::Remote { exec, .. } = self {
            *exec = earlier;
        }
    }

    pub(crate) fn sample(&mut self, weight: Duration) -> Result<(), ReadError> {
        match self {
            Self::Remote { sampler, .. } => sampler.sample(weight),
            Self::Legacy(sampler) => sampler.sample(weight),
        }
    }

    pub(crate) fn counters(&mut self) -> &mut Counters {
        match self {
            Self::Remote { sampler, .. } => sampler.counters(),
            Self::Legacy(sampler) => sampler.counters(),
        }
    }

    pub(crate) fn take_batch(&mut self, elapsed: Duration) -> Batch {
        match self {
            Self::Remote { sampler, .. } => sampler.take_batch(elapsed),
            Self::Legacy(sampler) => sampler.take_batch(elapsed),
        }
    }

    pub(crate) fn put_back(&mut self, batch: Batch) {
        match self {
            Self::Remote { sampler, .. } => sampler.put_back(batch),
            Self::Legacy(sampler) => sampler.put_back(batch),
        }
    }
}

/// What reads the stacks of an interpreter.
pub(crate) fn stacks(interpreter: &Interpreter, gc: bool) -> Stacks<ProcessMemory> {
    let memory = ProcessMemory::new(interpreter.pid);
    let mut stacks = Stacks::new(
        memory,
        interpreter.layout,
        interpreter.roots,
        interpreter.code_type,
    );
    stacks.gc = gc;
    stacks.none = interpreter.none;
    stacks
}

/// The process of an interpreter, as the profile describes it.
pub(crate) fn describe(interpreter: &Interpreter) -> Process {
    Process {
        pid: interpreter.pid,
        command: process::command_line(interpreter.pid),
        python: interpreter.python.clone(),
    }
}
