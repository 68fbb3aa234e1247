//! Records every call of a Python program: the host's side of the tracer.

pub mod injection;
