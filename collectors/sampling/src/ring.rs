//! Notices that a linked list in foreign memory leads back into itself.

/// Brent's way: remembers one address, and a later one after each power of two steps. A list that goes
/// round is noticed within a few rounds, at one comparison a step and without remembering all of it.
#[derive(Debug)]
pub(crate) struct Ring {
    remembered: u64,
    steps: u64,
    limit: u64,
}

impl Ring {
    /// For a list whose first element is at `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            remembered: first,
            steps: 0,
            limit: 2,
        }
    }

    /// Whether the next element, at `address`, shows that the list goes round.
    pub(crate) fn closes(&mut self, address: u64) -> bool {
        if address == self.remembered {
            return true;
        }
        self.steps += 1;
        if self.steps == self.limit {
            (self.remembered, self.limit) = (address, self.limit * 2);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ring_closes_and_a_list_does_not(tail in 0_u64..300, round in 1_u64..300) {
            let mut ring = Ring::new(0);
            let steps = (1..5000).take_while(|step| {
                let at = if *step < tail { *step } else { tail + (step - tail) % round };
                !ring.closes(at)
            });
            prop_assert!(steps.count() < 4 * (tail + round) as usize + 4);
            let mut straight = Ring::new(0);
            prop_assert!((1..5000).all(|step| !straight.closes(step)));
        }
    }
}
