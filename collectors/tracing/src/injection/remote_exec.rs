//! 3.14 and later: the interpreter's own hook for debuggers (PEP 768).
//!
//! `_Py_DebugOffsets.debugger_support` says where. A path is written into the state of a thread, and a bit is set on which
//! the thread leaves its evaluation loop the next time that it may (`_PyRunRemoteDebugger`, called at the end of
//! `_Py_HandlePending`, `Python/ceval_gil.c`). The interpreter opens the file and executes it in a namespace of its own. Nothing
//! is stopped. It is the main thread that is asked, as `sys.remote_exec` does: its state lives as long as its interpreter,
//! while that of another may be freed between two looks.

use std::io::IoSlice;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid;
use pystrobe_sampling::AttachError;
use pystrobe_sampling::discovery::{Interpreter, Roots};
use pystrobe_sampling::layout::Minor;
use pystrobe_sampling::memory::{Fields, ReadError, RemoteMemory};
use pystrobe_sampling::process_memory::ProcessMemory;

use super::InjectionError;

/// Where `debugger_support` is in `_Py_DebugOffsets` (`Include/internal/pycore_debug_offsets.h`).
const TABLES: [(Minor, u64); 2] = [(Minor(3, 14), 712), (Minor(3, 15), 840)];
/// Its size: six words.
const SUPPORT_SIZE: usize = 48;
/// Where `interpreter_state.threads_main` is, in both.
const THREADS_MAIN: u64 = 80;
/// `_PY_EVAL_PLEASE_STOP_BIT` (`Include/internal/pycore_ceval.h`).
const PLEASE_STOP: u8 = 1 << 5;
/// Interpreters that are looked at for the main one, which was made first and is the last of the list.
const MAX_INTERPRETERS: usize = 10_000;
/// No structure of CPython is larger.
const OFFSET_LIMIT: u64 = 1 << 20;

/// The hook of one thread.
#[derive(Debug)]
pub(super) struct Hook {
    pid: u32,
    memory: ProcessMemory,
    /// Addresses of `eval_breaker`, `debugger_pending_call` and `debugger_script_path`.
    eval_breaker: u64,
    pending_call: u64,
    script_path: u64,
    path_size: u64,
}

impl Hook {
    /// Finds the hook of the main thread.
    pub(super) fn find(interpreter: &Interpreter) -> Result<Self, InjectionError> {
        let pid = interpreter.pid;
        let hidden = |what| InjectionError::Hidden { pid, what };
        let memory = ProcessMemory::new(pid);
        let Roots::Runtime(runtime) = interpreter.roots else {
            return Err(hidden("its runtime"));
        };
        let unknown = || InjectionError::Unsupported {
            pid,
            version: interpreter.python.clone(),
        };
        let (_, table) = TABLES
            .into_iter()
            .find(|(version, _)| *version == interpreter.layout.version)
            .ok_or_else(unknown)?;
        let word = |address: u64| {
            let read = memory.read_u64(address);
            read.map_err(|error| unread(pid, &error))
        };
        let support = memory
            .read_vec(runtime.wrapping_add(table), SUPPORT_SIZE)
            .map_err(|error| unread(pid, &error))?;
        let mut offsets = [0; 6];
        for (index, offset) in (0_u64..).zip(&mut offsets) {
            *offset = support
                .u64_at(index * 8)
                .filter(|value| *value < OFFSET_LIMIT)
                .ok_or_else(|| hidden("its hook for debuggers"))?;
        }
        let [
            eval_breaker,
            support,
            enabled,
            pending_call,
            script_path,
            path_size,
        ] = offsets;

        let main = main_interpreter(interpreter, runtime, word)?;
        if word(main.wrapping_add(enabled))? & u64::from(u32::MAX) != 1 {
            return Err(InjectionError::RemoteDebuggingOff { pid });
        }
        let threads_main = word(runtime.wrapping_add(THREADS_MAIN))?.min(OFFSET_LIMIT);
        let thread = match word(main.wrapping_add(threads_main))? {
            0 if word(runtime.wrapping_add(interpreter.layout.runtime.finalizing))? != 0 => {
                return Err(AttachError::Ended { pid }.into());
            }
            // None runs when the program has come to its end, and in a program that embeds Python.
            0 => return Err(hidden("its main thread")),
            thread => thread,
        };
        let support = thread.wrapping_add(support);
        Ok(Self {
            pid,
            eval_breaker: thread.wrapping_add(eval_breaker),
            pending_call: support.wrapping_add(pending_call),
            script_path: support.wrapping_add(script_path),
            path_size,
            memory,
        })
    }

