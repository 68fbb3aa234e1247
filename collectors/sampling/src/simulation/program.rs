//! Programs for the simulated interpreter: a function says, step by step, what it does next.

/// Nanoseconds of simulated time.
pub(super) type Nanoseconds = u64;

/// What a function does next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    /// Executes its own bytecode.
    Work(Nanoseconds),
    /// Calls a function of the program, with an argument: a new frame in the same evaluation loop, where the version can.
    Call(usize, u32),
    /// Calls it from C code: in an evaluation loop of its own.
    CallFromC(usize, u32),
    /// Creates the generator of this number, from a generator function.
    Create(usize, usize),
    /// Resumes the generator of this number, until it yields or returns.
    Resume(usize),
    /// Resumes it from C code, as `sum(generator)` does.
    ResumeFromC(usize),
    /// Gives control back to whoever resumed it.
    Yield,
    /// Returns.
    Return,
    /// Frees the code object of a function, compiles another one and puts it in its place, under a new name.
    Redefine(usize),
    /// The outermost function starts over: everything is as it was when it last did.
    Repeat,
}

impl Op {
    /// The instruction that does it, from 1: the same one whenever a function does the same.
    pub(super) fn instruction(self) -> Option<u64> {
        Some(match self {
            Self::Work(nanoseconds) => 1 + nanoseconds % 13,
            Self::Call(function, _) | Self::CallFromC(function, _) => 14 + function as u64 % 8,
            Self::Resume(number) | Self::ResumeFromC(number) => 22 + number as u64 % 8,
            _ => return None,
        })
    }
}

/// What a function does at its step number `step` (from 0), where it was called with `argument`.
pub(super) type Body = fn(step: u32, argument: u32) -> Op;

/// A function of a program.
#[derive(Debug, Clone, Copy)]
pub(super) struct FunctionSpec {
    pub(super) name: &'static str,
    pub(super) body: Body,
    /// Slots for locals and stack.
    pub(super) slots: u64,
    pub(super) generator: bool,
}

/// A program: its functions, of which the first is the outermost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) functions: &'static [FunctionSpec],
}

const fn function(name: &'static str, slots: u64, body: Body) -> FunctionSpec {
    FunctionSpec {
        name,
        body,
        slots,
        generator: false,
    }
}

const fn generator(name: &'static str, slots: u64, body: Body) -> FunctionSpec {
    FunctionSpec {
        name,
        body,
        slots,
        generator: true,
    }
}

/// Picks the step of a sequence that ends with [`Op::Return`].
fn sequence(step: u32, ops: &[Op]) -> Op {
    ops.get(step as usize).copied().unwrap_or(Op::Return)
}

/// Picks the step of a sequence that is repeated for ever.
fn cycle(step: u32, ops: &[Op]) -> Op {
    ops[step as usize % ops.len()]
}

use Op::{Call, CallFromC, Create, Redefine, Repeat, Resume, ResumeFromC, Work, Yield};

/// A loop that calls leaf functions of 30 to 50 ns, with uneven gaps between.
pub(super) const TINY_CALLS: Program = Program {
    name: "tiny calls",
    functions: &[
        function("main", 6, |step, _| {
            let ops = [
                Work(20),
                Call(1, 0),
                Work(15),
                Call(2, 0),
                Work(10),
                Call(3, 0),
                Work(45),
                Repeat,
            ];
            cycle(step, &ops)
        }),
        function("leaf30", 4, |step, _| sequence(step, &[Work(30)])),
        function("leaf50", 4, |step, _| sequence(step, &[Work(50)])),
        function("leaf40", 9, |step, _| sequence(step, &[Work(40)])),
    ],
};

/// Leaf functions of different length, one of them called from two places.
pub(super) const LEAVES: Program = Program {
    name: "leaves",
    functions: &[
        function("main", 6, |step, _| {
            let ops = [
                Work(150),
                Call(1, 0),
                Work(40),
                Call(2, 0),
                Work(300),
                Call(4, 0),
                Work(60),
                Call(3, 0),
                Repeat,
            ];
            cycle(step, &ops)
        }),
        function("short", 5, |step, _| sequence(step, &[Work(250)])),
        function("middle", 12, |step, _| sequence(step, &[Work(700)])),
        function("long", 3, |step, _| sequence(step, &[Work(1500)])),
        function("caller", 20, |step, _| {
            sequence(
                step,
                &[Work(100), Call(1, 0), Work(200), Call(1, 0), Work(30)],
            )
        }),
    ],
};

