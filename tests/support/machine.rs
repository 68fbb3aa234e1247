//! Who may use the machine: tests that measure time have it to themselves.
//!
//! The locks are on files, so that they hold between threads (`cargo test`) and between processes (nextest) alike.

use std::fs::File;
use std::path::Path;

/// Held by a test for as long as it uses the machine.
pub(crate) struct Turn {
    _machine: File,
    _door: Option<File>,
}

fn open(name: &str) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
        .unwrap()
}

/// With others: for tests that are about what happens, not about how fast.
pub(crate) fn shared() -> Turn {
    // Those who wait to be alone stand in the door, so that the many who share cannot keep them waiting for ever.
    let door = open("door.lock");
    door.lock().unwrap();
    let machine = open("machine.lock");
    machine.lock_shared().unwrap();
    Turn {
        _machine: machine,
        _door: None,
    }
}

/// Alone: for tests that compare times.
pub(crate) fn alone() -> Turn {
    let door = open("door.lock");
    door.lock().unwrap();
    let machine = open("machine.lock");
    machine.lock().unwrap();
    Turn {
        _machine: machine,
        _door: Some(door),
    }
}
