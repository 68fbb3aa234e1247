//! Whether a process whose parent is not in a tree descends from one that is.
//!
//! A daemon is started by a child that ends at once, and may belong to init before anybody sees it. Its group and its
//! session do not help: others have those as well, or they are new ones. But a fork copies where everything lies in memory, and
//! that was chosen by chance when the program was executed. So whoever has the addresses of a process of the tree descends
//! from it, unless somebody outside had them before the recording began: the tree may start with a copy itself.
//!
//! The other way was to adopt orphans (`PR_SET_CHILD_SUBREAPER`), which a program notices that asks for its parent.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::process;

/// How often the members of the tree are looked at: they execute other programs.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Kinship {
    /// Addresses of those outside when the recording began; `None` before it did.
    outside: Option<HashSet<[u64; 4]>>,
    /// Those of the tree's processes.
    inside: HashSet<[u64; 4]>,
    next_look: Option<Instant>,
}

impl Kinship {
    /// Takes the processes whose parents are not in the tree. The first time that is all that there are; later, those of
    /// them stay that descend from one of the `members`.
    pub(crate) fn descend<'a>(
        &mut self,
        strangers: impl Iterator<Item = u32>,
        members: impl Iterator<Item = &'a u32>,
    ) -> Vec<u32> {
        let with_addresses = |pid: u32| Some((pid, process::random_addresses(pid)?));
        let mut strangers = strangers.filter_map(with_addresses).peekable();
        let Some(outside) = &self.outside else {
            self.outside = Some(strangers.map(|(_, addresses)| addresses).collect());
            return Vec::new();
        };
        if strangers.peek().is_none() {
            return Vec::new();
        }
        let now = Instant::now();
        if self.next_look.is_none_or(|next| now >= next) {
            self.next_look = Some(now + LOOK_EVERY);
            let members = members.filter_map(|pid| process::random_addresses(*pid));
            self.inside
                .extend(members.filter(|addresses| !outside.contains(addresses)));
        }
        let ours = strangers.filter(|(_, addresses)| self.inside.contains(addresses));
        ours.map(|(pid, _)| pid).collect()
    }
}
