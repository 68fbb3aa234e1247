//! Samples a simulated program, and compares what the sampler says with what happened.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use pystrobe_profile::{Batch, Frame, Function, Node};
use rustc_hash::FxHashMap;

use super::machine::{Machine, NANOSECOND};
use super::program::Program;
use super::remote::{Costs, Remote};
use super::truth::Path;
use crate::discovery::Roots;
use crate::layout::Layout;
use crate::sampler::Sampler;
use crate::stacks::Stacks;

/// When samples are taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// About so many nanoseconds apart. Whole rounds of the program between two samples are left out, as
    /// they are all the same; where in its round the program is, is spread evenly.
    Interval(u64),
    /// One right after the other.
    FullSpeed,
}

/// What is sampled, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    pub(super) program: Program,
    pub(super) layout: Layout,
    pub(super) costs: Costs,
    pub(super) pace: Pace,
    pub(super) samples: u64,
    pub(super) seed: u64,
    /// Whether the sampler walks to the foot each time.
    pub(super) walks_whole: bool,
}

/// What came of it. Rates are shares of the samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    /// Of each function: its name, its true own share of the time, and the one that the sampler found.
    pub(super) functions: Vec<(&'static str, f64, f64)>,
    /// Largest error of a function's own share.
    pub(super) error: f64,
    /// Largest error of the share of any one stack.
    pub(super) stack_error: f64,
    /// Share of the time that was given to stacks which the program cannot have.
    pub(super) impossible: f64,
    /// Share of the time that was given to cut stacks.
    pub(super) cut: f64,
    pub(super) truncated: f64,
    pub(super) repaired: f64,
    pub(super) lost: f64,
    pub(super) calls: f64,
    /// Samples that name a generation of a function which was not there during the sample.
    pub(super) misnamed: u64,
    pub(super) confusion: FxHashMap<[String; 4], u64>,
    /// An impossible stack, as an example.
    pub(super) example: String,
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "err {:.4} stack-err {:.4} impossible {:.4} cut {:.4} trunc {:.4} rep {:.3} lost {:.4} calls {:.3} misnamed {}",
            self.error,
            self.stack_error,
            self.impossible,
            self.cut,
            self.truncated,
            self.repaired,
            self.lost,
            self.calls,
            self.misnamed
        )?;
        if !self.example.is_empty() {
            write!(to, " e.g. {}", self.example)?;
        }
        Ok(())
    }
}

/// Rounds of a program before its first sample.
const WARM_UP: u64 = 12;
/// Samples before the first one that counts: code objects are read, and the plan is made.
const SETTLING: u64 = 40;

