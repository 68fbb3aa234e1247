//! The layouts: against CPython's headers, and against what every interpreter has in its memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pystrobe_sampling::layout::{
    DEBUG_OFFSETS_SIZE, FrameChain, FrameSize, GilPlace, Instruction, Layout, LineTableKind, Minor,
    builtin, from_debug_offsets,
};
use pystrobe_sampling::line_table::LineTable;
use pystrobe_sampling::memory::{Fields, ReadError, RemoteMemory};
use pystrobe_sampling::strings::{read_c_string, read_string};

use crate::support::interpreters::{self, Interpreter};
use crate::support::target::Target;

/// The layout of an interpreter: its row, or what it publishes.
pub(crate) fn layout_of(python: &Interpreter) -> Layout {
    if let Some(row) = builtin(python.version) {
        return *row;
    }
    let program = format!(
        "import ctypes; start = ctypes.c_char.in_dll(ctypes.pythonapi, '_PyRuntime'); \
         print(ctypes.string_at(ctypes.addressof(start), {DEBUG_OFFSETS_SIZE}).hex())"
    );
    let text = python.output(&["-c", &program]);
    let published: Vec<u8> = (0..DEBUG_OFFSETS_SIZE)
        .map(|index| u8::from_str_radix(&text[2 * index..][..2], 16).unwrap())
        .collect();
    from_debug_offsets(&published).unwrap_or_else(|error| panic!("{python}: {error}"))
}

/// The directories of headers on this machine: of its interpreters, and `PYSTROBE_HEADERS` (with colons between them).
fn headers() -> Vec<PathBuf> {
    let others = std::env::var("PYSTROBE_HEADERS").unwrap_or_default();
    let include = "import sysconfig; print(sysconfig.get_path('include'))";
    interpreters::all()
        .iter()
        .map(|python| PathBuf::from(python.output(&["-c", include]).trim()))
        .chain(others.split(':').map(PathBuf::from))
        .filter(|folder| folder.join("internal/pycore_pystate.h").exists())
        .collect()
}

/// The program beside the table, compiled against the headers in a folder.
struct Generated {
    program: tempfile::TempPath,
}

impl Generated {
    fn compile(headers: &Path, options: &[&str]) -> Generated {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/layout/generate/row.c");
        let program = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let output = Command::new("cc")
            .args(["-std=gnu11", "-DPy_BUILD_CORE"])
            .args(options)
            .args(
                [
                    headers,
                    &headers.join("internal"),
                    headers.parent().unwrap(),
                ]
                .map(include),
            )
            .arg("-o")
            .args([program.as_os_str(), source.as_ref()])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", headers.display());
        Generated { program }
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(&self.program)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    }

    /// The row, spelled as the `Debug` of `Layout` spells it.
    fn row(&self) -> String {
        let mut text = String::from_utf8(self.run(&[])).unwrap();
        for name in [
            "FrameChain",
            "FrameSize",
            "GilPlace",
            "Instruction",
            "LineTableKind",
        ] {
            text = text.replace(&format!("{name}::"), "");
        }
        text.trim_end().trim_end_matches(',').replace(", }", " }")
    }
}

fn include(folder: &Path) -> String {
    format!("-I{}", folder.display())
}

fn minor_of(headers: &Path) -> Minor {
    let name = headers.file_name().unwrap().to_str().unwrap();
    let minor = name.trim_start_matches("python3.").trim_end_matches('t');
    Minor(3, minor.parse().unwrap())
}

#[test]
fn rows_are_what_the_headers_say() {
    let mut compared = 0;
    for folder in headers() {
        if let Some(row) = builtin(minor_of(&folder)) {
            assert_eq!(format!("{row:?}"), Generated::compile(&folder, &[]).row());
            compared += 1;
        }
    }
    assert!(
        compared > 0,
        "no headers of Python 3.8 to 3.12; set PYSTROBE_HEADERS"
    );
}

#[test]
fn published_layouts_are_what_the_headers_say() {
    let mut compared = 0;
    for folder in headers() {
        let version = minor_of(&folder);
        if builtin(version).is_some() {
            continue;
        }
        let row = Generated::compile(&folder, &[]).row();
        for python in interpreters::all()
            .iter()
            .filter(|python| python.version == version)
        {
            let layout = layout_of(python);
            // Headers of a free-threaded build say nothing about the others.
            if row.contains(&format!("free_threaded: {}", layout.free_threaded)) {
                assert_eq!(format!("{layout:?}"), row, "{python}");
                compared += 1;
            }
        }
    }
    assert!(
        compared > 0,
        "no headers of Python 3.13 or later; set PYSTROBE_HEADERS"
    );
}

