//! The integration tests: the built program against real interpreters. One binary, so that it links once.
//!
//! `tests/run` sets up what they need and runs them. One file a topic:
//!
//! - `attach`: every interpreter, and every way in which a target can begin, change and end
//! - `run`: the program is left as it was
//! - `subprocesses`: processes that start others
//! - `cli`: what is typed and what comes out, format by format
//! - `clocks`: which time counts
//! - `tasks`: asyncio
//! - `top`: the live view, in a terminal whose screen is read
//! - `errors`: what goes wrong, and that nothing is lost by it
//! - `readers`: the programs that people open profiles with
//! - `trace`: every call, against cProfile and against what the program itself counted
//! - `trace_attach`: the same of a program that runs already
//! - `truth`: what the profile says against what was the case
//! - `hard`: deep, wide, many, and oddly named
//! - `namespaces`: targets in containers' namespaces
//! - `readme`: what README.md shows is what happens

// Clippy's exception for tests knows test functions only; here all is test, the helpers too.
#![expect(clippy::unwrap_used, clippy::expect_used)]

#[path = "../profile/tests/profile/recorder.rs"]
mod recorder;

mod attach;
mod cli;
mod clocks;
mod errors;
mod greenlets;
mod hard;
mod namespaces;
mod readers;
mod readme;
mod run;
mod subprocesses;
mod support;
mod tasks;
mod top;
mod trace;
mod trace_attach;
mod trace_cprofile;
mod truth;
