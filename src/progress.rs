//! How a recording goes, told on stderr: live where that is a terminal, and in one line at the end.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pystrobe_profile::Counters;

/// The live line; nothing where stderr is no terminal. It leaves no trace when it is dropped.
///
/// It is drawn without colours, so there is nothing that `NO_COLOR` would have to turn off.
#[derive(Debug)]
pub(crate) struct Progress {
    line: ProgressBar,
    of: Option<Duration>,
}

impl Progress {
    /// No live line: where quiet was asked for, and in `run`, where the terminal is the program's.
    pub(crate) fn hidden() -> Self {
        Progress {
            line: ProgressBar::hidden(),
            of: None,
        }
    }

    /// A live line for a recording of the given length.
    pub(crate) fn live(of: Option<Duration>) -> Self {
        if !io::stderr().is_terminal() {
            return Progress::hidden();
        }
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // The template is a constant that parses; the fallback would only look different.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            line.set_style(style);
        }
        Progress { line, of }
    }

    /// Draws the state of the recording; as often as one likes, the terminal is spared.
    pub(crate) fn update(&self, counters: &Counters, elapsed: Duration) {
        if self.line.is_hidden() {
            return;
        }
        self.line.set_message(live(counters, elapsed, self.of));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

fn live(counters: &Counters, elapsed: Duration, of: Option<Duration>) -> String {
    let of = match of {
        Some(of) => format!(" of {} s", of.as_secs_f64()),
        None => String::new(),
    };
    format!(
        "{:.1} s{of}  {} samples ({:.0}/s)  {} repaired  {} lost{}",
        elapsed.as_secs_f64(),
        counters.taken,
        rate(counters.taken, elapsed),
        counters.repaired,
        counters.lost,
        match of.is_empty() {
            true => "  Ctrl-C saves",
            false => "",
        }
    )
}

/// The line at the end, as `12345 samples in 2.00 s (6172/s): 3 repaired, 0 truncated, 0 lost, 0 late, 0 skipped`;
/// of several processes with `, in 5 processes` behind it.
pub(crate) fn summary(counters: &Counters, elapsed: Duration, processes: usize) -> String {
    let of = match processes {
        0 | 1 => String::new(),
        several => format!(", in {several} processes"),
    };
    format!(
        "{} samples in {:.2} s ({:.0}/s): {} repaired, {} truncated, {} lost, {} late, {} skipped{of}",
        counters.taken,
        elapsed.as_secs_f64(),
        rate(counters.taken, elapsed),
        counters.repaired,
        counters.truncated,
        counters.lost,
        counters.late,
        counters.skipped,
    )
}

/// Samples per second; 0 where no time has passed.
fn rate(samples: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        samples as f64 / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_begins_as_documented() {
        let counters = Counters {
            taken: 12345,
            repaired: 3,
            ..Counters::default()
        };
        assert_eq!(
            summary(&counters, Duration::from_secs(2), 1),
            "12345 samples in 2.00 s (6172/s): 3 repaired, 0 truncated, 0 lost, 0 late, 0 skipped"
        );
        let of_several = summary(&counters, Duration::from_secs(2), 5);
        assert!(of_several.ends_with("0 skipped, in 5 processes"));
    }

    #[test]
    fn the_live_line_tells_how_far_it_is() {
        let counters = Counters::default();
        let half = live(
            &counters,
            Duration::from_millis(1500),
            Some(Duration::from_secs(3)),
        );
        assert!(half.starts_with("1.5 s of 3 s  0 samples"), "{half}");
        let open = live(&counters, Duration::from_millis(1500), None);
        assert!(open.ends_with("Ctrl-C saves"), "{open}");
    }
}
