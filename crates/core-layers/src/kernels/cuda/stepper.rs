//! What `csrc/cuda/stepper.cuh` shares among its kernels, as the host must count it.

/// Outputs that are read at once: matrices have whole ones, the last padded.
pub(super) const QUAD: usize = 4;
const MOST_THREADS: usize = 512;
const MOST_SLICES: usize = 16;

/// Threads of a block: eight slices of the widest matrix, as far as a block goes.
pub(super) fn threads(widest: usize) -> usize {
    (8 * widest.div_ceil(QUAD)).next_multiple_of(32).clamp(32, MOST_THREADS)
}

/// Sums of slices that `multiply` keeps of a matrix, `slices_of` of them an output.
pub(super) fn parts(outs: usize, threads: usize) -> usize {
    let quads = outs.div_ceil(QUAD);
    QUAD * quads * (threads / quads).clamp(1, MOST_SLICES)
}