/// Two generators in turn, from different functions, and a third that is created anew each time.
pub(super) const GENERATORS: Program = Program {
    name: "generators",
    functions: &[
        function("main", 8, |step, _| {
            if step == 0 {
                return Create(0, 2);
            }
            if step == 1 {
                return Create(1, 3);
            }
            let ops = [
                Work(60),
                Resume(0),
                Work(80),
                Call(1, 0),
                Create(2, 4),
                Work(50),
                Resume(2),
                Work(40),
                Resume(2),
                Resume(2),
                Repeat,
            ];
            cycle(step - 2, &ops)
        }),
        function("helper", 7, |step, _| {
            sequence(step, &[Work(150), Resume(1), Work(90), Resume(1)])
        }),
        generator("a", 6, |step, _| cycle(step, &[Work(1800), Yield])),
        generator("b", 11, |step, _| {
            cycle(step, &[Work(400), Call(5, 0), Work(300), Yield])
        }),
        generator("c", 5, |step, _| {
            sequence(step, &[Work(600), Yield, Work(200), Yield, Work(100)])
        }),
        function("leaf", 4, |step, _| sequence(step, &[Work(500)])),
    ],
};

/// A generator that yields from another one, beside one that takes a few dozen nanoseconds a turn.
pub(super) const YIELD_FROM: Program = Program {
    name: "yield from",
    functions: &[
        function("main", 8, |step, _| {
            match step {
                0 => return Create(0, 1),
                1 => return Create(1, 2),
                2 => return Create(2, 3),
                3 => return Create(3, 4),
                _ => {}
            }
            let ops = [
                Work(50),
                Resume(0),
                Work(30),
                Resume(3),
                Work(20),
                Resume(3),
                Work(25),
                Resume(3),
                Repeat,
            ];
            cycle(step - 4, &ops)
        }),
        generator("outer", 6, |step, _| {
            cycle(step, &[Resume(1), Yield, Work(250), Resume(1), Yield])
        }),
        generator("middle", 7, |step, _| {
            cycle(step, &[Resume(2), Yield, Work(150)])
        }),
        generator("inner", 8, |step, _| cycle(step, &[Work(900), Yield])),
        generator("quick", 8, |step, _| cycle(step, &[Work(40), Yield])),
    ],
};

/// A recursion that calls itself twice, after a flat part.
pub(super) const RECURSION: Program = Program {
    name: "recursion",
    functions: &[
        function("main", 6, |step, _| {
            let ops = [Work(3000), Call(2, 0), Work(500), Call(1, 7), Repeat];
            cycle(step, &ops)
        }),
        function("fib", 8, |step, argument| match (step, argument) {
            (0, _) => Work(25),
            (1, 2..) => Call(1, argument - 1),
            (2, 2..) => Call(1, argument - 2),
            (3, 2..) => Work(20),
            _ => Op::Return,
        }),
        function("flat", 6, |step, _| sequence(step, &[Work(2000)])),
    ],
};

/// A recursion down over several chunks of the data stack, which calls itself twice on each of its lower levels, in turn
/// with a flat function.
pub(super) const CHUNKS: Program = Program {
    name: "chunks",
    functions: &[
        function("main", 6, |step, _| {
            let ops = [Work(4000), Call(1, 34), Work(2500), Call(3, 0), Repeat];
            cycle(step, &ops)
        }),
        function("descend", 120, |step, argument| match (step, argument) {
            (0, _) => Work(200),
            (1, 4..) => Call(1, argument - 1),
            (1, 1..) => Call(2, argument),
            (2, 1..) => Work(150),
            _ => Op::Return,
        }),
        function("spread", 120, |step, argument| match (step, argument) {
            (0, _) => Work(700),
            (1 | 2, 1..) => Call(2, argument - 1),
            (3, 1..) => Work(300),
            _ => Op::Return,
        }),
        function("flat", 6, |step, _| sequence(step, &[Work(9000)])),
    ],
};

/// Calls to and fro across the border of a chunk, which the program spends most of its time with mapping and unmapping.
pub(super) const ACROSS: Program = Program {
    name: "across",
    functions: &[
        function("main", 6, |step, _| {
            let ops = [Work(700), Call(1, 17), Repeat];
            cycle(step, &ops)
        }),
        // With these frames the first chunk is nearly full at the end of this one.
        function("approach", 97, |step, argument| match (step, argument) {
            (0, _) => Work(30),
            (1, 1..) => Call(1, argument - 1),
            (1..=15, 0) => {
                if step % 3 == 0 {
                    Work(200)
                } else {
                    Call(2, step)
                }
            }
            _ => Op::Return,
        }),
        function("across", 260, |step, _| sequence(step, &[Work(1200)])),
    ],
};

