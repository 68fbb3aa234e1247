//! Why a process cannot be recorded, in words for its user.

use std::fs;

use thiserror::Error;

use crate::process;

/// `CAP_SYS_PTRACE` (`include/uapi/linux/capability.h`), as a bit of a capability set.
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// What stands between a process and its recording.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AttachError {
    /// There is no process with this id.
    #[error("there is no process {pid}")]
    NotFound {
        /// The id.
        pid: u32,
    },
    /// It ended while it was being looked at, or waited for.
    #[error("process {pid} has ended")]
    Ended {
        /// Its id.
        pid: u32,
    },
    /// It has ended, and its parent has not asked for its exit status yet.
    #[error("process {pid} has ended and is a zombie")]
    Zombie {
        /// Its id.
        pid: u32,
    },
    /// It runs something else.
    #[error("process {pid} is not Python: {}", .command.escape_debug())]
    NotPython {
        /// Its id.
        pid: u32,
        /// Its command line as it is: it may hold any character.
        command: String,
    },
    /// The kernel does not let this user read it.
    #[error("process {pid} may not be read: {cause}")]
    Denied {
        /// Its id.
        pid: u32,
        /// What has to change.
        cause: Denial,
    },
    /// It runs a Python that cannot be read.
    #[error("process {pid} runs Python {version}, which is not supported")]
    Unsupported {
        /// Its id.
        pid: u32,
        /// As `3.2.1`.
        version: String,
    },
    /// It is a Python that did not finish initialising while it was being looked at.
    #[error("the Python in process {pid} has not finished starting")]
    Starting {
        /// Its id.
        pid: u32,
    },
    /// Something in it is not what it should be.
    #[error("process {pid} cannot be read: {}", .what.escape_debug())]
    Unreadable {
        /// Its id.
        pid: u32,
        /// What was being read, and the answer.
        what: String,
    },
    /// Whoever waited for it to become a Python has stopped waiting.
    #[error("process {pid} has not become a Python")]
    GaveUp {
        /// Its id.
        pid: u32,
    },
}

/// Why the kernel refuses to have a process read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denial {
    /// Yama's `kernel.yama.ptrace_scope` has this value: 1 allows descendants only, 2 needs
    /// `CAP_SYS_PTRACE`, 3 allows nobody.
    #[error("kernel.yama.ptrace_scope is {0}")]
    PtraceScope(u8),
    /// The process belongs to another user.
    #[error("it belongs to another user")]
    OtherUser,
    /// The process has privileges that we do not have, or a container keeps even root from tracing:
    /// `CAP_SYS_PTRACE` is missing.
    #[error("CAP_SYS_PTRACE is missing")]
    Capability,
}

/// What the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// To list its memory, `PTRACE_MODE_READ`. Yama has no say in that.
    Listing,
    /// To read its memory, `PTRACE_MODE_ATTACH`.
    Reading,
}

impl Denial {
    /// Works out why a process was refused, from what the kernel tells everybody.
    pub(crate) fn of(pid: u32, refused: Refused) -> Self {
        let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
        Self::from_facts(Facts {
            refused,
            ptrace_scope: scope
                .and_then(|scope| scope.trim().parse().ok())
                .unwrap_or(0),
            we_may_trace: process::effective_capabilities(std::process::id())
                .is_some_and(|set| set & CAP_SYS_PTRACE != 0),
            our_user: process::users(std::process::id())
                .and_then(|users| users.get(1).copied())
                .unwrap_or(0),
            its_users: process::users(pid).unwrap_or_default(),
        })
    }

    /// The rules of `__ptrace_may_access` (`kernel/ptrace.c`) and `yama_ptrace_access_check`
    /// (`security/yama/yama_lsm.c`).
    fn from_facts(facts: Facts) -> Self {
        let by_yama = facts.refused == Refused::Reading && facts.ptrace_scope > 0;
        if facts.we_may_trace {
            // Only the strictest scope stops a tracer with the capability; otherwise it does not hold where
            // the process lives.
            return if by_yama && facts.ptrace_scope >= 3 {
                Self::PtraceScope(facts.ptrace_scope)
            } else {
                Self::Capability
            };
        }
        if facts.its_users.iter().any(|user| *user != facts.our_user) {
            // For root, "another user" is no reason: that root lacks the capability is.
            return if facts.our_user == 0 {
                Self::Capability
            } else {
                Self::OtherUser
            };
        }
        if by_yama {
            Self::PtraceScope(facts.ptrace_scope)
        } else {
            Self::Capability
        }
    }
}

struct Facts {
    refused: Refused,
    /// 0 where there is no Yama.
    ptrace_scope: u8,
    we_may_trace: bool,
    our_user: u32,
    its_users: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            refused: Refused::Reading,
            ptrace_scope: 0,
            we_may_trace: false,
            our_user: 1000,
            its_users: vec![1000; 4],
        }
    }

    #[test]
    fn yama_is_named_with_its_scope() {
        assert_eq!(
            Denial::from_facts(Facts {
                ptrace_scope: 1,
                ..facts()
            }),
            Denial::PtraceScope(1)
        );
        let root = Facts {
            ptrace_scope: 3,
            we_may_trace: true,
            our_user: 0,
            its_users: vec![0; 4],
            ..facts()
        };
        assert_eq!(Denial::from_facts(root), Denial::PtraceScope(3));
    }

    #[test]
    fn yama_has_no_say_in_listing() {
        let listing = Facts {
            refused: Refused::Listing,
            ptrace_scope: 1,
            ..facts()
        };
        assert_eq!(Denial::from_facts(listing), Denial::Capability);
    }

    #[test]
    fn another_user_comes_before_yama() {
        let other = Facts {
            ptrace_scope: 1,
            its_users: vec![0; 4],
            ..facts()
        };
        assert_eq!(Denial::from_facts(other), Denial::OtherUser);
        let set_user_id = Facts {
            its_users: vec![1000, 0, 0, 0],
            ..facts()
        };
        assert_eq!(Denial::from_facts(set_user_id), Denial::OtherUser);
    }

    #[test]
    fn root_without_the_capability_is_in_a_container() {
        let root = Facts {
            our_user: 0,
            ..facts()
        };
        assert_eq!(Denial::from_facts(root), Denial::Capability);
        let capable = Facts {
            our_user: 0,
            we_may_trace: true,
            ptrace_scope: 1,
            ..facts()
        };
        assert_eq!(Denial::from_facts(capable), Denial::Capability);
    }

    #[test]
    fn every_message_is_one_line() {
        let command = "a\nb\u{1b}[31m".to_owned();
        let message = AttachError::NotPython { pid: 7, command }.to_string();
        assert_eq!(message, "process 7 is not Python: a\\nb\\u{1b}[31m");
    }
}
