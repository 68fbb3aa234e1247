//! Arbitrary bytes as what happens to an interpreter's memory while its stacks are sampled.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pystrobe_sampling::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    let _ = fuzzing::sample(bytes);
});
