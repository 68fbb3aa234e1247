//! Tests of the profile through its public interface.

// clippy.toml exempts functions that are tests, but not the ones that tests share.
#![allow(clippy::unwrap_used)]

mod builder;
mod calls;
mod clocks;
mod recorder;
mod stats;
mod threads;
mod tree_index;
