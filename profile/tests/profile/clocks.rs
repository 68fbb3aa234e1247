//! A profile by one of its clocks is what a recording of that clock alone would be.

use proptest::prelude::*;
use pystrobe_profile::{Clock, Clocks, Measured, NotMeasured, Profile, Seen, StatsTable};

use crate::recorder::{Sample, record, record_clocks, thread};
use crate::stats::{functions, samples};

const ALL: Measured = Measured {
    cpu: true,
    gil: true,
    gil_wait: true,
    exception: true,
    waiting: true,
};

fn recorded(samples: &[(Sample, Seen)], measured: Measured) -> Profile {
    let threads = [
        thread("MainThread", 1),
        thread("worker", 2),
        thread("worker", 3),
    ];
    record_clocks(&functions(), &threads, samples, measured)
}

/// The recording in which the time on this clock was all that passed.
fn alone(samples: &[(Sample, Seen)], clock: Clock) -> Profile {
    let threads = [
        thread("MainThread", 1),
        thread("worker", 2),
        thread("worker", 3),
    ];
    let samples: Vec<Sample> = samples
        .iter()
        .map(|(sample, seen)| Sample {
            nanoseconds: seen.on(clock).nanoseconds,
            samples: seen.on(clock).samples,
            ..sample.clone()
        })
        .collect();
    record(&functions(), &threads, &samples)
}

/// Parts of a number, each between nothing and all of it.
fn parts(wall: u64, shares: [u64; 5]) -> Clocks {
    let part = |share: u64| (u128::from(wall) * u128::from(share) / 4) as u64;
    Clocks {
        wall,
        cpu: part(shares[0]),
        gil: part(shares[1]),
        exception: part(shares[2]),
        waiting: part(shares[3]),
        gil_wait: part(shares[4]),
    }
}

fn clocked() -> impl Strategy<Value = Vec<(Sample, Seen)>> {
    let shares = prop::collection::vec(prop::array::uniform5(0..=4u64), 40);
    (samples(), shares).prop_map(|(samples, shares)| {
        samples
            .into_iter()
            .zip(shares)
            .map(|(sample, shares)| {
                let seen = Seen {
                    nanoseconds: parts(sample.nanoseconds, shares),
                    samples: parts(sample.samples, shares),
                };
                (sample, seen)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_clock_is_a_recording_of_its_own(samples in clocked()) {
        let profile = recorded(&samples, ALL);
        for clock in Clock::ALL {
            let view = profile.clone().with_clock(clock).unwrap();
            let alone = alone(&samples, clock);
            prop_assert_eq!(view.clock(), clock);
            let sum: u64 = samples.iter().map(|(_, seen)| seen.on(clock).nanoseconds).sum();
            prop_assert_eq!(view.tree().total().nanoseconds, sum);
            prop_assert_eq!(view.tree().total(), alone.tree().total());
            prop_assert_eq!(view.tree().totals(), alone.tree().totals());
            prop_assert_eq!(view.is_empty(), alone.is_empty());
            prop_assert_eq!(StatsTable::of(&view), StatsTable::of(&alone));
            prop_assert_eq!(StatsTable::of_functions(&view), StatsTable::of_functions(&alone));
            prop_assert_eq!(StatsTable::sampled(&view), StatsTable::sampled(&alone));
            // Some threads by one clock are that clock by some threads.
            let first = |profile: &Profile| profile.with_threads(|thread| thread.name == "worker");
            prop_assert_eq!(first(&view), first(&profile).with_clock(clock).unwrap());
        }
    }

    #[test]
    fn choosing_loses_nothing(samples in clocked()) {
        let profile = recorded(&samples, ALL);
        let mut view = profile.clone();
        for clock in Clock::ALL.into_iter().chain([Clock::Wall]) {
            view = view.with_clock(clock).unwrap();
        }
        prop_assert_eq!(view, profile);
    }

    #[test]
    fn waiting_is_what_is_not_active(samples in clocked()) {
        let profile = recorded(&samples, ALL);
        let total = |clock| profile.clone().with_clock(clock).unwrap().tree().total();
        let waiting: u64 = samples.iter().map(|(_, seen)| seen.nanoseconds.waiting).sum();
        prop_assert_eq!(
            total(Clock::Active).nanoseconds + waiting,
            total(Clock::Wall).nanoseconds
        );
    }
}

#[test]
fn what_was_not_measured_cannot_be_chosen() {
    let measured_but = |change: fn(&mut Measured)| {
        let mut measured = ALL;
        change(&mut measured);
        measured
    };
    for (clock, measured) in [
        (Clock::Active, measured_but(|m| m.waiting = false)),
        (Clock::Cpu, measured_but(|m| m.cpu = false)),
        (Clock::Gil, measured_but(|m| m.gil = false)),
        (Clock::GilWait, measured_but(|m| m.gil_wait = false)),
        (Clock::Exception, measured_but(|m| m.exception = false)),
    ] {
        let profile = recorded(&[], measured);
        for other in Clock::ALL {
            let chosen = profile.clone().with_clock(other);
            match other == clock {
                true => assert_eq!(chosen, Err(NotMeasured(clock))),
                false => assert_eq!(chosen.unwrap().clock(), other),
            }
        }
        let error = NotMeasured(clock).to_string();
        assert!(error.contains(clock.name()), "{error}");
    }
    assert!(Measured::default().has(Clock::Wall));
}

#[test]
fn what_waits_longer_than_it_lasts_is_not_active_at_all() {
    let clocks = Clocks {
        wall: 3,
        waiting: 5,
        ..Clocks::default()
    };
    assert_eq!(clocks.on(Clock::Active), 0);
}

#[test]
fn names() {
    for clock in Clock::ALL {
        assert_eq!(Clock::named(clock.name()), Some(clock));
    }
    assert_eq!(Clock::named("Wall"), None);
}
