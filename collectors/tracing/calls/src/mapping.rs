//! The file as memory: the only place that knows addresses in it.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use crate::format::{Header, MAX_THREADS, NodeRecord, Parts, ThreadRecord};

/// A mapped file. Everything in it is atomics, valid for any bits, and starts as what the file holds.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    parts: Parts,
}

// SAFETY: it is memory that only atomics are read from and written to, and that stays where it is until the value is dropped.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file with these parts.
    ///
    /// # Errors
    ///
    /// That it is shorter than that, or that the system has no room for it.
    pub(crate) fn new(file: &File, parts: Parts) -> io::Result<Mapping> {
        let bytes = usize::try_from(parts.file_bytes()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if file.metadata()?.len() < parts.file_bytes() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Mapping {
            base: memory::of(file, bytes)?,
            bytes,
            parts,
        })
    }

    /// Memory of this process alone, with nothing in it.
    ///
    /// # Errors
    ///
    /// That the system has no room for it.
    pub(crate) fn anonymous(parts: Parts) -> io::Result<Mapping> {
        let bytes = usize::try_from(parts.file_bytes()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(Mapping {
            base: memory::anonymous(bytes)?,
            bytes,
            parts,
        })
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the mapping is longer than a header, begins at a page, lives as long as `self`, and atomics are valid for any bits.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    pub(crate) fn threads(&self) -> &[ThreadRecord] {
        // SAFETY: `Parts` puts `MAX_THREADS` records there, at a multiple of their alignment; the rest as for the header.
        unsafe { self.slice(Parts::THREADS, MAX_THREADS as usize) }
    }

    pub(crate) fn nodes(&self) -> &[NodeRecord] {
        // SAFETY: as above; `Parts::file_bytes`, which is the length of the mapping, counts them.
        unsafe { self.slice(Parts::NODES, self.parts.node_capacity as usize) }
    }

    pub(crate) fn heap(&self) -> &[AtomicU64] {
        // SAFETY: as above.
        unsafe { self.slice(self.parts.heap(), self.parts.heap_words as usize) }
    }

    /// # Safety
    ///
    /// `count` records of `T`, made of atomics only, lie at `from` within the mapping, aligned.
    unsafe fn slice<T>(&self, from: u64, count: usize) -> &[T] {
        // SAFETY: the caller's promise.
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(from as usize).cast::<T>(), count)
        }
    }

    /// Sees to it that there is memory behind a piece of the mapping: a full disk would otherwise be a SIGBUS at the first store, that is, the end of somebody else's
    /// process. Kernels before 5.14 cannot tell, and are taken to have it.
    pub(crate) fn populate<T>(&self, piece: &[T]) -> bool {
        memory::populate(piece.as_ptr() as usize, size_of_val(piece))
    }

    /// Writes the memory back where it is not the file itself: what is in use of each part.
    #[cfg(all(test, miri))]
    pub(crate) fn write_to(&self, file: &File) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
        let header = self.header();
        let used = |count: u32, size: usize| count as usize * size;
        let pieces = [
            (0, crate::format::HEADER_BYTES),
            (
                Parts::THREADS,
                used(header.threads_used.load(Relaxed), size_of::<ThreadRecord>()),
            ),
            (
                Parts::NODES,
                used(header.nodes_used.load(Relaxed), size_of::<NodeRecord>()),
            ),
            (self.parts.heap(), used(header.heap_used.load(Relaxed), 8)),
        ];
        for (from, bytes) in pieces {
            // SAFETY: as in `header`; what is used of a part is within it.
            let bytes: &[AtomicU8] = unsafe { self.slice(from, bytes) };
            let plain: Vec<u8> = bytes.iter().map(|byte| byte.load(Relaxed)).collect();
            file.write_all_at(&plain, from)?;
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it came from `memory::of` with this length, and no reference into it outlives `self`.
        unsafe { memory::give_back(self.base, self.bytes) }
    }
}

