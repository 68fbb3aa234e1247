//! Reading the simulated process: it runs on while it is read.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::machine::{Machine, NANOSECOND};
use super::truth::Path;
use crate::memory::{CACHE_LINE, ReadError, Region, RemoteMemory};

/// How long reading takes. `process_vm_readv` on a 2-core virtual machine: 2 to 3 microseconds a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    /// Nanoseconds from the start of a call to its first region.
    pub(super) call: u64,
    /// Nanoseconds that it may take longer.
    pub(super) unsteady: u64,
    /// Nanoseconds before each region.
    pub(super) region: u64,
    /// Picoseconds for each byte.
    pub(super) byte: u64,
    /// Nanoseconds from the last region to the end of the call.
    pub(super) end: u64,
    /// Nanoseconds that the first store takes longer to a line of the cache which was read. With 60 the model is
    /// found between calls as much too often as real programs are by a reader that asks the thread state first.
    pub(super) stall: u64,
    /// How often the reader is preempted before a region: once in so many regions. 0 for never.
    pub(super) preempted_once_in: u64,
    /// For how many nanoseconds at most.
    pub(super) preempted_for: u64,
}

pub(super) const REAL: Costs = Costs {
    call: 2000,
    unsteady: 500,
    region: 100,
    byte: 100,
    end: 300,
    stall: 60,
    preempted_once_in: 0,
    preempted_for: 0,
};

/// The memory of a machine.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) machine: Rc<RefCell<Machine>>,
    costs: Costs,
    random: RefCell<fastrand::Rng>,
    pub(super) calls: Rc<RefCell<u64>>,
    /// The stack at the moment of each region of the last call.
    pub(super) moments: Rc<RefCell<Vec<Path>>>,
    /// When the machine was started, by a clock that nothing depends on.
    epoch: Instant,
}

impl Remote {
    pub(super) fn new(machine: Rc<RefCell<Machine>>, costs: Costs, seed: u64) -> Self {
        Self {
            machine,
            costs,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            calls: Rc::default(),
            moments: Rc::default(),
            epoch: Instant::now(),
        }
    }
}

impl RemoteMemory for Remote {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        let mut machine = self.machine.borrow_mut();
        let mut random = self.random.borrow_mut();
        *self.calls.borrow_mut() += 1;
        let mut now = machine.now;
        now += (self.costs.call + random.u64(0..=self.costs.unsteady)) * NANOSECOND;
        let mut filled = 0;
        let mut done = 0;
        for region in regions {
            now += self.costs.region * NANOSECOND;
            if self.costs.preempted_once_in > 0 && random.u64(0..self.costs.preempted_once_in) == 0
            {
                now += random.u64(1..=self.costs.preempted_for) * NANOSECOND;
            }
            machine.advance(now);
            self.moments.borrow_mut().push(machine.truth.top());
            if !machine.image.is_mapped(*region) {
                break;
            }
            let (mut address, end) = (region.address, region.address + region.length as u64);
            while address < end {
                if done == 1 && address >= region.address + 128 && address < region.address + 192 {
                    self.moments.borrow_mut().push(machine.truth.top());
                }
                let piece = (CACHE_LINE - address % CACHE_LINE).min(end - address);
                let next = filled + piece as usize;
                machine.image.copy(address, &mut into[filled..next]);
                machine.share(address);
                filled = next;
                address += piece;
                now += piece * self.costs.byte;
                machine.advance(now);
            }
            done += 1;
        }
        machine.advance(now + self.costs.end * NANOSECOND);
        Ok(done)
    }

    fn now(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.machine.borrow().now / NANOSECOND)
    }
}
