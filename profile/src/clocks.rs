//! The clocks of a recording: which part of the time that passed counts.
//!
//! A recording keeps all of them side by side, so that the clock can be chosen afterwards. Garbage
//! collection is none of them: it is a frame of its own, on top of the stack.

use std::ops::AddAssign;

use crate::Weights;

/// What a profile's times and samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Clock {
    /// Time that passed.
    #[default]
    Wall,
    /// Time that passed while the thread did not wait.
    Active,
    /// Time on a CPU.
    Cpu,
    /// Time with the GIL held.
    Gil,
    /// Time spent waiting for the GIL.
    GilWait,
    /// Time in which an exception was being handled.
    Exception,
}

impl Clock {
    /// All clocks.
    pub const ALL: [Clock; 6] = [
        Clock::Wall,
        Clock::Active,
        Clock::Cpu,
        Clock::Gil,
        Clock::GilWait,
        Clock::Exception,
    ];

    /// One word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Clock::Wall => "wall",
            Clock::Active => "active",
            Clock::Cpu => "cpu",
            Clock::Gil => "gil",
            Clock::GilWait => "gil-wait",
            Clock::Exception => "exception",
        }
    }

    /// The clock of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Clock> {
        Clock::ALL.into_iter().find(|clock| clock.name() == name)
    }
}

/// A number for everything that is measured of a thread: nanoseconds, or samples. None is more than
/// `wall`, of which the others are parts; they may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// Nanoseconds that passed. Samples: all.
    pub wall: u64,
    /// Nanoseconds on a CPU. Samples: those with any.
    pub cpu: u64,
    /// Nanoseconds with the GIL held. Samples: those with any.
    pub gil: u64,
    /// Nanoseconds of waiting for the GIL. Samples: those with any.
    pub gil_wait: u64,
    /// Nanoseconds in which an exception was being handled. Samples: those with any.
    pub exception: u64,
    /// Nanoseconds of waiting: neither on a CPU nor wanting one, but blocked in a system call, by a
    /// lock, or for the GIL. Samples: those with nothing else.
    pub waiting: u64,
}

impl Clocks {
    /// This on the wall clock, and nothing known of the others.
    #[must_use]
    pub const fn of_wall(wall: u64) -> Self {
        Self {
            wall,
            cpu: 0,
            gil: 0,
            gil_wait: 0,
            exception: 0,
            waiting: 0,
        }
    }

    /// The number on one clock.
    #[must_use]
    pub fn on(self, clock: Clock) -> u64 {
        match clock {
            Clock::Wall => self.wall,
            Clock::Active => self.wall.saturating_sub(self.waiting),
            Clock::Cpu => self.cpu,
            Clock::Gil => self.gil,
            Clock::GilWait => self.gil_wait,
            Clock::Exception => self.exception,
        }
    }

    /// The sum, where it fits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            wall: self.wall.checked_add(other.wall)?,
            cpu: self.cpu.checked_add(other.cpu)?,
            gil: self.gil.checked_add(other.gil)?,
            gil_wait: self.gil_wait.checked_add(other.gil_wait)?,
            exception: self.exception.checked_add(other.exception)?,
            waiting: self.waiting.checked_add(other.waiting)?,
        })
    }
}

impl AddAssign for Clocks {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.gil += other.gil;
        self.gil_wait += other.gil_wait;
        self.exception += other.exception;
        self.waiting += other.waiting;
    }
}

/// What was seen at a place, on all clocks. The [`Builder`](crate::Builder) sees to it that the sum
/// over all of a profile fits, and so that of any part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Time, in nanoseconds.
    pub nanoseconds: Clocks,
    /// Samples, or calls; calls are on the clock of the wall only.
    pub samples: Clocks,
}

impl Seen {
    /// What one clock says of it.
    #[must_use]
    pub fn on(self, clock: Clock) -> Weights {
        Weights {
            nanoseconds: self.nanoseconds.on(clock),
            samples: self.samples.on(clock),
        }
    }

    /// The sum, where it fits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            nanoseconds: self.nanoseconds.checked_add(other.nanoseconds)?,
            samples: self.samples.checked_add(other.samples)?,
        })
    }
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.nanoseconds += other.nanoseconds;
        self.samples += other.samples;
    }
}

/// What a recording measured beside the time that passed, which is always measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// [`Clocks::cpu`].
    pub cpu: bool,
    /// [`Clocks::gil`].
    pub gil: bool,
    /// [`Clocks::gil_wait`].
    pub gil_wait: bool,
    /// [`Clocks::exception`].
    pub exception: bool,
    /// [`Clocks::waiting`].
    pub waiting: bool,
}

impl Measured {
    /// Whether a clock can be chosen.
    #[must_use]
    pub fn has(self, clock: Clock) -> bool {
        match clock {
            Clock::Wall => true,
            Clock::Active => self.waiting,
            Clock::Cpu => self.cpu,
            Clock::Gil => self.gil,
            Clock::GilWait => self.gil_wait,
            Clock::Exception => self.exception,
        }
    }
}

/// A clock was asked for that the recording did not measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} time was not measured", .0.name())]
pub struct NotMeasured(pub Clock);
