//! The layouts of the CPythons that do not describe themselves: 3.8 to 3.12.
//!
//! The rows are data that `generate/run` prints from CPython's own headers; a test prints them again and
//! compares. They hold for 64-bit builds, `--with-pydebug` or not, on x86-64 and on aarch64: no structure whose size
//! differs between the two (`pthread_mutex_t` does) comes before a field in a row. They do not hold for
//! `--with-trace-refs`, where every object has a longer head.

mod rows;

use super::{Layout, Minor};

/// The layout of `version`, or `None` where there is no row for it: before 3.8, and from 3.13 on
/// ([`from_debug_offsets`](super::from_debug_offsets)).
#[must_use]
pub fn builtin(version: Minor) -> Option<&'static Layout> {
    rows::ROWS.iter().find(|row| row.version == version)
}
