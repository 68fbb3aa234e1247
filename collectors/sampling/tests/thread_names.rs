//! Threads are known by the names that Python gives them, and by the kernel's ids.

use std::collections::HashMap;
use std::time::Instant;

use pystrobe_sampling::discovery::{Interpreter, Roots, discover};
use pystrobe_sampling::memory::RemoteMemory;
use pystrobe_sampling::process;
use pystrobe_sampling::process_memory::ProcessMemory;
use pystrobe_sampling::thread_names::{native_id, thread_names};

use super::support::interpreters::{Interpreter as Python, all, target_file};
use super::support::target::Target;

fn launch(python: &Python, arguments: &[&str]) -> (Target, Interpreter, ProcessMemory) {
    let target = Target::run(python.command().args(arguments));
    let found = discover(target.pid()).unwrap();
    let memory = ProcessMemory::new(target.pid());
    (target, found, memory)
}

/// Address of the newest interpreter.
fn head(found: &Interpreter, memory: &impl RemoteMemory) -> u64 {
    match found.roots {
        Roots::Runtime(runtime) => memory
            .read_u64(runtime + found.layout.runtime.interpreters_head)
            .unwrap(),
        Roots::Interpreter(interpreter) => interpreter,
    }
}

/// Identifier, kernel id and name of each thread, as the target says.
fn threads(target: &Target) -> Vec<(u64, u64, String)> {
    let lines = target
        .lines
        .iter()
        .filter_map(|line| line.strip_prefix("thread "));
    let parse = |line: &str| {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let name = words[2]
            .as_bytes()
            .chunks(2)
            .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
        let name = String::from_utf8(name.collect()).unwrap();
        (words[0].parse().unwrap(), words[1].parse().unwrap(), name)
    };
    lines.map(parse).collect()
}

#[test]
fn every_name_is_read() {
    for python in all() {
        for count in ["0", "200"] {
            let (target, found, memory) = launch(python, &[&target_file("thread_names.py"), count]);
            let expected: HashMap<u64, String> = threads(&target)
                .into_iter()
                .map(|(ident, _, name)| (ident, name))
                .collect();
            assert!(expected.values().any(|name| name == "MainThread"));
            assert!(expected.values().any(|name| name.starts_with("Dummy-")));
            let calls = memory.calls();
            let began = Instant::now();
            let names = thread_names(&memory, &found.layout, head(&found, &memory));
            let (passed, calls) = (began.elapsed(), memory.calls() - calls);
            println!(
                "{python}: {} names in {passed:?}, {calls} calls",
                names.len()
            );
            assert_eq!(names, expected, "{python}");
        }
    }
}

#[test]
fn kernel_ids_are_found() {
    for python in all() {
        let (target, _, memory) = launch(python, &[&target_file("thread_names.py"), "5"]);
        let tids = process::native_ids(target.pid());
        let threads = threads(&target);
        assert_eq!(tids.len(), threads.len(), "{python}");
        for (ident, native, name) in threads {
            assert_eq!(
                native_id(&memory, ident, &tids),
                Some(native),
                "{python}: {name}"
            );
        }
        assert_eq!(native_id(&memory, 8, &tids), None);
        assert_eq!(native_id(&memory, threads_ident(&target), &[]), None);
    }
}

fn threads_ident(target: &Target) -> u64 {
    threads(target)[0].0
}

#[test]
fn the_main_thread_has_its_name_without_threading() {
    let script = "import sys, _thread
assert 'threading' not in sys.modules
print('ident=%d' % _thread.get_ident())
print('ready', flush=True)
sys.stdin.read()";
    for python in all() {
        // No site: it may import anything.
        let (target, found, memory) = launch(python, &["-S", "-c", script]);
        let ident: u64 = target.facts()["ident"].parse().unwrap();
        let names = thread_names(&memory, &found.layout, head(&found, &memory));
        assert_eq!(
            names,
            HashMap::from([(ident, "MainThread".to_owned())]),
            "{python}"
        );
    }
}

/// Everything may change while it is read.
#[test]
fn threads_that_come_and_go_do_no_harm() {
    let script = "import sys, threading
def change():
    while True:
        threads = [threading.Thread(target=int, name='brief %d' % n) for n in range(10)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
threading.Thread(target=change, daemon=True, name='changing').start()
print('ready', flush=True)
sys.stdin.read()";
    for python in all() {
        let (_target, found, memory) = launch(python, &["-c", script]);
        let interpreter = head(&found, &memory);
        let mut seen = 0;
        for _ in 0..1000 {
            for name in thread_names(&memory, &found.layout, interpreter).into_values() {
                seen += usize::from(name == "changing");
            }
        }
        println!("{python}: the lasting thread was seen {seen} times in 1000");
        assert!(seen > 500, "{python}: {seen}");
    }
}

/// An interpreter address that is none, or that is none any more.
#[test]
fn nothing_is_known_of_what_is_no_interpreter() {
    let python = &all()[0];
    let (target, found, memory) = launch(python, &[&target_file("idle.py")]);
    for address in [0, 8, u64::MAX, head(&found, &memory) + 8] {
        assert!(thread_names(&memory, &found.layout, address).is_empty());
    }
    let interpreter = head(&found, &memory);
    drop(target);
    assert!(thread_names(&memory, &found.layout, interpreter).is_empty());
}
