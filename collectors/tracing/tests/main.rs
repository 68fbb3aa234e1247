//! The agent in real interpreters: what it counts is what cProfile counts, and what the program says.

mod attaching;
mod cprofile;
mod endings;
mod neighbours;
mod support;
mod threads;
