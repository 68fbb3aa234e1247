//! The profile, and the questions one can ask of it.
//!
//! Collectors describe what they saw as [`Batch`]es; a [`Builder`] turns them into a [`Profile`];
//! exporters and viewers ask the profile. This crate does no I/O and knows none of them.

mod batch;
mod builder;
mod call_tree;
mod clocks;
mod grouped_tree;
mod ids;
mod names;
mod profile;
mod stats_of_tree;
mod stats_table;
mod tree_index;
mod weights;

pub use batch::{Batch, Counters, Frame, Function, Node, Observation, Process, Thread};
pub use builder::{BatchError, Builder};
pub use call_tree::CallTree;
pub use clocks::{Clock, Clocks, Measured, NotMeasured, Seen};
pub use grouped_tree::{Children, GroupedTree};
pub use ids::{FunctionId, NodeId, ThreadId};
pub use names::{escape, push_escaped};
pub use profile::{Counted, Profile, Recording};
pub use stats_table::{Caller, FunctionKey, Row, StatsTable, UnknownCaller};
pub use tree_index::{FunctionTime, TreeIndex};
pub use weights::Weights;
