//! Takes the tracer's own cost out of the times that it measured.
//!
//! To record a call takes time that is part of what is measured: some of it, from the reading of the clock at the beginning on and up to that at the
//! end, within the call itself, the rest within its caller. The agent measures both when it starts ([`Cost`]), and here they are
//! subtracted from every node's own time: for each of its calls what lies inside, for each call that it made what lies outside. So a
//! function that makes many short calls no longer seems to take the time that it took to count them. No time
//! becomes negative: where calls were cheaper than the estimate, the node keeps nothing rather than lend from others.

use pystrobe_calls::{Calls, Cost, Kind};

/// Own time of each node in nanoseconds, without what the tracer took.
pub(crate) fn corrected(calls: &Calls) -> Vec<u64> {
    let cost = calls.about.cost;
    let mut overhead: Vec<u64> = vec![0; calls.nodes.len()];
    let mut known_out: Vec<u64> = vec![0; calls.nodes.len()];
    for (index, node) in calls.nodes.iter().enumerate() {
        let Some(kind) = kind(calls, node.function) else {
            continue;
        };
        let (inside, outside) = parts(cost, kind);
        add(&mut overhead[index], node.calls, inside);
        if let Some(parent) = node.parent.map(|parent| parent as usize)
            && parent < index
        {
            add(&mut overhead[parent], node.calls, outside);
            known_out[parent] = known_out[parent].saturating_add(node.calls);
        }
    }
    // Calls that got no node happened wholly within this one. What they were is not known, so they count as the cheaper kind.
    let folded_cost = cost.python_ns.min(cost.builtin_ns);
    let nodes = calls.nodes.iter().zip(overhead).zip(known_out);
    nodes
        .map(|((node, mut overhead), known_out)| {
            let folded = node.calls_out.saturating_sub(known_out);
            add(&mut overhead, folded, folded_cost);
            node.own_ns.saturating_sub(overhead)
        })
        .collect()
}

fn kind(calls: &Calls, function: Option<u32>) -> Option<Kind> {
    let function = calls.functions.get(function? as usize)?;
    Some(function.kind)
}

/// What a call costs within itself, and within its caller.
fn parts(cost: Cost, kind: Kind) -> (u64, u64) {
    let (whole, inside) = match kind {
        Kind::Python => (cost.python_ns, cost.python_inside_ns),
        Kind::Builtin => (cost.builtin_ns, cost.builtin_inside_ns),
    };
    (inside, whole.saturating_sub(inside))
}

fn add(overhead: &mut u64, calls: u64, each: u64) {
    *overhead = overhead.saturating_add(calls.saturating_mul(each));
}

#[cfg(test)]
mod tests {
    use pystrobe_calls::Node;

    use super::*;
    use crate::recording::tests::{calls, function, node};

    const COST: Cost = Cost {
        python_ns: 50,
        python_inside_ns: 20,
        builtin_ns: 30,
        builtin_inside_ns: 5,
    };

    fn of(nodes: Vec<Node>) -> Vec<u64> {
        let functions = vec![
            function("a.py", "f", Kind::Python),
            function("~", "<built-in method builtins.len>", Kind::Builtin),
        ];
        let mut calls = calls(functions, nodes);
        calls.about.cost = COST;
        corrected(&calls)
    }

    #[test]
    fn each_pays_for_its_part() {
        let nodes = vec![
            node(None, None, 0, 0),
            node(Some(0), Some(0), 1, 10_000),
            node(Some(1), Some(0), 10, 1_000),
            node(Some(1), Some(1), 100, 2_000),
        ];
        assert_eq!(
            of(nodes),
            [
                0,
                10_000 - 20 - 10 * (50 - 20) - 100 * (30 - 5),
                1_000 - 10 * 20,
                2_000 - 100 * 5
            ]
        );
    }

    #[test]
    fn folded_calls_lie_wholly_within_their_caller() {
        let caller = Node {
            calls_out: 7,
            ..node(Some(0), Some(0), 1, 10_000)
        };
        assert_eq!(
            of(vec![node(None, None, 0, 0), caller])[1],
            10_000 - 20 - 7 * 30
        );
    }

    #[test]
    fn no_time_is_below_zero() {
        let nodes = vec![
            node(None, None, 0, 0),
            node(Some(0), Some(0), u64::MAX, 100),
            node(Some(1), Some(1), u64::MAX, 100),
        ];
        assert_eq!(of(nodes), [0, 0, 0]);
    }
}
