//! The profile that the goldens show.

use pystrobe_exporters::{Format, Style, write};
use pystrobe_profile::{Function, Profile};

use crate::recorder::{Sample, function, record, thread};

pub(crate) fn functions() -> Vec<Function> {
    vec![
        function("/srv/app.py", 1, "<module>", "<module>"),
        function("/srv/app.py", 10, "main", "main"),
        function("/srv/app.py", 20, "fib", "Numbers.fib"),
        function("/srv/größe.py", 3, "größe", "größe"),
        function(
            "/usr/lib/python3.12/threading.py",
            995,
            "_bootstrap",
            "Thread._bootstrap",
        ),
        function(
            "/srv/site-packages/lib.py",
            7,
            "<lambda>",
            "poll.<locals>.<lambda>",
        ),
        function("~", 0, "<built-in method time.sleep>", ""),
        function("/srv/odd;name\n.py", 5, "evil 12", "evil & <b> \"12\""),
    ]
}

/// A program with recursion, two threads that start alike, and names that try to break a format.
pub(crate) fn profile() -> Profile {
    let sample = |thread, stack: &[(usize, u32)], microseconds: u64| Sample {
        thread,
        stack: stack.to_vec(),
        nanoseconds: microseconds * 1000 + 300,
        samples: microseconds.div_ceil(1000),
    };
    let threads = [
        thread("MainThread", 100),
        thread("worker", 101),
        thread("worker", 102),
    ];
    record(
        &functions(),
        &threads,
        &[
            sample(0, &[(0, 3)], 1_500),
            sample(0, &[(0, 30), (1, 11), (2, 21)], 250_000),
            sample(0, &[(0, 30), (1, 12), (2, 22), (2, 21)], 500_000),
            sample(0, &[(0, 30), (1, 11), (2, 22), (2, 22), (2, 21)], 125_000),
            sample(0, &[(0, 30), (1, 14), (3, 4)], 60_000),
            sample(0, &[(0, 31), (7, 6)], 12_000),
            sample(1, &[(4, 1010), (5, 7), (6, 0)], 700_000),
            sample(2, &[(4, 1010), (2, 21)], 300_000),
            sample(2, &[], 40),
        ],
    )
}

/// What `write` writes.
pub(crate) fn written(profile: &Profile, format: Format, style: &Style) -> Vec<u8> {
    let mut out = Vec::new();
    write(profile, format, style, &mut out).unwrap();
    out
}