    /// Asks the thread to execute a script.
    pub(super) fn ask(&self, script: &str) -> Result<(), InjectionError> {
        if self.is_asked()? {
            return Err(InjectionError::Busy { pid: self.pid });
        }
        let mut path = Vec::from(script);
        path.push(0);
        if path.len() as u64 > self.path_size {
            let cause = String::from("its path is too long");
            return Err(InjectionError::NoPlace {
                pid: self.pid,
                cause,
            });
        }
        // In this order: the thread may look at any moment.
        self.write(self.script_path, &path)?;
        self.write(self.pending_call, &1_u32.to_le_bytes())?;
        // The flags are the lowest byte; above them is the version of the instrumentation, which is not ours to write back.
        // Another flag that comes between these two calls is lost, as it is with `sys.remote_exec`.
        let mut flags = [0];
        self.memory
            .read(self.eval_breaker, &mut flags)
            .map_err(|error| unread(self.pid, &error))?;
        self.write(self.eval_breaker, &[flags[0] | PLEASE_STOP])
    }

    /// Takes the question back. `false` where the thread has begun already to do what it was asked for.
    pub(super) fn withdraw(&self) -> Result<bool, InjectionError> {
        // The thread first clears the flag and then copies the path: if the flag is still set when the path is empty, then
        // no script will be opened.
        self.write(self.script_path, &[0])?;
        let was_asked = self.is_asked()?;
        self.write(self.pending_call, &0_u32.to_le_bytes())?;
        Ok(was_asked)
    }

    fn is_asked(&self) -> Result<bool, InjectionError> {
        let mut flag = [0; 4];
        self.memory
            .read(self.pending_call, &mut flag)
            .map_err(|error| unread(self.pid, &error))?;
        Ok(flag != [0; 4])
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), InjectionError> {
        write(self.pid, address, bytes)
    }
}

/// Copies `bytes` into a process.
pub(super) fn write(pid: u32, address: u64, bytes: &[u8]) -> Result<(), InjectionError> {
    let to = [RemoteIoVec {
        base: usize::try_from(address).unwrap_or(usize::MAX),
        len: bytes.len(),
    }];
    let target = Pid::from_raw(pid.cast_signed());
    match process_vm_writev(target, &[IoSlice::new(bytes)], &to) {
        Ok(count) if count == bytes.len() => Ok(()),
        Err(Errno::ESRCH) => Err(AttachError::Ended { pid }.into()),
        other => Err(InjectionError::System {
            pid,
            what: "writing memory",
            errno: other.err().unwrap_or(Errno::EFAULT) as i32,
        }),
    }
}

fn main_interpreter(
    interpreter: &Interpreter,
    runtime: u64,
    word: impl Fn(u64) -> Result<u64, InjectionError>,
) -> Result<u64, InjectionError> {
    let pid = interpreter.pid;
    let layout = &interpreter.layout;
    let mut found = word(runtime.wrapping_add(layout.runtime.interpreters_head))?;
    for _ in 0..MAX_INTERPRETERS {
        if found == 0 {
            return Err(AttachError::Starting { pid }.into());
        }
        if word(found.wrapping_add(layout.interpreter.id))? == 0 {
            return Ok(found);
        }
        found = word(found.wrapping_add(layout.interpreter.next))?;
    }
    Err(InjectionError::Hidden {
        pid,
        what: "its main interpreter",
    })
}

/// What a failed read of the target's memory says about it.
pub(super) fn unread(pid: u32, error: &ReadError) -> InjectionError {
    match error {
        ReadError::Gone => AttachError::Ended { pid }.into(),
        error => AttachError::Unreadable {
            pid,
            what: error.to_string(),
        }
        .into(),
    }
}
