//! Reads the stacks of a live CPython process from outside.

pub mod layout;
pub mod memory;
