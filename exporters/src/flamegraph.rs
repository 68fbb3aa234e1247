//! Flame graphs as SVG, drawn by inferno.
//!
//! inferno is given every weight as folded stacks have it: with its `factor` the percentages come out
//! wrong.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use inferno::flamegraph::color::MultiPalette;
use inferno::flamegraph::{Options, Palette, from_lines};
use pystrobe_profile::{Clock, Profile, Weights, escape};

use crate::Style;
use crate::folded::Rounding;
use crate::labels::{Labelled, NO_FRAME};

/// Stacks with more levels lose their middle: 1,024 levels are 16,000 pixels, and Python's own limit
/// for recursion is 1,000.
const MAX_LEVELS: usize = 1024;

/// Fewer levels are never drawn.
const MIN_LEVELS: usize = 32;

/// Frames narrower than this share of the whole are not drawn, nor given to inferno, which
/// has the same limit (in percent).
const MIN_SHARE: f64 = 1e-4;

/// How much text inferno is given at most, as far as leaving out levels can help it.
const MAX_TEXT: usize = 64 << 20;

/// The longest command in the title, in characters.
const MAX_TITLE: usize = 100;

pub(crate) fn write(profile: &Profile, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let labelled = Labelled::new(profile, style);
    let tops = tops(&labelled);
    let mut levels = MAX_LEVELS;
    let stacks = loop {
        match stacks(&labelled, &tops, levels) {
            Some(stacks) => break stacks,
            None => levels /= 2,
        }
    };
    let mut rounding = Rounding::of(profile.recording().counted);
    let mut lines: Vec<String> = stacks
        .into_iter()
        .map(|(stack, own)| line(&labelled, &stack, rounding.weight(own)))
        .collect();
    drop(labelled);
    // The stacks are in the order of the tree, and inferno only takes an order other than that of the
    // lines as strings (in which one label can tear the frames of another apart) as a "flame
    // chart", which it reads backwards.
    lines.reverse();

    let mut options = Options::default();
    options.colors = Palette::Multi(MultiPalette::Python);
    options.deterministic = true;
    options.flame_chart = true;
    options.count_name = rounding.unit().to_owned();
    options.title = title(profile);
    options.subtitle = Some(subtitle(profile));
    let mut out = BufWriter::new(out);
    from_lines(&mut options, lines.iter().map(String::as_str), &mut out)?;
    out.flush()
}

/// Where stacks end, with the time there: a node, and what is on top of it instead of a frame.
struct Top {
    node: usize,
    instead: Option<u32>,
    own: Weights,
}

/// The ends of the stacks that are wide enough to be drawn. What is narrower belongs to its caller.
fn tops(labelled: &Labelled) -> Vec<Top> {
    let tree = &labelled.tree;
    let totals = tree.totals();
    let least = (totals[0].nanoseconds as f64 * MIN_SHARE) as u64;
    let is_drawn = |node: usize| node == 0 || totals[node].nanoseconds >= least;
    // The callees of a node that are narrower than it may be are drawn as the node itself.
    let mut narrow = vec![Weights::default(); tree.node_count()];
    for (node, &total) in totals.iter().enumerate() {
        if let Some(parent) = tree.parent(node)
            && is_drawn(parent)
            && !is_drawn(node)
        {
            narrow[parent] += total;
        }
    }
    let mut tops = Vec::new();
    let mut add = |node, instead, own: Weights| {
        if !own.is_zero() {
            tops.push(Top { node, instead, own });
        }
    };
    for node in (0..tree.node_count()).filter(|&node| is_drawn(node)) {
        if labelled.is_foot(node) {
            add(node, Some(NO_FRAME_KEY), tree.own(node));
            add(node, Some(NARROW_KEY), narrow[node]);
        } else {
            let mut own = tree.own(node);
            own += narrow[node];
            add(node, None, own);
        }
    }
    tops
}

/// Stacks with the time on top of each: keys of labels from the bottom up, in the order of the tree.
type Stacks = BTreeMap<Vec<u32>, Weights>;

/// The stacks with at most so many levels. `None` when they are more text than inferno is to be
/// given, and fewer levels would help.
fn stacks(labelled: &Labelled, tops: &[Top], levels: usize) -> Option<Stacks> {
    let tree = &labelled.tree;
    let outer = levels / 2;
    let mut depths = vec![0; tree.node_count()];
    // Per node: itself, or its ancestor at the last level before the middle that may be left out.
    let mut outers: Vec<usize> = (0..tree.node_count()).collect();
    for node in 1..tree.node_count() {
        if let Some(parent) = tree.parent(node) {
            depths[node] = depths[parent] + 1;
            if depths[node] > outer {
                outers[node] = outers[parent];
            }
        }
    }

    let mut stacks = Stacks::new();
    let mut text = 0;
    for top in tops {
        let mut stack: Vec<u32> = top.instead.into_iter().collect();
        let mut at = top.node;
        if depths[at] > levels {
            for _ in 0..levels - outer - 1 {
                stack.push(tree.key(at));
                at = tree.parent(at).unwrap_or(0);
            }
            stack.push(LEFT_OUT_KEY);
            at = outers[at];
        }
        while let Some(parent) = tree.parent(at) {
            stack.push(tree.key(at));
            at = parent;
        }
        stack.reverse();
        let length: usize = stack
            .iter()
            .map(|&key| label(labelled, key).len() + 1)
            .sum();
        let seen = stacks.entry(stack).or_insert_with(|| {
            text += length;
            Weights::default()
        });
        *seen += top.own;
        if text > MAX_TEXT && levels > MIN_LEVELS {
            return None;
        }
    }
    Some(stacks)
}

// Keys after those of all labels: what is drawn where there is no frame to draw.
const LEFT_OUT_KEY: u32 = u32::MAX - 2;
const NARROW_KEY: u32 = u32::MAX - 1;
const NO_FRAME_KEY: u32 = u32::MAX;

fn label(labelled: &Labelled, key: u32) -> &str {
    match key {
        LEFT_OUT_KEY => "(levels left out)",
        NARROW_KEY => "(too narrow to draw)",
        NO_FRAME_KEY => NO_FRAME,
        key => &labelled.labels[key as usize],
    }
}

fn line(labelled: &Labelled, stack: &[u32], weight: u64) -> String {
    let mut line = String::new();
    for &key in stack {
        line.push_str(label(labelled, key));
        line.push(';');
    }
    line.pop();
    line.push_str(&format!(" {weight}"));
    line
}

fn title(profile: &Profile) -> String {
    let command = escape(&profile.recording().command);
    let mut title: String = command.chars().take(MAX_TITLE).collect();
    if title.len() < command.len() {
        title.push('…');
    }
    if title.is_empty() {
        title.push_str("Flame graph");
    }
    title
}

fn subtitle(profile: &Profile) -> String {
    let recording = profile.recording();
    let total = profile.tree().total();
    let clock = match profile.clock() {
        Clock::Wall => String::new(),
        clock => format!(" of {} time", clock.name()),
    };
    let more = match profile.seen_processes().len() {
        0 | 1 => String::new(),
        processes => format!(" and {} more", processes - 1),
    };
    format!(
        "PID {}{more}, Python {}: {} {}, {:.2} s{clock}",
        recording.pid,
        escape(&recording.python),
        recording.counters.taken,
        recording.counted.name(),
        total.nanoseconds as f64 / 1e9,
    )
}
