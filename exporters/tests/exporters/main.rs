//! Tests of the formats through their public interface, and with the programs that read them.

// clippy.toml exempts functions that are tests, but not the ones that tests share.
#![allow(clippy::unwrap_used)]

#[path = "../../../profile/tests/profile/recorder.rs"]
mod recorder;

mod fuzz;
mod goldens;
mod hard;
mod marshal;
mod pstats_read;
mod pythons;
mod readers;
mod sample;
mod trailer;
