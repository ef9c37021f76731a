//! Floats that start on a cache line, so that no vector straddles two.

use std::ops::{Deref, DerefMut};

/// A slice of floats, 64-byte aligned, zero at first.
#[derive(Debug, Default)]
pub struct Buffer {
    floats: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let floats = vec![0.; len + 15];
        let start = floats.as_ptr().align_offset(64).min(15);
        Self { floats, start, len }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats[self.start..self.start + self.len]
    }
}
