//! Tests of the sampling collector on the interpreters of this machine.
//!
//! `PYSTROBE_PYTHONS` and `PYSTROBE_HEADERS` (paths with colons between them) say which interpreters and which
//! headers; see `support::interpreters` for what is used without them.

// Clippy's exception for tests knows test functions only; here all is test, the helpers too.
#![expect(clippy::unwrap_used)]

mod discovery;
mod layout;
mod line_table;
mod strings;
mod support;
mod thread_names;
