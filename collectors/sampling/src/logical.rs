//! The time of asyncio tasks: what a thread's stack stands on while it runs one, and the stacks of those that wait.

use pystrobe_profile::{Clocks, Frame, Node, NodeId, Observation};

use crate::sampler::Nodes;
use crate::tasks::Joined;

/// What was told of a thread's tasks.
#[derive(Debug, Default)]
pub(crate) struct LogicalTrack {
    /// The edition that the nodes are of; 0 where there was none.
    edition: u64,
    /// The nodes of the frames, in their order.
    nodes: Vec<NodeId>,
    /// Where tasks wait, how many do there, and what was seen of them since they came there.
    waiting: Vec<(u64, Observation)>,
    /// The number of the last sample.
    sample: u64,
}

impl LogicalTrack {
    /// Notes where the tasks are in a sample, by its number and the nanoseconds that it stands for; `below` is the thread's foot.
    /// Gives what the thread's own stack stands on if it runs a task, and how many of its frames that replaces.
    ///
    /// A waiting task has wall time only: it is on no processor and holds no lock, whatever its thread does.
    pub(crate) fn see(
        &mut self,
        joined: Option<&Joined>,
        (foot, nodes): (NodeId, &mut Nodes<'_>),
        (sample, weight): (u64, u64),
        observations: &mut Vec<Observation>,
    ) -> Option<(NodeId, usize)> {
        // As with threads, half of the time since the sample before is given to where the tasks were then.
        let mut share = weight;
        if self.sample + 1 == sample {
            share = weight - weight / 2;
            self.wait(weight / 2, 0);
        }
        self.sample = sample;
        let edition = joined.map_or(0, |joined| joined.edition);
        if edition != self.edition {
            self.hand_out(observations);
            self.edition = edition;
            self.nodes.clear();
            self.waiting.clear();
            if let Some(joined) = joined {
                self.describe(joined, foot, nodes);
            }
        }
        self.wait(share, 1);
        let (frame, start) = joined?.running?;
        let node = self.nodes.get(usize::try_from(frame).ok()?)?;
        Some((*node, start))
    }

    /// Hands out what was seen so far.
    pub(crate) fn hand_out(&mut self, observations: &mut Vec<Observation>) {
        for (_, seen) in &mut self.waiting {
            if seen.nanoseconds.wall > 0 || seen.samples.wall > 0 {
                observations.push(std::mem::replace(seen, nothing(seen.node)));
            }
        }
    }

    fn describe(&mut self, joined: &Joined, foot: NodeId, nodes: &mut Nodes<'_>) {
        for frame in &joined.frames {
            let parent = frame.parent.and_then(|parent| {
                let parent = usize::try_from(parent).ok()?;
                self.nodes.get(parent).copied()
            });
            self.nodes.push(nodes.id(Node {
                parent: Some(parent.unwrap_or(foot)),
                frame: Frame::Call {
                    function: frame.function,
                    line: frame.line,
                },
            }));
        }
        let waiting = joined.waiting.iter();
        let places = waiting.filter_map(|frame| self.nodes.get(usize::try_from(*frame).ok()?));
        let mut places: Vec<NodeId> = places.copied().collect();
        places.sort_unstable();
        let together = places.chunk_by(|one, other| one == other);
        self.waiting.extend(
            together.filter_map(|tasks| Some((tasks.len() as u64, nothing(*tasks.first()?)))),
        );
    }

    fn wait(&mut self, nanoseconds: u64, samples: u64) {
        for (tasks, seen) in &mut self.waiting {
            seen.nanoseconds += waited(nanoseconds * *tasks);
            seen.samples += waited(samples * *tasks);
        }
    }
}

/// Wall time, all of it spent waiting.
fn waited(number: u64) -> Clocks {
    Clocks {
        waiting: number,
        ..Clocks::of_wall(number)
    }
}

fn nothing(node: NodeId) -> Observation {
    Observation {
        node,
        nanoseconds: Clocks::default(),
        samples: Clocks::default(),
    }
}
