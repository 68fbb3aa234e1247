//! The lengths of time that are typed: `-d` as such, `-r` as a rate or as an interval.

use std::time::Duration;

/// The shortest interval between two samples: no sampler gets below it.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(1);
/// The longest interval between two samples; what is longer is a typing error.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// Seconds in each unit of time, by what stands behind the number.
const UNITS_OF_TIME: [(&str, f64); 9] = [
    ("", 1.0),
    ("s", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("ms", 1e-3),
    ("us", 1e-6),
    // The micro sign and the Greek letter look alike; keyboards have either.
    ("\u{b5}s", 1e-6),
    ("\u{3bc}s", 1e-6),
];

/// Hertz in each unit of frequency, by what stands behind the number, in lower case.
const UNITS_OF_FREQUENCY: [(&str, f64); 4] = [("", 1.0), ("hz", 1.0), ("khz", 1e3), ("mhz", 1e6)];

/// Reads `30`, `0.5`, `90s`, `2m`, `1.5h`, `250ms`: seconds unless a unit says otherwise.
pub(super) fn duration(typed: &str) -> Result<Duration, String> {
    let (number, unit) = split(typed)?;
    let seconds = factor(&UNITS_OF_TIME, unit)
        .ok_or_else(|| format!("unknown unit `{unit}`; known are ms, s, m and h"))?;
    positive(number * seconds)
}

/// Reads a rate (`1000`, `100hz`, `1khz`, `2.5khz`) or an interval (`500us`, `10ms`, `2s`), and gives the
/// interval. A bare number is a rate in Hz.
pub(super) fn interval(typed: &str) -> Result<Duration, String> {
    let (number, unit) = split(typed)?;
    let interval = if let Some(hertz) = factor(&UNITS_OF_FREQUENCY, &unit.to_lowercase()) {
        positive(1.0 / (number * hertz))
    } else if let Some(seconds) = factor(&UNITS_OF_TIME, unit) {
        positive(number * seconds)
    } else {
        return Err(format!(
            "unknown unit `{unit}`; known are hz and khz for a rate, us, ms and s for an interval"
        ));
    }?;
    if interval < SHORTEST_INTERVAL {
        Err(String::from(
            "faster than one sample a microsecond (1000khz)",
        ))
    } else if interval > LONGEST_INTERVAL {
        Err(String::from("slower than one sample an hour"))
    } else {
        Ok(interval)
    }
}

/// Parts a number from the unit behind it. Takes digits with at most one point: what else Rust reads as
/// a number (`inf`, `1e9`, `+1`) nobody means here.
fn split(typed: &str) -> Result<(f64, &str), String> {
    let typed = typed.trim();
    let end = typed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(typed.len());
    let (digits, unit) = typed.split_at(end);
    let number = digits
        .parse()
        .map_err(|_| format!("`{typed}` does not begin with a number"))?;
    Ok((number, unit.trim_start()))
}

fn factor(units: &[(&str, f64)], wanted: &str) -> Option<f64> {
    let (_, factor) = units.iter().find(|(unit, _)| *unit == wanted)?;
    Some(*factor)
}

fn positive(seconds: f64) -> Result<Duration, String> {
    let duration =
        Duration::try_from_secs_f64(seconds).map_err(|_| String::from("out of range"))?;
    if duration.is_zero() {
        return Err(String::from("must be more than 0"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (typed, milliseconds) in [
            ("30", 30_000),
            ("0.5", 500),
            (".5", 500),
            ("90s", 90_000),
            ("2m", 120_000),
            ("2min", 120_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            (" 10 s ", 10_000),
        ] {
            assert_eq!(
                duration(typed),
                Ok(Duration::from_millis(milliseconds)),
                "{typed}"
            );
        }
    }

    #[test]
    fn not_durations() {
        for typed in [
            "",
            "s",
            "-1",
            "+1",
            "0",
            "0s",
            "1.2.3",
            "1e3",
            "inf",
            "nan",
            "10x",
            "1khz",
            "1m30s",
            "99999999999999999999999h",
        ] {
            assert!(duration(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn rates_and_intervals() {
        for (typed, microseconds) in [
            ("1000", 1000),
            ("100hz", 10_000),
            ("1khz", 1000),
            ("1kHz", 1000),
            ("2.5khz", 400),
            ("1MHz", 1),
            ("500us", 500),
            ("500\u{b5}s", 500),
            ("10ms", 10_000),
            ("0.5", 2_000_000),
            ("2s", 2_000_000),
        ] {
            assert_eq!(
                interval(typed),
                Ok(Duration::from_micros(microseconds)),
                "{typed}"
            );
        }
    }

    #[test]
    fn not_rates() {
        for typed in [
            "", "khz", "0", "0hz", "0us", "-5", "10mb", "2mhz", "0.1us", "2h", "1e3",
        ] {
            assert!(interval(typed).is_err(), "{typed}");
        }
    }
}
