//! The interpreters that the tests run on, and processes of theirs that wait to be read.

pub(crate) mod interpreters;
pub(crate) mod target;
