//! The proof of truth: the sampler on a simulated interpreter, where the true shares are known exactly.
//!
//! `machine` and `frames` run a program and make each store in the order in which that version of CPython makes
//! it; `remote` copies regions while the machine runs on; `truth` knows how long each stack was on; `trial`
//! compares. Everything follows from a seed. What a test allows is what was measured, and a little more: in the
//! simulation an error is the sampler's own, never the machine's.

mod frames;
mod image;
mod machine;
mod objects;
mod program;
mod remote;
mod trial;
mod truth;

use crate::layout::examples;

use program::{
    ACROSS, ALL, ALTERNATING, CHUNKS, DEEP_AND_SHALLOW, GENERATORS, LEAVES, Program, RECURSION,
    REDEFINITION, SHORT_CALLS, THROUGH_C, TINY_CALLS, YIELD_FROM,
};
use remote::{Costs, REAL};
use trial::{Pace, Report, Trial};

const KILOHERTZ: Pace = Pace::Interval(1_000_000);
/// All that differ in what a frame tells: 3.9 is as 3.8.
const MINORS: [u8; 7] = [8, 10, 11, 12, 13, 14, 15];

fn trial(program: Program, minor: u8, pace: Pace) -> Trial {
    Trial {
        program,
        layout: examples::of(minor).unwrap(),
        costs: REAL,
        pace,
        samples: 2500,
        seed: 1,
        walks_whole: false,
    }
}

/// What is allowed, as shares.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Error of any function's own share at 1 kHz, where the moments are spread evenly over the program's round.
    kilohertz: f64,
    /// The same at full speed, where chance adds a hundredth.
    full_speed: f64,
    /// Time given to stacks that the program cannot have.
    impossible: f64,
    truncated: f64,
    repaired: f64,
    /// Calls a sample.
    calls: f64,
}

const fn limits(
    kilohertz: f64,
    full_speed: f64,
    impossible: f64,
    truncated: f64,
    repaired: f64,
    calls: f64,
) -> Limits {
    Limits {
        kilohertz,
        full_speed,
        impossible,
        truncated,
        repaired,
        calls,
    }
}