impl Trial {
    pub(super) fn run(&self) -> Report {
        let mut machine = Machine::new(self.program, self.layout);
        run_until_repeat(&mut machine, WARM_UP);
        let began = machine.now;
        machine.truth.restart(began);
        run_until_repeat(&mut machine, WARM_UP + 4);
        let period = (machine.now - began) / 4;
        machine.truth.count(machine.now);
        let round: Vec<(Path, f64)> = machine.truth.shares().collect();
        let origin = machine.now;

        let roots = Roots::Runtime(machine.objects.runtime);
        let code_type = Some(machine.objects.code_type);
        let machine = Rc::new(RefCell::new(machine));
        let mut costs = self.costs;
        match self.pace {
            // The moments are spread evenly; chance would only blur them.
            Pace::Interval(_) => costs.unsteady = 0,
            // Else samples and program could fall into step.
            Pace::FullSpeed => machine.borrow_mut().unsteady = 15,
        }
        machine.borrow_mut().stall = costs.stall * NANOSECOND;
        let remote = Remote::new(Rc::clone(&machine), costs, self.seed);
        let calls = Rc::clone(&remote.calls);
        let moments = Rc::clone(&remote.moments);
        let mut stacks = Stacks::new(remote, self.layout, roots, code_type);
        stacks.walks_whole = self.walks_whole;
        let mut sampler = Sampler::new(0, stacks, None);
        let mut random = fastrand::Rng::with_seed(!self.seed);
        let mut tally = Tally::new(self.program);
        let mut last: Option<u64> = None;
        let mut settled_at = 0;
        for sample in 0..SETTLING + self.samples {
            let now = machine.borrow().now;
            let (start, skipped) = match self.pace {
                Pace::Interval(nanoseconds) => {
                    // Evenly spread moments in the round: multiples of the golden section.
                    let place = (sample as f64 * 0.618_033_988_749_895).fract();
                    let place = (place * period as f64) as u64;
                    // What the sample before has delayed is over by then.
                    let now = now + 2 * period;
                    machine.borrow_mut().advance(now);
                    let delayed = machine.borrow_mut().forget_readers();
                    let round_start = now - (now - delayed - origin) % period;
                    let mut start = round_start + place;
                    while start < now {
                        start += period;
                    }
                    (start, (nanoseconds * NANOSECOND / period) * period)
                }
                Pace::FullSpeed => (now + random.u64(200..900) * NANOSECOND, 0),
            };
            machine.borrow_mut().advance(start);
            if sample == SETTLING {
                machine.borrow_mut().truth.restart(start);
                sampler.take_batch(Duration::ZERO);
                *calls.borrow_mut() = 0;
                tally.restart();
                settled_at = start;
            }
            let weight = last.map_or(0, |last| start - last + skipped);
            last = Some(start);
            let before = machine.borrow().generations.clone();
            // Counted in picoseconds, as if they were nanoseconds, so that nothing is rounded.
            moments.borrow_mut().clear();
            let taken = sampler.sample(Duration::from_nanos(weight));
            tally.lost += u64::from(taken.is_err());
            let batch = sampler.take_batch(Duration::ZERO);
            let machine = machine.borrow();
            let said = batch
                .observations
                .iter()
                .rev()
                .find(|seen| seen.samples.wall > 0);
            let said = said.map(|seen| seen.node.index());
            tally.add(batch, &machine, &before);
            if sample >= SETTLING {
                tally.compare(&moments.borrow(), said, &machine);
            }
        }
        let mut machine = machine.borrow_mut();
        let now = machine.now;
        machine.truth.count(now);
        let truth = match self.pace {
            Pace::Interval(_) => round,
            Pace::FullSpeed => machine.truth.shares().collect(),
        };
        assert!(now > settled_at);
        let samples = self.samples as f64;
        let calls = *calls.borrow() as f64 / samples;
        tally.report(&machine, &truth, samples, calls)
    }
}

fn run_until_repeat(machine: &mut Machine, repeats: u64) {
    while machine.repeats < repeats {
        let next = machine.next_moment();
        machine.advance(next);
    }
}

/// What the sampler said so far.
struct Tally {
    program: Program,
    functions: Vec<Function>,
    nodes: Vec<Node>,
    paths: FxHashMap<usize, Seen>,
    /// Weight by what it was given to.
    weights: FxHashMap<Seen, u64>,
    truncated: u64,
    repaired: u64,
    base: (u64, u64),
    lost: u64,
    misnamed: u64,
    example: String,
    /// How often the stack was this one at the moment of the first region, that one at the next, and at the end, and what
    /// the sampler said then.
    confusion: FxHashMap<[String; 4], u64>,
}

/// What a node of the sampler's call tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Seen {
    Stack(Path),
    /// With the function on top.
    Impossible(usize),
    /// With the function on top.
    Cut(usize),
}

impl Tally {
    fn new(program: Program) -> Self {
        Self {
            program,
            functions: Vec::new(),
            nodes: Vec::new(),
            paths: FxHashMap::default(),
            weights: FxHashMap::default(),
            truncated: 0,
            repaired: 0,
            base: (0, 0),
            lost: 0,
            misnamed: 0,
            example: String::new(),
            confusion: FxHashMap::default(),
        }
    }

    fn compare(&mut self, moments: &[Path], said: Option<usize>, machine: &Machine) {
        let name = |path: Option<&Path>| {
            let functions = path.map_or_else(Vec::new, |path| machine.truth.functions(*path));
            let names: Vec<String> = functions
                .iter()
                .map(|&function| self.program.functions[function].name.to_string())
                .collect();
            shorten(&names)
        };
        let key = [
            name(moments.first()),
            name(moments.get(2)),
            name(moments.last()),
            said.map_or_else(String::new, |node| shorten(&self.names(node))),
        ];
        if key[0] != key[3] {
            *self.confusion.entry(key).or_default() += 1;
        }
    }

    fn restart(&mut self) {
        self.weights.clear();
        self.base = (self.truncated, self.repaired);
        self.misnamed = 0;
        self.lost = 0;
        self.example.clear();
    }

