//! What was computed for earlier samples, as far back as anything reads.

/// `slots` slots of `width` numbers each, the sample t in slot t mod slots; zeros before the start.
#[derive(Debug)]
pub(super) struct Ring<T> {
    values: Vec<T>,
    slots: usize,
    width: usize,
}

impl<T: Copy + Default> Ring<T> {
    pub(super) fn new(slots: usize, width: usize) -> Self {
        Self { values: vec![T::default(); slots * width], slots, width }
    }

    /// What was computed `delay` samples before `t`, fewer than there are slots.
    pub(super) fn at(&self, t: usize, delay: usize) -> &[T] {
        let slot = (t + self.slots - delay) % self.slots;
        &self.values[slot * self.width..][..self.width]
    }

    pub(super) fn at_mut(&mut self, t: usize) -> &mut [T] {
        &mut self.values[t % self.slots * self.width..][..self.width]
    }
}
