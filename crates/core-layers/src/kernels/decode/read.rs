//! Reading weights and nothing else, to measure the other kernels against.

use super::{
    lanes::{Lanes, Task},
    linear::AHEAD,
    packed::TILE,
};

/// Sums all bytes of some lines, as integers times one.
pub(super) struct Read<'a> {
    pub(super) lines: &'a [u8],
    pub(super) sums: &'a mut [f32; TILE],
}

impl Task for Read<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        // SAFETY: the processor has the instructions, since this is a task; two lines of 64 bytes are read of each 128, and half
        // of the sums is written at a time.
        unsafe {
            let mut sums = [L::sums(0); 2];
            for lines in self.lines.chunks_exact(128) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let line = lines.as_ptr().add(64 * i);
                    L::prefetch(line.wrapping_add(AHEAD));
                    *sum = L::dot(*sum, L::bytes(line), 0x0101_0101);
                }
            }
            for (to, sum) in self.sums.chunks_exact_mut(TILE / 2).zip(sums) {
                L::store(L::to_floats(sum), to.as_mut_ptr());
            }
        }
    }
}