    fn add(&mut self, batch: Batch, machine: &Machine, before: &[u32]) {
        self.functions.extend(batch.functions);
        self.nodes.extend(batch.nodes);
        self.truncated = batch.counters.truncated;
        self.repaired = batch.counters.repaired;
        for seen in batch.observations {
            let node = seen.node.index();
            let names = self.names(node);
            for name in names.iter().filter(|_| seen.samples.wall > 0) {
                if let Some((function, generation)) = self.number(name)
                    && !(before[function]..=machine.generations[function]).contains(&generation)
                {
                    self.misnamed += 1;
                }
            }
            let what = match self.paths.get(&node) {
                Some(&what) => what,
                None => {
                    let what = self.judge(&names, machine);
                    self.paths.insert(node, what);
                    what
                }
            };
            if let (Seen::Impossible(_), true) = (what, self.example.is_empty()) {
                self.example = shorten(&names);
            }
            *self.weights.entry(what).or_default() += seen.nanoseconds.wall;
        }
    }

    /// The names on a stack, outermost first.
    fn names(&self, node: usize) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = Some(node);
        while let Some(at) = next {
            if let Frame::Call { function, .. } = self.nodes[at].frame {
                names.push(self.functions[function.index()].name.clone());
            }
            next = self.nodes[at].parent.map(|parent| parent.index());
        }
        names.reverse();
        names
    }

    /// A function of the program, and how often it was compiled anew.
    fn number(&self, name: &str) -> Option<(usize, u32)> {
        let (name, generation) = name.split_once('#').unwrap_or((name, "0"));
        let function = self
            .program
            .functions
            .iter()
            .position(|each| each.name == name)?;
        Some((function, generation.parse().ok()?))
    }

    fn judge(&self, names: &[String], machine: &Machine) -> Seen {
        let numbers: Option<Vec<usize>> = names
            .iter()
            .map(|name| self.number(name).map(|(function, _)| function))
            .collect();
        let top = names
            .last()
            .and_then(|name| self.number(name))
            .map_or(usize::MAX, |(function, _)| function);
        match numbers {
            None => Seen::Cut(top),
            Some(numbers) => match machine.truth.find(&numbers) {
                Some(path) => Seen::Stack(path),
                None => Seen::Impossible(top),
            },
        }
    }

    fn report(&self, machine: &Machine, truth: &[(Path, f64)], samples: f64, calls: f64) -> Report {
        let total: u64 = self.weights.values().sum();
        let share = |weight: u64| weight as f64 / total.max(1) as f64;
        let mut report = Report {
            truncated: (self.truncated - self.base.0) as f64 / samples,
            repaired: (self.repaired - self.base.1) as f64 / samples,
            lost: self.lost as f64 / samples,
            calls,
            misnamed: self.misnamed,
            example: self.example.clone(),
            confusion: self.confusion.clone(),
            ..Report::default()
        };
        let mut own: Vec<(f64, f64)> = vec![(0.0, 0.0); self.program.functions.len()];
        for &(path, true_share) in truth {
            let seen = share(*self.weights.get(&Seen::Stack(path)).unwrap_or(&0));
            report.stack_error = report.stack_error.max((seen - true_share).abs());
            if let Some(function) = machine.truth.function(path) {
                own[function].0 += true_share;
            }
        }
        for (what, weight) in &self.weights {
            let function = match *what {
                Seen::Stack(path) => machine.truth.function(path).unwrap_or(usize::MAX),
                Seen::Impossible(function) => {
                    report.impossible += share(*weight);
                    function
                }
                Seen::Cut(function) => {
                    report.cut += share(*weight);
                    function
                }
            };
            if let Some(own) = own.get_mut(function) {
                own.1 += share(*weight);
            }
        }
        for (spec, (truth, seen)) in self.program.functions.iter().zip(own) {
            report.error = report.error.max((seen - truth).abs());
            report.functions.push((spec.name, truth, seen));
        }
        report
    }
}

/// The names of a stack, with the number of frames of the same function one on the other.
fn shorten(names: &[String]) -> String {
    let mut runs: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match runs.last_mut() {
            Some((last, count)) if last == name => *count += 1,
            _ => runs.push((name, 1)),
        }
    }
    let shown: Vec<String> = runs
        .iter()
        .map(|(name, count)| format!("{name}*{count}"))
        .collect();
    shown.join(" < ")
}
