//! The tracing collector in real interpreters: what it counts is what cProfile counts, and what the program says; and the programs that it
//! comes into while they run are left as they were.
//!
//! `PYSTROBE_PYTHONS` (paths with colons between them) says which interpreters; see `interpreters` of the sampling
//! collector's tests for what is used without it.

// Clippy's exception for tests knows test functions only; here all is test, the helpers too.
#![expect(clippy::unwrap_used, clippy::expect_used)]

mod attaching;
mod attachment;
mod cprofile;
mod endings;
mod injection;
mod leaks;
mod memcheck;
mod namespaces;
mod neighbours;
mod refusals;
mod support;
mod threads;
