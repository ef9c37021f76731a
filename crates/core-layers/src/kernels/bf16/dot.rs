//! The inner loops.

use super::{Level, Packed, TILE, Tap, from_bf16};

/// Work that is compiled once for each level.
pub(super) trait Task: Sized {
    /// In safe loops that the compiler may vectorise. Must be `inline(always)`.
    fn run(self);

    /// With AVX-512 bf16 instructions.
    ///
    /// # Safety
    /// The processor has them.
    #[cfg(target_arch = "x86_64")]
    unsafe fn run_bf16(self) {
        self.run();
    }
}

/// Runs `task` with the instructions of `level`.
pub(super) fn run<T: Task>(level: Level, task: T) {
    #[cfg(target_arch = "x86_64")]
    match level {
        // SAFETY: a kernel of this level exists only where the processor has AVX-512 bf16.
        Level::Bf16 => return unsafe { with_bf16(task) },
        // SAFETY: a kernel of this level exists only where the processor has AVX2 and FMA.
        Level::Avx2 => return unsafe { with_avx2(task) },
        Level::Portable => {}
    }
    let _ = level;
    task.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bf16,avx2,fma")]
unsafe fn with_bf16<T: Task>(task: T) {
    // SAFETY: by this function's contract.
    unsafe { task.run_bf16() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_avx2<T: Task>(task: T) {
    task.run();
}

/// The same bits as pairs of bfloat16.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pairs_of(x: std::arch::x86_64::__m512i) -> std::arch::x86_64::__m512bh {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute(x) }
}

/// One voice a row: a vector holds 16 outputs. Slices were checked by the caller.
pub(super) struct Rows<'a> {
    pub(super) weights: &'a Packed,
    pub(super) taps: &'a [Tap<'a>],
    pub(super) count: usize,
    pub(super) ys: &'a mut [f32],
}

