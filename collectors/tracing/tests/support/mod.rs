//! What the tests share.

#[path = "../../../sampling/tests/support/interpreters.rs"]
#[expect(dead_code, reason = "not every crate's tests use all of it")]
pub(crate) mod interpreters;
pub(crate) mod program;
