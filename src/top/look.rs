//! One look at a recording: the numbers as they were at that moment. A paused view keeps one and goes on
//! sorting and filtering it.

use std::time::Duration;

use pystrobe_profile::{Counters, Function, Profile, ThreadId, TreeIndex, escape};

use super::load::Load;
use super::recent::Recent;

/// Which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    /// A decaying mean over the last seconds.
    Now,
    /// All since the recording began or was reset.
    Start,
}

/// Which of a function's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// In the function itself.
    Own,
    /// In it and what it calls.
    Cumulative,
}

/// The numbers of one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// Per node: nanoseconds on top, since the start and now.
    start: Vec<f64>,
    now: Vec<f64>,
    /// How the recording went.
    pub(super) counters: Counters,
    /// Seconds since the start.
    pub(super) elapsed: f64,
    /// Samples a second, now.
    pub(super) rate: f64,
    /// How busy the process is.
    pub(super) load: Load,
    /// The threads' names, as `ThreadId` numbers them.
    pub(super) threads: Vec<String>,
}

impl Look {
    /// Looks at a recording that has lasted for `elapsed` and was counted so.
    pub(super) fn at(
        profile: &Profile,
        counters: Counters,
        elapsed: Duration,
        recent: &Recent,
        load: Load,
    ) -> Look {
        let tree = profile.tree();
        Look {
            start: tree
                .ids()
                .map(|id| tree.own(id).nanoseconds as f64)
                .collect(),
            now: recent.own().to_vec(),
            counters,
            elapsed: elapsed.as_secs_f64(),
            rate: recent.rate(),
            load,
            threads: profile.thread_names(),
        }
    }

    /// Per node: nanoseconds on top.
    pub(super) fn own(&self, period: Period) -> &[f64] {
        match period {
            Period::Now => &self.now,
            Period::Start => &self.start,
        }
    }
}

/// What a function is called, made once for each.
#[derive(Debug, Clone)]
pub(super) struct Label {
    /// Its qualified name where there is one.
    pub(super) name: String,
    /// `file:line` of its definition.
    pub(super) place: String,
    /// Both in lower case, which is what a filter is looked for in.
    searched: String,
}

impl Label {
    /// Of a function; what comes from the target cannot drive the terminal.
    pub(super) fn of(function: &Function) -> Label {
        let name = match function.qualified_name.as_str() {
            "" => &function.name,
            qualified => qualified,
        };
        let name = escape(name).into_owned();
        let place = format!("{}:{}", escape(&function.file), function.first_line);
        let searched = format!("{name} {place}").to_lowercase();
        Label {
            name,
            place,
            searched,
        }
    }
}

/// A function and its times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    /// Position of the function.
    pub(super) function: usize,
    /// Now.
    pub(super) now: Times,
    /// Since the start.
    pub(super) start: Times,
}

/// Nanoseconds, and their share of all time of the threads that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Times {
    /// In the function itself.
    pub(super) own: f64,
    /// In it and what it calls.
    pub(super) cumulative: f64,
    /// 0 to 1.
    pub(super) own_share: f64,
    /// 0 to 1.
    pub(super) cumulative_share: f64,
}

impl Row {
    /// The times of a period.
    pub(super) fn times(&self, period: Period) -> Times {
        match period {
            Period::Now => self.now,
            Period::Start => self.start,
        }
    }
}

/// What is asked of a look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// Only this thread.
    pub(super) thread: Option<ThreadId>,
    /// Only functions with this in their name or place, in any case.
    pub(super) filter: &'a str,
    /// What comes first.
    pub(super) period: Period,
    /// What comes first.
    pub(super) order: Order,
}

impl Question<'_> {
    /// Whether a thread is meant.
    pub(super) fn chooses(&self, thread: ThreadId) -> bool {
        self.thread.is_none_or(|chosen| chosen == thread)
    }
}

