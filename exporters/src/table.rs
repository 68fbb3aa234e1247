//! The hottest functions, as a table for people.

use std::io::{self, BufWriter, Write};

use pystrobe_profile::{Clock, Counted, Row, StatsTable};

use crate::Style;

/// The narrowest that the columns for function and place are made.
const MIN_TEXT: usize = 12;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// What is shown of a row's counts: samples with the function on the stack, or all of its calls.
fn count(counted: Counted, row: &Row) -> u64 {
    match counted {
        Counted::Samples => row.cc,
        Counted::Calls => row.nc,
    }
}

pub(crate) fn write(
    table: &StatsTable,
    counted: Counted,
    clock: Clock,
    style: &Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut hottest: Vec<&Row> = table.rows().iter().collect();
    hottest.sort_by(|a, b| {
        let by_time = b.tt.total_cmp(&a.tt).then(b.ct.total_cmp(&a.ct));
        by_time.then_with(|| a.key.cmp(&b.key))
    });
    let left_out = hottest.len() - style.rows.unwrap_or(usize::MAX).min(hottest.len());
    hottest.truncate(hottest.len() - left_out);

    let total = table.total_seconds();
    let lines: Vec<Line> = hottest
        .iter()
        .map(|row| Line::new(row, counted, total))
        .collect();
    let columns = Columns::fit(&lines, titles(counted, clock), style.width);
    let mut out = BufWriter::new(out);
    let (bold, dim, reset) = if style.color {
        (BOLD, DIM, RESET)
    } else {
        ("", "", "")
    };
    writeln!(out, "{bold}{}{reset}", columns.header())?;
    for line in &lines {
        let place = shorten_start(&line.place, columns.place);
        let before = columns.before_place(line);
        if place.is_empty() {
            writeln!(out, "{}", before.trim_end())?;
        } else {
            writeln!(out, "{before}{dim}{place}{reset}")?;
        }
    }
    if left_out > 0 {
        let functions = if left_out == 1 {
            "function"
        } else {
            "functions"
        };
        writeln!(out, "{dim}… and {left_out} more {functions}{reset}")?;
    }
    out.flush()
}

/// A row, as text.
struct Line {
    numbers: [String; 5],
    function: String,
    place: String,
}

impl Line {
    fn new(row: &Row, counted: Counted, total: f64) -> Self {
        let percent = |seconds: f64| {
            let share = if total > 0.0 { seconds / total } else { 0.0 };
            format!("{:.1}", share * 100.0)
        };
        Self {
            numbers: [
                percent(row.tt),
                format!("{:.3}", row.tt),
                percent(row.ct),
                format!("{:.3}", row.ct),
                count(counted, row).to_string(),
            ],
            function: row.key.name.to_string(),
            place: match (&*row.key.file, row.key.line) {
                ("~" | "", _) => String::new(),
                (file, line) => format!("{file}:{line}"),
            },
        }
    }
}

const FUNCTION: &str = "function";
const PLACE: &str = "file:line";

/// The titles of the numbers. They name the clock where it is not the one on the wall.
fn titles(counted: Counted, clock: Clock) -> [String; 5] {
    let seconds = match clock {
        Clock::Wall => String::from("s"),
        clock => format!("{} s", clock.name()),
    };
    [
        String::from("own %"),
        format!("own {seconds}"),
        String::from("cum %"),
        format!("cum {seconds}"),
        counted.name().to_owned(),
    ]
}

/// Widths, in characters.
struct Columns {
    titles: [String; 5],
    numbers: [usize; 5],
    function: usize,
    place: usize,
}

impl Columns {
    /// As wide as the text, or as wide as is left: the numbers always stay whole.
    fn fit(lines: &[Line], titles: [String; 5], width: Option<usize>) -> Self {
        let widest = |title: &str, text: &dyn Fn(&Line) -> usize| {
            lines.iter().map(text).fold(title.len(), usize::max)
        };
        let mut columns = Self {
            numbers: [0, 1, 2, 3, 4]
                .map(|column| widest(&titles[column], &|line| line.numbers[column].len())),
            titles,
            function: widest(FUNCTION, &|line| line.function.chars().count()),
            place: widest(PLACE, &|line| line.place.chars().count()),
        };
        if let Some(width) = width {
            let numbers: usize = columns.numbers.iter().map(|number| number + 2).sum();
            let left = width.saturating_sub(numbers + 2);
            // The name says more than the place, but not so much that the place goes.
            let function = left.saturating_sub(columns.place).max(left * 2 / 5);
            columns.function = columns.function.min(function.max(MIN_TEXT));
            let place = left.saturating_sub(columns.function);
            columns.place = columns.place.min(place.max(MIN_TEXT));
        }
        columns
    }

    fn header(&self) -> String {
        let titles = Line {
            numbers: self.titles.clone(),
            function: FUNCTION.to_owned(),
            place: PLACE.to_owned(),
        };
        format!("{}{}", self.before_place(&titles), titles.place)
    }

    fn before_place(&self, line: &Line) -> String {
        let mut text = String::new();
        for (number, width) in line.numbers.iter().zip(self.numbers) {
            text.push_str(&format!("{number:>width$}  "));
        }
        let function = shorten_end(&line.function, self.function);
        let width = self.function;
        text.push_str(&format!("{function:<width$}  "));
        text
    }
}

/// The start of a text that is too long.
fn shorten_end(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// The end of a text that is too long: a file's name says more than where it lies.
fn shorten_start(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(length + 1 - width).collect();
    format!("…{kept}")
}
