//! The agent in real interpreters: what it counts is what cProfile counts, and what the program says.

// Clippy's exception for tests knows test functions only; here all is test, the helpers too.
#![expect(clippy::unwrap_used, clippy::expect_used)]

mod attaching;
mod cprofile;
mod endings;
mod neighbours;
mod support;
mod threads;
