//! Small `Copy` handles. What they stand for is kept once, in the table that gave them out.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The id of the entry at `index`. No table holds more than `u32::MAX` entries, so what
            /// does not fit becomes an id that no table knows.
            #[must_use]
            pub fn from_index(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }

            /// Its position in the table that gave it out.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// A function of a profile.
    FunctionId
}
id! {
    /// A node of the call tree.
    NodeId
}
id! {
    /// A thread of a profile.
    ThreadId
}