/// Free-threaded interpreters are rare, but the headers say what one would publish.
#[test]
fn what_is_derived_holds_in_free_threaded_builds() {
    let mut compared = 0;
    for folder in headers() {
        for option in ["-DPy_GIL_DISABLED=1", "-UPy_GIL_DISABLED"] {
            let generated = Generated::compile(&folder, &[option]);
            let published = generated.run(&["published"]);
            // Nothing before 3.13; and 3.13 has what is needed to print it in its C files only.
            if published.is_empty() {
                continue;
            }
            let layout = from_debug_offsets(&published).unwrap();
            assert_eq!(format!("{layout:?}"), generated.row());
            compared += 1;
        }
    }
    if compared == 0 {
        eprintln!("skipped: no headers of Python 3.14 or later; set PYSTROBE_HEADERS");
    }
}

#[test]
fn layouts_lead_to_what_python_says_of_itself() {
    for python in interpreters::all() {
        let layout = layout_of(python);
        eprintln!("{python}");
        let target = Target::start(python, "layout.py");
        let facts = target.facts();
        let walk = Walk {
            target: &target,
            layout: &layout,
            facts: &facts,
        };
        walk.check()
            .unwrap_or_else(|error| panic!("{python}: {error}"));
    }
}

/// Goes from `_PyRuntime` to the lines of the main thread, comparing everything on the way.
struct Walk<'a> {
    target: &'a Target,
    layout: &'a Layout,
    facts: &'a HashMap<&'a str, &'a str>,
}

/// A frame as it is in memory.
struct Frame {
    address: u64,
    owner: Option<u8>,
    code: u64,
    byte_offset: u32,
}