/// Two generators in turn, each a few microseconds.
pub(super) const ALTERNATING: Program = Program {
    name: "alternating",
    functions: &[
        function("main", 8, |step, _| {
            match step {
                0 => return Create(0, 1),
                1 => return Create(1, 2),
                _ => {}
            }
            let ops = [
                Work(700),
                Resume(0),
                Work(1200),
                Call(3, 1),
                Work(400),
                Resume(1),
                Repeat,
            ];
            cycle(step - 2, &ops)
        }),
        generator("ping", 6, |step, _| {
            cycle(step, &[Work(1500), Call(3, 0), Work(900), Yield])
        }),
        generator("pong", 9, |step, _| {
            cycle(step, &[Work(3100), Call(3, 2), Yield])
        }),
        function("helper", 5, |step, argument| {
            sequence(step, &[Work(600 + 200 * u64::from(argument))])
        }),
    ],
};

/// A loop that calls functions of 100 to 300 ns.
pub(super) const SHORT_CALLS: Program = Program {
    name: "short calls",
    functions: &[
        function("main", 6, |step, _| {
            let ops = [
                Work(60),
                Call(1, 0),
                Work(90),
                Call(2, 0),
                Work(75),
                Call(3, 0),
                Work(150),
                Call(1, 0),
                Repeat,
            ];
            cycle(step, &ops)
        }),
        function("leaf100", 4, |step, _| sequence(step, &[Work(100)])),
        function("leaf300", 4, |step, _| sequence(step, &[Work(300)])),
        function("leaf200", 9, |step, _| {
            sequence(step, &[Work(80), Call(1, 0), Work(120)])
        }),
    ],
};

/// Python functions that are called from C code.
pub(super) const THROUGH_C: Program = Program {
    name: "through C",
    functions: &[
        function("main", 6, |step, _| {
            if step == 0 {
                return Create(0, 4);
            }
            let ops = [
                Work(100),
                CallFromC(1, 0),
                Work(150),
                Call(2, 0),
                Work(70),
                ResumeFromC(0),
                Work(20),
                CallFromC(3, 0),
                Work(10),
                CallFromC(3, 0),
                Repeat,
            ];
            cycle(step - 1, &ops)
        }),
        function("key", 6, |step, _| {
            sequence(step, &[Work(300), CallFromC(2, 0), Work(120), Call(3, 0)])
        }),
        function("method", 9, |step, _| {
            sequence(step, &[Work(400), CallFromC(3, 0), Work(50)])
        }),
        function("leaf", 5, |step, _| sequence(step, &[Work(80)])),
        generator("items", 5, |step, _| cycle(step, &[Work(600), Yield])),
    ],
};

/// A function that is compiled anew, under another name and at the same address, again and again.
pub(super) const REDEFINITION: Program = Program {
    name: "redefinition",
    functions: &[
        function("main", 6, |step, _| {
            let ops = [
                Redefine(1),
                Work(2000),
                Call(1, 0),
                Work(300),
                Call(2, 0),
                Call(1, 0),
                Work(150_000),
                Repeat,
            ];
            cycle(step, &ops)
        }),
        function("defined", 6, |step, _| sequence(step, &[Work(40_000)])),
        function("stable", 6, |step, _| {
            sequence(step, &[Work(20_000), Call(1, 0)])
        }),
    ],
};

/// A deep stack with a flat loop at its end, in turn with a shallow one.
pub(super) const DEEP_AND_SHALLOW: Program = Program {
    name: "deep and shallow",
    functions: &[
        function("main", 6, |step, _| {
            let ops = [Call(1, 250), Work(100), Call(3, 0), Repeat];
            cycle(step, &ops)
        }),
        function("descend", 20, |step, argument| match (step, argument) {
            (0, _) => Work(15),
            (1, 1..) => Call(1, argument - 1),
            (1, 0) => Call(2, 0),
            _ => Op::Return,
        }),
        function("deep", 6, |step, _| sequence(step, &[Work(400_000)])),
        function("shallow", 6, |step, _| sequence(step, &[Work(500_000)])),
    ],
};

/// All of them.
pub(super) const ALL: [Program; 12] = [
    SHORT_CALLS,
    ALTERNATING,
    ACROSS,
    TINY_CALLS,
    LEAVES,
    GENERATORS,
    YIELD_FROM,
    RECURSION,
    CHUNKS,
    THROUGH_C,
    REDEFINITION,
    DEEP_AND_SHALLOW,
];
