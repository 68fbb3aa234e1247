//! Tests of the tracing collector on the interpreters of this machine.
//!
//! `PYSTROBE_PYTHONS` (paths with colons between them) says which interpreters; see `interpreters` of the sampling
//! collector's tests for what is used without it.

// Clippy's exception for tests knows test functions only; here all is test, the helpers too.
#![expect(clippy::unwrap_used)]

mod attachment;
mod injection;
mod namespaces;
mod refusals;
mod support;