impl Walk<'_> {
    fn number(&self, fact: &str) -> u64 {
        self.facts[fact].parse().unwrap()
    }

    fn numbers(&self, fact: &str) -> Vec<u64> {
        self.facts[fact]
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect()
    }

    fn word(&self, address: u64) -> Result<u64, ReadError> {
        self.target.read_u64(address)
    }

    fn half(&self, address: u64) -> Result<u32, ReadError> {
        Ok(self.target.read_vec(address, 4)?.u32_at(0).unwrap())
    }

    fn check(&self) -> Result<(), ReadError> {
        let (runtime, fields) = (self.number("runtime"), &self.layout.interpreter);
        assert_eq!(self.word(runtime + self.layout.runtime.finalizing)?, 0);
        let interpreter = self.word(runtime + self.layout.runtime.interpreters_head)?;
        assert_eq!(self.word(interpreter + fields.next)?, 0);
        assert_eq!(self.word(interpreter + fields.id)?, 0);
        assert_eq!(
            self.word(interpreter + fields.modules)?,
            self.number("modules")
        );
        if let Some(collecting) = fields.gc_collecting {
            assert_eq!(self.half(interpreter + collecting)?, 1);
        }

        let mut threads = vec![self.word(interpreter + fields.threads_head)?];
        while let next @ 1.. = self.word(threads[threads.len() - 1] + self.layout.thread.next)? {
            threads.push(next);
        }
        assert_eq!(threads.len(), 2);
        self.check_gil(interpreter, &threads)?;
        let mut found = false;
        for thread in threads {
            let fields = &self.layout.thread;
            assert_eq!(self.word(thread + fields.interpreter)?, interpreter);
            if self.word(thread + fields.thread_id)? == self.number("main_thread") {
                if let Some(native) = fields.native_thread_id {
                    assert_eq!(self.word(thread + native)?, self.number("native_thread"));
                }
                self.check_stack(thread)?;
                found = true;
            }
        }
        assert!(found);
        self.check_code()
    }

    /// Both threads wait, so nobody holds it, and one of them was the last to.
    fn check_gil(&self, interpreter: u64, threads: &[u64]) -> Result<(), ReadError> {
        let gil = match self.layout.gil.place {
            GilPlace::Runtime(offset) => self.number("runtime") + offset,
            GilPlace::Interpreter(offset) => self.word(interpreter + offset)?,
        };
        assert!(threads.contains(&self.word(gil + self.layout.gil.last_holder)?));
        // Said before it lets go of the lock, so wait for that.
        while self.half(gil + self.layout.gil.locked)? != 0 {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn frame(&self, address: u64) -> Result<Frame, ReadError> {
        let fields = &self.layout.frame;
        let bytes = self
            .target
            .read_vec(address, usize::try_from(fields.size).unwrap())?;
        // The lowest bits are tags since 3.14.
        let code = bytes.u64_at(fields.code).unwrap() & !7;
        let byte_offset = match fields.instruction {
            Instruction::ByteIndex(offset) => bytes.u32_at(offset).unwrap(),
            Instruction::UnitIndex(offset) => 2 * bytes.u32_at(offset).unwrap(),
            Instruction::Pointer(offset) => {
                let start = code + self.layout.code.bytecode.unwrap();
                bytes.u64_at(offset).unwrap().wrapping_sub(start) as u32
            }
        };
        let owner = fields.owner.map(|offset| bytes.u8_at(offset).unwrap());
        Ok(Frame {
            address,
            owner,
            code,
            byte_offset,
        })
    }

    fn check_stack(&self, thread: u64) -> Result<(), ReadError> {
        let mut next = self.word(thread + self.layout.thread.frame)?;
        if let FrameChain::CFrame { current_frame } = self.layout.chain {
            next = self.word(next + current_frame)?;
        }
        let mut frames: Vec<Frame> = Vec::new();
        let mut last = 0;
        while next != 0 {
            let frame = self.frame(next)?;
            (last, next) = (next, self.word(next + self.layout.frame.previous)?);
            if frame
                .owner
                .is_none_or(|owner| owner < self.layout.frame.shim_owner)
            {
                frames.push(frame);
            }
        }
        if let Some(base) = self.layout.thread.base_frame {
            assert_eq!(self.word(thread + base)?, last);
        }
        let codes: Vec<u64> = frames.iter().map(|frame| frame.code).collect();
        assert_eq!(codes, self.numbers("codes"));
        let mut lines = Vec::new();
        for frame in &frames {
            let first_line = self.half(frame.code + self.layout.code.first_line)?;
            let table = self.bytes(self.word(frame.code + self.layout.code.line_table)?)?;
            let kind = self.layout.code.line_table_kind;
            let line = LineTable::decode(kind, &table, first_line).line_at(frame.byte_offset);
            lines.push(u64::from(line.unwrap()));
        }
        assert_eq!(lines, self.numbers("lines"));
        self.check_data_stack(thread, &frames)
    }

    /// Frames of functions that call each other lie one behind the other, and the innermost below the top.
    fn check_data_stack(&self, thread: u64, frames: &[Frame]) -> Result<(), ReadError> {
        let Some(chunk) = self.layout.thread.datastack_chunk else {
            return Ok(());
        };
        let [start, top, limit] = [0, 8, 16].map(|offset| self.word(thread + chunk + offset));
        let mut end = top?;
        assert!(start? < frames[0].address && end <= limit?);
        let mut adjacent = 0;
        for frame in frames.iter().filter(|frame| frame.owner == Some(0)) {
            let slots = match self.layout.code.frame_size {
                FrameSize::Stored(offset) => self.half(frame.code + offset)?.into(),
                FrameSize::Computed {
                    nlocalsplus,
                    stacksize,
                } => {
                    let own =
                        self.half(frame.code + nlocalsplus)? + self.half(frame.code + stacksize)?;
                    u64::from(own) + self.layout.frame.size / 8
                }
                FrameSize::None => unreachable!("there is a data stack"),
            };
            adjacent += usize::from(frame.address + 8 * slots == end);
            end = frame.address;
        }
        // All but where C code in between has pushed a frame of its own.
        assert!(
            adjacent >= 4,
            "{adjacent} frames have the size that was computed"
        );
        Ok(())
    }

    fn bytes(&self, object: u64) -> Result<Vec<u8>, ReadError> {
        let size = self.word(object + self.layout.object.bytes_size)?;
        self.target.read_vec(
            object + self.layout.object.bytes_data,
            usize::try_from(size).unwrap(),
        )
    }

    fn check_code(&self) -> Result<(), ReadError> {
        let (code, fields) = (self.number("code"), &self.layout.code);
        let text = |offset: u64| read_string(self.target, self.layout, self.word(code + offset)?);
        assert_eq!(text(fields.filename)?, self.facts["filename"]);
        assert_eq!(text(fields.name)?, self.facts["name"]);
        if let Some(qualname) = fields.qualname {
            assert_eq!(text(qualname)?, self.facts["qualname"]);
        }
        assert_eq!(
            u64::from(self.half(code + fields.first_line)?),
            self.number("first_line")
        );
        assert_eq!(
            u64::from(self.half(code + fields.flags)?),
            self.number("flags")
        );
        let table = self.bytes(self.word(code + fields.line_table)?)?;
        let hex: String = table.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, self.facts["line_table"]);
        assert_eq!(
            fields.line_table_kind == LineTableKind::Lnotab,
            self.layout.version < Minor(3, 10)
        );
        let kind = self.word(code + self.layout.object.ob_type)?;
        let name = self.word(kind + self.layout.object.tp_name)?;
        assert_eq!(read_c_string(self.target, name)?, "code");
        if let Some(code_bytes) = fields.code_bytes {
            assert!(!self.bytes(self.word(code + code_bytes)?)?.is_empty());
        }
        Ok(())
    }
}
