//! The memory of a live process, read by `process_vm_readv`.
//!
//! One system call copies as many regions as the kernel takes at once. The target is neither stopped
//! nor written to. `/proc/PID/mem` was the other way: it takes one region a call.

use std::cell::{Cell, RefCell};
use std::io::IoSliceMut;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use crate::memory::{ReadError, Region, RemoteMemory};

/// `UIO_MAXIOV` (`include/uapi/linux/uio.h`): the regions that the kernel takes in one call.
const REGIONS_A_CALL: usize = 1024;

/// The address space of a process.
///
/// A process that executes another program keeps its id and gets another address space: this reads
/// whichever it has at the moment. [`ExecWatch`](crate::process::ExecWatch) tells.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: Pid,
    /// Kept from call to call, so that a sample allocates nothing.
    regions: RefCell<Vec<RemoteIoVec>>,
    calls: Cell<u64>,
}

impl ProcessMemory {
    /// The memory of the process with this id. Nothing is read yet, nor is the process looked for.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        // An id that does not fit belongs to no process; 0 is none either, and reads as one that has ended.
        let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(0));
        Self {
            pid,
            regions: RefCell::new(Vec::new()),
            calls: Cell::new(0),
        }
    }

    /// How many system calls were made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Copies up to [`REGIONS_A_CALL`] regions. Returns how many came whole.
    fn read_some(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        let mut remote = self.regions.borrow_mut();
        remote.clear();
        remote.extend(regions.iter().map(|region| RemoteIoVec {
            // No address above `usize::MAX` is mapped, and neither is that one.
            base: usize::try_from(region.address).unwrap_or(usize::MAX),
            len: region.length,
        }));
        self.calls.set(self.calls.get() + 1);
        let copied = match process_vm_readv(self.pid, &mut [IoSliceMut::new(into)], &remote) {
            Ok(copied) => copied,
            Err(Errno::EFAULT) => 0,
            Err(Errno::ESRCH) => return Err(ReadError::Gone),
            Err(Errno::EPERM) => return Err(ReadError::Denied),
            Err(errno) => return Err(ReadError::Other(errno as i32)),
        };
        Ok(whole_regions(regions, copied))
    }
}

impl RemoteMemory for ProcessMemory {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        let mut rest = into;
        let mut done = 0;
        for chunk in regions.chunks(REGIONS_A_CALL) {
            let length = chunk
                .iter()
                .try_fold(0_usize, |sum, region| sum.checked_add(region.length));
            let Some((front, behind)) = length.and_then(|length| rest.split_at_mut_checked(length))
            else {
                return Err(ReadError::Other(Errno::EINVAL as i32));
            };
            let whole = self.read_some(chunk, front)?;
            done += whole;
            if whole < chunk.len() {
                break;
            }
            rest = behind;
        }
        Ok(done)
    }
}

/// How many of the leading regions lie within the first `copied` bytes. The kernel stops at the first
/// page that is not mapped, which may be in the middle of a region.
fn whole_regions(regions: &[Region], copied: usize) -> usize {
    let mut rest = copied;
    regions
        .iter()
        .take_while(|region| match rest.checked_sub(region.length) {
            Some(less) => {
                rest = less;
                true
            }
            None => false,
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region<T>(of: &[T]) -> Region {
        Region {
            address: of.as_ptr() as u64,
            length: size_of_val(of),
        }
    }

    fn own() -> ProcessMemory {
        ProcessMemory::new(std::process::id())
    }

    #[test]
    fn regions_arrive_back_to_back_in_one_call() {
        let (left, right) = ([1_u8, 2, 3], [4_u8, 5]);
        let memory = own();
        let mut into = [0; 8];
        assert_eq!(
            memory.read_regions(&[region(&right), region(&left)], &mut into),
            Ok(2)
        );
        assert_eq!(into, [4, 5, 1, 2, 3, 0, 0, 0]);
        assert_eq!(memory.calls(), 1);
    }

    #[test]
    fn an_unmapped_region_ends_the_count() {
        let bytes = [7_u8; 4];
        let nowhere = Region {
            address: 8,
            length: 4,
        };
        let memory = own();
        let mut into = [0; 12];
        assert_eq!(
            memory.read_regions(&[region(&bytes), nowhere, region(&bytes)], &mut into),
            Ok(1)
        );
        assert_eq!(into[..4], bytes);
        assert_eq!(memory.read_regions(&[nowhere], &mut into), Ok(0));
        assert_eq!(memory.read(8, &mut into), Err(ReadError::Fault(8)));
        let last = Region {
            address: u64::MAX,
            length: 4,
        };
        assert_eq!(memory.read_regions(&[last], &mut into), Ok(0));
    }

    #[test]
    fn regions_of_no_length_count_as_read() {
        let bytes = [7_u8; 4];
        let nothing = Region {
            address: 0,
            length: 0,
        };
        let nowhere = Region {
            address: 8,
            length: 4,
        };
        let memory = own();
        let mut into = [0; 8];
        assert_eq!(memory.read_regions(&[], &mut into), Ok(0));
        assert_eq!(memory.read_regions(&[nothing, nothing], &mut into), Ok(2));
        assert_eq!(
            memory.read_regions(&[nothing, region(&bytes), nothing, nowhere], &mut into),
            Ok(3)
        );
        assert_eq!(memory.read_regions(&[nothing, nowhere], &mut into), Ok(1));
    }

    #[test]
    fn many_regions_take_several_calls() {
        let words: Vec<u32> = (0..3000).collect();
        let regions: Vec<Region> = words
            .iter()
            .map(|word| region(std::slice::from_ref(word)))
            .collect();
        let memory = own();
        let mut into = vec![0; 12_000];
        assert_eq!(memory.read_regions(&regions, &mut into), Ok(3000));
        assert_eq!(memory.calls(), 3);
        let read: Vec<u32> = into
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(read, words);

        let mut broken = regions;
        broken[2000].address = 8;
        assert_eq!(memory.read_regions(&broken, &mut into), Ok(2000));
        assert_eq!(memory.calls(), 5);
    }

    #[test]
    fn a_buffer_that_is_too_short_is_refused() {
        let bytes = [7_u8; 4];
        let mut into = [0; 3];
        assert_eq!(
            own().read_regions(&[region(&bytes)], &mut into),
            Err(ReadError::Other(Errno::EINVAL as i32))
        );
    }

    #[test]
    fn a_process_that_is_not_there_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let memory = ProcessMemory::new(child.id());
        child.wait().unwrap();
        assert_eq!(memory.read_u64(4096), Err(ReadError::Gone));
        assert_eq!(
            ProcessMemory::new(u32::MAX).read_u64(4096),
            Err(ReadError::Gone)
        );
    }

    #[test]
    fn a_region_that_is_cut_short_is_not_whole() {
        let regions = [4, 0, 4, 0].map(|length| Region { address: 0, length });
        let counts = [0, 3, 4, 7, 8].map(|copied| whole_regions(&regions, copied));
        assert_eq!(counts, [0, 0, 2, 2, 4]);
    }
}
