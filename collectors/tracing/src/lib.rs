//! Exact tracing, seen from outside the traced process.
//!
//! [`recording`] turns the calls that the agent has counted into a profile.

mod correction;
pub mod recording;
