//! What a node of a tree weighs.

use std::ops::AddAssign;

/// What the chosen [`Clock`](crate::Clock) says of a place. The [`Builder`](crate::Builder) sees to it that the sum over all of
/// a profile fits, and so that of any part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weights {
    /// Time, in nanoseconds.
    pub nanoseconds: u64,
    /// Samples that were seen there, or calls that were counted: see [`Counted`](crate::Counted).
    pub samples: u64,
}

impl Weights {
    /// Whether nothing was seen.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Weights {
    fn add_assign(&mut self, other: Self) {
        self.nanoseconds += other.nanoseconds;
        self.samples += other.samples;
    }
}
