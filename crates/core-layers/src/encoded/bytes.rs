//! Bytes that several matrices share.

use std::{fmt, ops::Deref, ops::Range, sync::Arc};

/// A part of bytes that somebody holds: a vector, or a mapped file.
#[derive(Clone)]
pub struct Bytes {
    holder: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of a holder.
    pub fn new(holder: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let range = 0..(*holder).as_ref().len();
        Self { holder, range }
    }

    /// A part of these, without a copy; none if they do not reach so far.
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        let is_inside = range.start <= range.end && range.end <= self.len();
        is_inside.then(|| Self {
            holder: Arc::clone(&self.holder),
            range: self.range.start + range.start..self.range.start + range.end,
        })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Arc::new(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.holder).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