/// Checks a program with what is allowed on 3.8 to 3.10, 3.11, 3.12, 3.13, and later ones.
fn check(program: Program, allowed: [Limits; 5]) {
    let mut failures = Vec::new();
    for minor in MINORS {
        let limits = allowed[usize::from(minor.clamp(10, 14) - 10)];
        for (pace, error) in [
            (KILOHERTZ, limits.kilohertz),
            (Pace::FullSpeed, limits.full_speed),
        ] {
            let report = trial(program, minor, pace).run();
            let within = report.error <= error
                && report.impossible <= limits.impossible
                && report.cut.max(report.truncated) <= limits.truncated
                && report.repaired <= limits.repaired
                && report.calls <= limits.calls
                && report.lost == 0.0
                && report.misnamed == 0;
            if !within {
                failures.push(format!("3.{minor} {pace:?}: {report}"));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        program.name,
        failures.join("\n")
    );
}

// Half a percent is the goal, and met at 1 kHz by calls of 30 to 300 ns, by generators that take a few us a turn and by
// recursion over several chunks. What is wider than that is harder than programs are, or known to be wrong: generators
// of 40 ns or that are made anew each time, calls through C, and a program that does little but map and unmap a
// chunk. Up to 3.10 frames are read one by one, so that of a recursion which is deeper than a few
// frames some samples miss frames in the middle. Through C on 3.12 is off by 0.02 or by 0.19, as the first samples fall:
// whether the caller's instruction is taken for one that resumes the generator. At full speed the reader holds up the program, and is held up by it.

#[test]
fn short_calls_have_their_true_shares() {
    check(
        SHORT_CALLS,
        [
            limits(0.005, 0.072, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.032, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.052, 0.0, 0.005, 0.009, 1.07),
            limits(0.005, 0.04, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.056, 0.0, 0.005, 0.009, 1.07),
        ],
    );
}

#[test]
fn alternating_generators_have_their_true_shares() {
    check(
        ALTERNATING,
        [
            limits(0.005, 0.022, 0.0, 0.005, 0.009, 1.07),
            limits(0.005, 0.049, 0.0, 0.005, 0.009, 1.07),
            limits(0.005, 0.045, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.057, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.036, 0.0, 0.005, 0.009, 1.08),
        ],
    );
}

#[test]
fn tiny_calls_have_their_true_shares() {
    check(
        TINY_CALLS,
        [
            limits(0.005, 0.091, 0.0, 0.005, 0.009, 1.09),
            limits(0.005, 0.02, 0.0, 0.005, 0.009, 1.09),
            limits(0.005, 0.034, 0.0, 0.005, 0.009, 1.09),
            limits(0.005, 0.038, 0.0, 0.005, 0.009, 1.09),
            limits(0.005, 0.04, 0.0, 0.005, 0.009, 1.07),
        ],
    );
}

#[test]
fn leaf_functions_have_their_true_shares() {
    check(
        LEAVES,
        [
            limits(0.005, 0.073, 0.0, 0.005, 0.009, 1.10),
            limits(0.005, 0.061, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.063, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.06, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.066, 0.0, 0.005, 0.009, 1.08),
        ],
    );
}

#[test]
fn generators_in_turn_have_no_impossible_stacks() {
    check(
        GENERATORS,
        [
            limits(0.005, 0.059, 0.0, 0.005, 0.009, 1.09),
            limits(0.014, 0.061, 0.0, 0.005, 0.009, 1.08),
            limits(0.034, 0.092, 0.0, 0.005, 0.009, 1.08),
            limits(0.016, 0.093, 0.0, 0.005, 0.009, 1.08),
            limits(0.015, 0.085, 0.0, 0.005, 0.009, 1.08),
        ],
    );
}

#[test]
fn generators_that_yield_from_others_keep_them_below() {
    check(
        YIELD_FROM,
        [
            limits(0.009, 0.079, 0.0, 0.005, 0.009, 1.09),
            limits(0.087, 0.142, 0.0, 0.005, 0.109, 1.19),
            limits(0.089, 0.179, 0.0, 0.005, 0.012, 1.10),
            limits(0.065, 0.162, 0.0, 0.005, 0.013, 1.09),
            limits(0.059, 0.183, 0.0, 0.005, 0.037, 1.11),
        ],
    );
}

#[test]
fn recursion_keeps_its_share() {
    check(
        RECURSION,
        [
            limits(0.005, 0.128, 0.0, 0.005, 0.012, 1.08),
            limits(0.005, 0.029, 0.0, 0.005, 0.009, 1.07),
            limits(0.005, 0.046, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.046, 0.0, 0.005, 0.009, 1.08),
            limits(0.005, 0.05, 0.0, 0.005, 0.009, 1.08),
        ],
    );
}

#[test]
fn recursion_over_several_chunks_keeps_its_share() {
    check(
        CHUNKS,
        [
            limits(0.005, 0.023, 0.073, 0.005, 0.009, 1.07),
            limits(0.005, 0.018, 0.0, 0.005, 0.009, 1.07),
            limits(0.005, 0.016, 0.0, 0.005, 0.009, 1.09),
            limits(0.005, 0.023, 0.0, 0.005, 0.009, 1.09),
            limits(0.005, 0.056, 0.0, 0.005, 0.009, 1.09),
        ],
    );
}

#[test]
fn calls_to_and_fro_across_the_border_of_a_chunk_are_bounded() {
    check(
        ACROSS,
        [
            limits(0.005, 0.089, 0.056, 0.005, 0.017, 1.08),
            limits(0.304, 0.3, 0.0, 0.005, 0.009, 1.09),
            limits(0.167, 0.192, 0.0, 0.005, 0.011, 1.09),
            limits(0.168, 0.196, 0.0, 0.005, 0.009, 1.09),
            limits(0.091, 0.113, 0.0, 0.005, 0.011, 1.09),
        ],
    );
}

#[test]
fn functions_called_from_c_keep_their_callers() {
    check(
        THROUGH_C,
        [
            limits(0.005, 0.086, 0.0, 0.005, 0.009, 1.08),
            limits(0.058, 0.113, 0.0, 0.005, 0.009, 1.08),
            limits(0.208, 0.057, 0.0, 0.005, 0.062, 1.15),
            limits(0.024, 0.097, 0.0, 0.005, 0.009, 1.11),
            limits(0.028, 0.115, 0.0, 0.005, 0.009, 1.08),
        ],
    );
}

#[test]
fn a_function_that_is_redefined_is_never_misnamed() {
    check(
        REDEFINITION,
        [
            limits(0.005, 0.066, 0.0, 0.005, 0.009, 7.56),
            limits(0.005, 0.038, 0.0, 0.005, 0.009, 8.37),
            limits(0.005, 0.014, 0.003, 0.005, 0.009, 5.21),
            limits(0.005, 0.015, 0.003, 0.005, 0.009, 5.21),
            limits(0.005, 0.016, 0.0, 0.005, 0.009, 5.21),
        ],
    );
}

#[test]
fn deep_stacks_weigh_as_much_as_shallow_ones() {
    check(
        DEEP_AND_SHALLOW,
        [
            limits(0.005, 0.016, 0.022, 0.005, 0.017, 1.09),
            limits(0.005, 0.017, 0.0, 0.005, 0.026, 1.11),
            limits(0.005, 0.014, 0.0, 0.005, 0.023, 1.28),
            limits(0.005, 0.013, 0.0, 0.005, 0.013, 1.28),
            limits(0.005, 0.014, 0.0, 0.005, 0.011, 1.28),
        ],
    );
}

/// The reader loses its processor for up to 200 microseconds, once in 40 regions.
#[test]
fn preemption_between_two_regions_is_bounded() {
    let costs = Costs {
        preempted_once_in: 40,
        preempted_for: 200_000,
        ..REAL
    };
    for minor in [8, 11, 12, 13, 14, 15] {
        for (program, impossible) in [
            (TINY_CALLS, 0.0),
            (LEAVES, 0.0),
            // A generator that yields and another one in its place within those 200 us.
            (GENERATORS, 0.035),
            (RECURSION, 0.0),
            (REDEFINITION, 0.0),
        ] {
            let report = Trial {
                costs,
                ..trial(program, minor, KILOHERTZ)
            }
            .run();
            assert!(
                report.impossible <= impossible && report.cut <= 0.01 && report.misnamed == 0,
                "{} on 3.{minor}: {report}",
                program.name
            );
        }
    }
}

#[test]
fn a_trial_replays() {
    let figures = || {
        let report = trial(GENERATORS, 14, Pace::FullSpeed).run();
        (report.functions, report.calls)
    };
    assert_eq!(figures(), figures());
}

/// A walk that ends where nothing has changed since the one before finds what one to the foot finds.
#[test]
fn what_is_unchanged_need_not_be_walked_again() {
    for minor in MINORS {
        for program in [
            LEAVES,
            RECURSION,
            CHUNKS,
            DEEP_AND_SHALLOW,
            YIELD_FROM,
            REDEFINITION,
        ] {
            let figures = |walks_whole| {
                let report = Trial {
                    samples: 400,
                    walks_whole,
                    ..trial(program, minor, KILOHERTZ)
                }
                .run();
                report.functions
            };
            assert_eq!(
                figures(false),
                figures(true),
                "{} on 3.{minor}",
                program.name
            );
        }
    }
}

#[test]
#[ignore = "prints the figures: ONLY=name MINORS=8,14 SAMPLES=4000 VERBOSE=1"]
fn figures() {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let only = variable("ONLY");
    let samples = variable("SAMPLES").parse().unwrap_or(4000);
    let minors: Vec<u8> = match variable("MINORS").as_str() {
        "" => MINORS.to_vec(),
        listed => listed
            .split(',')
            .map(|each| each.parse().unwrap())
            .collect(),
    };
    let costs = Costs {
        preempted_once_in: variable("PREEMPTED").parse().unwrap_or(0),
        preempted_for: 200_000,
        stall: variable("STALL").parse().unwrap_or(REAL.stall),
        ..REAL
    };
    for program in ALL.into_iter().filter(|each| each.name.contains(&only)) {
        for &minor in &minors {
            for (pace, word) in [(KILOHERTZ, "1kHz"), (Pace::FullSpeed, "full")] {
                let report = Trial {
                    samples,
                    costs,
                    ..trial(program, minor, pace)
                }
                .run();
                println!("{:16} 3.{minor:<2} {word} {report}", program.name);
                if !variable("VERBOSE").is_empty() {
                    print_functions(&report);
                }
            }
        }
    }
}

fn print_functions(report: &Report) {
    let mut confusion: Vec<_> = report.confusion.iter().collect();
    confusion.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for ([first, second, last, said], count) in confusion.iter().take(14) {
        println!("      {count:5} {first} | {second} | {last} => {said}");
    }
    for (name, truth, seen) in &report.functions {
        println!("      {name:12} {truth:.4} {seen:.4} {:+.4}", seen - truth);
    }
}