impl Task for Rows<'_> {
    #[inline(always)]
    fn run(self) {
        let (weights, width) = (self.weights, self.weights.padded_outs());
        let pairs = weights.pairs_of_a_tile();
        for row in 0..self.count {
            for (tile, ys) in
                self.ys[row * width..][..width].as_chunks_mut::<TILE>().0.iter_mut().enumerate()
            {
                let mut lines = weights.lines[tile * pairs..][..pairs].iter();
                for (tap, &count) in self.taps.iter().zip(&weights.pairs) {
                    let xs = &tap.xs[row * tap.stride..][..2 * count];
                    for (x, line) in xs.chunks_exact(2).zip(&mut lines) {
                        let (even, odd) = (from_bf16(x[0]), from_bf16(x[1]));
                        for (y, w) in ys.iter_mut().zip(line.0.chunks_exact(2)) {
                            *y += from_bf16(w[0]) * even + from_bf16(w[1]) * odd;
                        }
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn run_bf16(mut self) {
        let mut row = 0;
        while row < self.count {
            // SAFETY: this processor has the instructions, and the rows exist.
            row += unsafe {
                match self.count - row {
                    1 => self.rows::<1, 8>(row),
                    2 | 3 => self.rows::<2, 8>(row),
                    _ => self.rows::<4, 4>(row),
                }
            };
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Rows<'_> {
    /// R rows from `row` on, N tiles at a time as long as there are so many. Returns R.
    ///
    /// # Safety
    /// The processor has AVX-512 bf16, and the rows exist.
    #[inline(always)]
    unsafe fn rows<const R: usize, const N: usize>(&mut self, row: usize) -> usize {
        let tiles = self.weights.padded_outs() / TILE;
        let mut tile = 0;
        while tile < tiles {
            // SAFETY: by this function's contract; the tiles exist.
            tile += unsafe {
                match tiles - tile {
                    1 => self.block::<R, 1>(row, tile),
                    left if left >= N => self.block::<R, N>(row, tile),
                    2 | 3 => self.block::<R, 2>(row, tile),
                    _ => self.block::<R, 4>(row, tile),
                }
            };
        }
        R
    }

    /// R rows times N tiles, their sums in registers. Returns N.
    ///
    /// # Safety
    /// The processor has AVX-512 bf16, and the rows and tiles exist.
    #[inline(always)]
    unsafe fn block<const R: usize, const N: usize>(&mut self, row: usize, tile: usize) -> usize {
        use std::arch::x86_64::{
            _MM_HINT_T0, _mm_prefetch, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_loadu_ps,
            _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
        };
        let weights = self.weights;
        let (pairs, width) = (weights.pairs_of_a_tile(), weights.padded_outs());
        // SAFETY: pointers stay within lines, taps and ys: their lengths were checked before the loops.
        unsafe {
            let mut ws = weights.lines.as_ptr().add(tile * pairs);
            let ys = self.ys.as_mut_ptr().add(row * width + tile * TILE);
            let mut sums = [[_mm512_setzero_ps(); N]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(ys.add(r * width + n * TILE));
                }
            }
            for (tap, &count) in self.taps.iter().zip(&weights.pairs) {
                let xs = tap.xs.as_ptr().add(row * tap.stride);
                for pair in 0..count {
                    let mut broadcast = [_mm512_setzero_si512(); R];
                    for (r, to) in broadcast.iter_mut().enumerate() {
                        let x = xs.add(r * tap.stride + 2 * pair).cast::<i32>().read_unaligned();
                        *to = _mm512_set1_epi32(x);
                    }
                    for n in 0..N {
                        let line = ws.add(n * pairs);
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(16).cast());
                        let w = pairs_of(_mm512_load_si512(line.cast()));
                        for (sums, &x) in sums.iter_mut().zip(&broadcast) {
                            sums[n] = _mm512_dpbf16_ps(sums[n], w, pairs_of(x));
                        }
                    }
                    ws = ws.add(1);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (n, sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(ys.add(r * width + n * TILE), *sum);
                }
            }
        }
        N
    }
}

/// 16 voices side by side in one row.
pub(super) struct Lanes<'a> {
    pub(super) weights: &'a Packed,
    pub(super) taps: &'a [Tap<'a>],
    pub(super) row: usize,
    pub(super) ys: &'a mut [f32],
}

const VOICES: usize = 16;

impl Task for Lanes<'_> {
    #[inline(always)]
    fn run(self) {
        let weights = self.weights;
        let pairs = weights.pairs_of_a_tile();
        for (out, ys) in self.ys.as_chunks_mut::<VOICES>().0.iter_mut().enumerate() {
            let (tile, within) = (out / TILE, out % TILE);
            let mut lines = weights.lines[tile * pairs..][..pairs].iter();
            for (tap, &count) in self.taps.iter().zip(&weights.pairs) {
                let xs = &tap.xs[self.row * tap.stride..][..2 * VOICES * count];
                for (xs, line) in xs.chunks_exact(2 * VOICES).zip(&mut lines) {
                    let (even, odd) =
                        (from_bf16(line.0[2 * within]), from_bf16(line.0[2 * within + 1]));
                    for (y, x) in ys.iter_mut().zip(xs.chunks_exact(2)) {
                        *y += from_bf16(x[0]) * even + from_bf16(x[1]) * odd;
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn run_bf16(self) {
        use std::arch::x86_64::{
            _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
            _mm512_setzero_ps, _mm512_storeu_ps,
        };
        let weights = self.weights;
        let pairs = weights.pairs_of_a_tile();
        for tile in 0..weights.padded_outs() / TILE {
            // SAFETY: pointers stay within lines, taps and ys: their lengths were checked before the loops; this processor
            // has the instructions.
            unsafe {
                let mut line = weights.lines.as_ptr().add(tile * pairs).cast::<i32>();
                let ys = self.ys.as_mut_ptr().add(tile * TILE * VOICES);
                let mut sums = [_mm512_setzero_ps(); TILE];
                for (out, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(ys.add(out * VOICES));
                }
                for (tap, &count) in self.taps.iter().zip(&weights.pairs) {
                    let mut xs = tap.xs.as_ptr().add(self.row * tap.stride);
                    for _ in 0..count {
                        let x = pairs_of(_mm512_loadu_si512(xs.cast()));
                        for (out, sum) in sums.iter_mut().enumerate() {
                            let w = pairs_of(_mm512_set1_epi32(line.add(out).read()));
                            *sum = _mm512_dpbf16_ps(*sum, x, w);
                        }
                        line = line.add(TILE);
                        xs = xs.add(2 * VOICES);
                    }
                }
                for (out, sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(ys.add(out * VOICES), *sum);
                }
            }
        }
    }
}