/// Shared memory, by the kernel.
#[cfg(not(miri))]
mod memory {
    use std::ffi::c_void;
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::ptr::{self, NonNull};

    const PROT_READ: i32 = 1;
    const PROT_WRITE: i32 = 2;
    const MAP_SHARED: i32 = 1;
    const MAP_PRIVATE: i32 = 2;
    const MAP_ANONYMOUS: i32 = 0x20;
    const MAP_NORESERVE: i32 = 0x4000;
    const MADV_POPULATE_WRITE: i32 = 23;
    const MADV_DONTDUMP: i32 = 16;
    const EFAULT: i32 = 14;
    const ENOMEM: i32 = 12;
    const PAGE: usize = 4096;

    unsafe extern "C" {
        fn mmap(
            at: *mut c_void,
            bytes: usize,
            protection: i32,
            flags: i32,
            file: i32,
            offset: i64,
        ) -> *mut c_void;
        fn munmap(at: *mut c_void, bytes: usize) -> i32;
        fn madvise(at: *mut c_void, bytes: usize, advice: i32) -> i32;
    }

    pub(super) fn of(file: &File, bytes: usize) -> io::Result<NonNull<u8>> {
        map(bytes, MAP_SHARED, file.as_raw_fd())
    }

    pub(super) fn anonymous(bytes: usize) -> io::Result<NonNull<u8>> {
        map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1)
    }

    fn map(bytes: usize, flags: i32, file: i32) -> io::Result<NonNull<u8>> {
        // SAFETY: the kernel chooses an address that nobody has; the descriptor, if there is one, is open.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                PROT_READ | PROT_WRITE,
                flags | MAP_NORESERVE,
                file,
                0,
            )
        };
        if base.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        // A core dump of the program need not hold it. Nothing depends on whether that works.
        // SAFETY: the range was just mapped.
        unsafe { madvise(base, bytes, MADV_DONTDUMP) };
        NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    pub(super) fn populate(at: usize, bytes: usize) -> bool {
        let from = at & !(PAGE - 1);
        // SAFETY: the pages are of the mapping that the caller's slice lies in; populating changes no bytes.
        let failed = unsafe {
            madvise(
                ptr::without_provenance_mut(from),
                at + bytes - from,
                MADV_POPULATE_WRITE,
            )
        } != 0;
        !(failed
            && matches!(
                io::Error::last_os_error().raw_os_error(),
                Some(EFAULT | ENOMEM)
            ))
    }

    /// # Safety
    ///
    /// From [`of`], with the same length, and not used any more.
    pub(super) unsafe fn give_back(base: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { munmap(base.as_ptr().cast(), bytes) };
    }
}

/// A copy of the file, for Miri, which has no `mmap` of files.
#[cfg(miri)]
mod memory {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::ptr::NonNull;

    const PAGE: usize = 4096;

    fn layout(bytes: usize) -> io::Result<Layout> {
        Layout::from_size_align(bytes, PAGE).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    pub(super) fn anonymous(bytes: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: the layout is not empty: a header is in it.
        NonNull::new(unsafe { alloc_zeroed(layout(bytes)?) })
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    pub(super) fn of(file: &File, bytes: usize) -> io::Result<NonNull<u8>> {
        let base = anonymous(bytes)?;
        // SAFETY: just allocated with this length, zeroed, and nobody else's.
        let memory =
            unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), crate::format::HEADER_BYTES) };
        file.read_exact_at(memory, 0)?;
        Ok(base)
    }

    pub(super) fn populate(_at: usize, _bytes: usize) -> bool {
        true
    }

    /// # Safety
    ///
    /// From [`of`], with the same length, and not used any more.
    pub(super) unsafe fn give_back(base: NonNull<u8>, bytes: usize) {
        if let Ok(layout) = layout(bytes) {
            // SAFETY: the caller's promise.
            unsafe { dealloc(base.as_ptr(), layout) };
        }
    }
}