/// The functions that took any time, the first first.
pub(super) fn rows(
    look: &Look,
    index: &TreeIndex,
    labels: &[Label],
    question: &Question<'_>,
) -> Vec<Row> {
    let keep = |thread| question.chooses(thread);
    let times = |period: Period| {
        let own = look.own(period);
        let of_functions = index.functions(labels.len(), own, keep);
        let all: f64 = own
            .iter()
            .enumerate()
            .filter(|(node, _)| keep(index.thread(*node)))
            .map(|(_, own)| own)
            .sum();
        let share = move |part: f64| if all > 0.0 { part / all } else { 0.0 };
        of_functions.into_iter().map(move |time| Times {
            own: time.own,
            cumulative: time.cumulative,
            own_share: share(time.own),
            cumulative_share: share(time.cumulative),
        })
    };
    let wanted = question.filter.to_lowercase();
    let mut rows: Vec<Row> = times(Period::Now)
        .zip(times(Period::Start))
        .enumerate()
        .map(|(function, (now, start))| Row {
            function,
            now,
            start,
        })
        .filter(|row| row.start.cumulative > 0.0)
        .filter(|row| labels[row.function].searched.contains(&wanted))
        .collect();
    // Where the chosen time is the same, the rest decides, so that rows keep their places.
    let key = |row: &Row| {
        let (chosen, other) = (row.times(question.period), row.start);
        match question.order {
            Order::Own => (chosen.own, chosen.cumulative, other.own),
            Order::Cumulative => (chosen.cumulative, chosen.own, other.cumulative),
        }
    };
    rows.sort_by(|a, b| {
        let (a_key, b_key) = (key(a), key(b));
        b_key
            .0
            .total_cmp(&a_key.0)
            .then(b_key.1.total_cmp(&a_key.1))
            .then(b_key.2.total_cmp(&a_key.2))
            .then(a.function.cmp(&b.function))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::example;

    fn names(filter: &str, thread: Option<u32>, period: Period, order: Order) -> Vec<String> {
        let builder = example::two_threads();
        let profile = builder.so_far();
        let mut recent = Recent::default();
        recent.advance(profile.tree(), &builder.counters(), 9_000_000_000);
        let mut builder = builder.clone();
        // Later `render` is all there is.
        builder.apply(&example::more(5, 1_000_000_000)).unwrap();
        let profile = builder.so_far();
        recent.advance(profile.tree(), &builder.counters(), 49_000_000_000);
        let look = Look::at(
            profile,
            builder.counters(),
            Duration::ZERO,
            &recent,
            Load::default(),
        );
        let mut index = TreeIndex::default();
        index.update(profile.tree());
        let labels: Vec<Label> = profile.functions().iter().map(Label::of).collect();
        let question = Question {
            thread: thread.map(ThreadId),
            filter,
            period,
            order,
        };
        rows(&look, &index, &labels, &question)
            .iter()
            .map(|row| {
                let times = row.times(period);
                let (own, cumulative) = (times.own_share * 100.0, times.cumulative_share * 100.0);
                format!("{} {own:.0} {cumulative:.0}", labels[row.function].name)
            })
            .collect()
    }

    #[test]
    fn rows_are_in_the_order_asked_for() {
        let by_own = names("", None, Period::Start, Order::Own);
        assert_eq!(
            by_own,
            [
                "Class.parse 62 62",
                "Class.render 38 38",
                "Class.main 0 100"
            ]
        );
        let by_cumulative = names("", None, Period::Start, Order::Cumulative);
        assert_eq!(by_cumulative[0], "Class.main 0 100");
        let now = names("", None, Period::Now, Order::Own);
        assert_eq!(now[0], "Class.render 100 100");
    }

    #[test]
    fn a_filter_finds_names_and_places_in_any_case() {
        assert_eq!(names("PARSE", None, Period::Start, Order::Own).len(), 1);
        assert_eq!(names("app/rend", None, Period::Start, Order::Own).len(), 1);
        assert_eq!(names("srv", None, Period::Start, Order::Own).len(), 3);
        assert!(names("nothing", None, Period::Start, Order::Own).is_empty());
    }

    #[test]
    fn one_thread_is_the_whole_of_its_own_time() {
        assert_eq!(
            names("", Some(1), Period::Start, Order::Own),
            ["Class.render 100 100", "Class.main 0 100"]
        );
        assert!(names("", Some(9), Period::Start, Order::Own).is_empty());
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        let label = Label::of(&Function {
            file: String::from("a\x1b[2J.py"),
            first_line: 1,
            name: String::from("f\ng"),
            qualified_name: String::new(),
        });
        assert_eq!((&*label.name, &*label.place), ("f\\ng", "a\\x1b[2J.py:1"));
    }
}
