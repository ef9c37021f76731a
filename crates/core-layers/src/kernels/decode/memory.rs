//! Memory for weights: one stretch of large pages.

use std::{fmt, io};

use memmap2::MmapMut;

/// Large pages are of this size.
const PAGE: usize = 2 << 20;

/// Zeros at first; starts on a cache line.
///
/// Weights are read from end to end for every token. With pages of 4 KiB the walks through the page tables halve the rate
/// (virtual machines walk twice), so the system is asked for large ones.
pub(super) struct Memory {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl Memory {
    /// `len` bytes.
    ///
    /// # Errors
    /// When the system has not so much.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let too_much = || io::Error::from(io::ErrorKind::OutOfMemory);
        let map = MmapMut::map_anon(len.checked_add(PAGE).ok_or_else(too_much)?)?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage); // a kernel without them has small ones
        let start = map.as_ptr().align_offset(PAGE).min(PAGE);
        Ok(Self { map, start, len })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..self.start + self.len]
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}
