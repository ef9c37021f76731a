//! Attention over the past: keys and values of earlier positions are kept, a query reads them all.
//!
//! `y_c = sum_j e_j v_jc / sum_j e_j` with `e_j = e^(s_j - max s)` and `s_j = sum_c (q_c / sqrt(D)) k_jc` for each head
//! (Vaswani et al., "Attention Is All You Need", 2017, equation 1, <https://arxiv.org/abs/1706.03762>), over all
//! positions j that were remembered.
//!
//! The order is defined. A score is one chain of fused multiply-adds, c ascending; the sum of the `e_j` is 16 partial
//! sums, the p-th over j = p, p + 16, ..., then added in pairs of distance 8, 4, 2 and 1; an output is one chain of
//! fused multiply-adds, j ascending, then divided. Letters: C channels, D channels of a head, L images side by side, N
//! numbers in a vector.
//!
//! Keys lie as `[channel][position][L]` and values as `[position][channel][L]`, so that a vector holds positions of a
//! score, and channels of an output, where the images do not fill it.

#![expect(clippy::needless_range_loop, reason = "a constant index keeps an array in registers")]

use super::Kernel;
use super::buffer::Buffer;
use super::maths;
use super::vector::{Task, Vector, dispatch};

const PARTS: usize = 16;
const MOST_LANES: usize = 16;

/// Keys and values of the positions that came before, for images side by side.
#[derive(Debug, Default)]
pub struct Past {
    keys: Buffer,    // [C][capacity][L], each channel filled up to whole vectors
    values: Buffer,  // [capacity][C][L]
    weights: Buffer, // [capacity][L] of the head at hand
    queries: Buffer, // [D][L] of the head at hand
    channels: usize,
    capacity: usize,
    len: usize,
    lanes: usize,
}

impl Past {
    /// Positions that are remembered.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to attend to.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Floats of a channel of the keys.
    fn stride(&self) -> usize {
        (self.capacity * self.lanes).next_multiple_of(MOST_LANES)
    }
}

impl Kernel {
    /// Room for keys and values of `capacity` positions, `channels` each.
    pub fn past(&self, channels: usize, capacity: usize) -> Past {
        let lanes = self.lanes();
        let empty = Past { channels, capacity, lanes, ..Past::default() };
        Past {
            keys: Buffer::new(channels * empty.stride()),
            values: Buffer::new(capacity * channels * lanes),
            weights: Buffer::new(empty.stride()),
            queries: Buffer::new(channels * lanes),
            ..empty
        }
    }

    /// Adds a position: `keys_values` is `[keys: C, values: C][L]`.
    ///
    /// # Panics
    /// If the length is another, or `past` is full or of another number of lanes.
    pub fn remember(&self, past: &mut Past, keys_values: &[f32]) {
        let (lanes, position) = (self.lanes(), past.len);
        assert!(past.lanes == lanes && position < past.capacity, "the past has room");
        let width = past.channels * lanes;
        assert_eq!(keys_values.len(), 2 * width, "keys and values of {} channels", past.channels);
        let (keys, values) = keys_values.split_at(width);
        let stride = past.stride();
        for (channel, key) in keys.chunks_exact(lanes).enumerate() {
            past.keys[channel * stride + position * lanes..][..lanes].copy_from_slice(key);
        }
        past.values[position * width..][..width].copy_from_slice(values);
        past.len += 1;
    }

    /// What `heads` heads read of the past: queries `[heads][D][L]` to `ys` `[heads][D][L]`, zeros where nothing came
    /// before. The heads' keys and values are the channels from `first` on. See the module for formula and order.
    ///
    /// # Panics
    /// If the lengths differ or do not split into heads, or the past has fewer channels.
    pub fn attend(
        &self,
        past: &mut Past,
        queries: &[f32],
        first: usize,
        heads: usize,
        ys: &mut [f32],
    ) {
        let (lanes, width) = (self.lanes(), queries.len());
        assert!(past.lanes == lanes && ys.len() == width, "queries and outputs of one past");
        assert!(heads > 0 && width.is_multiple_of(heads * lanes), "{heads} heads share {width}");
        assert!(first + width / lanes <= past.channels, "the past has {} channels", past.channels);
        ys.fill(0.0);
        if past.is_empty() {
            return;
        }
        let depth = width / lanes / heads;
        let of_head = queries.chunks_exact(depth * lanes).zip(ys.chunks_exact_mut(depth * lanes));
        for (head, (queries, ys)) in of_head.enumerate() {
            let first = first + head * depth;
            match lanes {
                1 => dispatch(self.machine(), Head::<1> { past, queries, first, ys }),
                4 => dispatch(self.machine(), Head::<4> { past, queries, first, ys }),
                8 => dispatch(self.lane_machine(), Head::<8> { past, queries, first, ys }),
                _ => dispatch(self.lane_machine(), Head::<16> { past, queries, first, ys }),
            }
        }
    }
}

/// One head, checked: its channels exist, and something is remembered.
struct Head<'a, const L: usize> {
    past: &'a mut Past,
    queries: &'a [f32], // [D][L]
    first: usize,
    ys: &'a mut [f32], // [D][L]
}

impl<const L: usize> Task for Head<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let depth = self.queries.len() / L;
        let scale = 1.0 / (depth as f32).sqrt();
        for (scaled, query) in self.past.queries.iter_mut().zip(self.queries) {
            *scaled = query * scale;
        }
        let count = self.past.len * L;
        let whole = count.next_multiple_of(V::N);
        let mut at = 0;
        while at + 4 * V::N <= whole {
            // SAFETY: vectors of existing positions, counting those that fill up the last one.
            unsafe { self.scores::<V, 4>(at, depth) }
            at += 4 * V::N;
        }
        while at < whole {
            // SAFETY: as above.
            unsafe { self.scores::<V, 1>(at, depth) }
            at += V::N;
        }
        self.past.weights[count..whole].fill(f32::NEG_INFINITY); // no part in what follows
        let greatest = self.greatest::<V>(whole);
        let total = self.exponentials::<V>(whole, &greatest);
        let mut at = 0;
        while at + 8 * V::N <= depth * L {
            // SAFETY: vectors of existing channels.
            unsafe { self.outputs::<V, 8>(at, &total) }
            at += 8 * V::N;
        }
        while at + V::N <= depth * L {
            // SAFETY: as above.
            unsafe { self.outputs::<V, 1>(at, &total) }
            at += V::N;
        }
        while at < depth * L {
            // SAFETY: one existing channel of one image.
            unsafe { self.outputs::<f32, 1>(at, &total) }
            at += 1;
        }
    }
}

impl<const L: usize> Head<'_, L> {
    /// The vector at float `at` of columns `[L]` that all hold the column at `column`.
    ///
    /// # Safety
    /// L numbers can be read there.
    #[inline(always)]
    unsafe fn repeated<V: Vector>(column: *const f32, at: usize) -> V {
        // SAFETY: by the contract; L and N are powers of two, and `at` a multiple of N.
        unsafe {
            if V::N <= L {
                V::load(column.add(at % L))
            } else if L == 1 {
                V::splat(*column)
            } else {
                V::repeat_4(column)
            }
        }
    }

    /// Scores of T vectors of positions from float `at` on.
    ///
    /// # Safety
    /// They lie within a channel of the keys.
    #[inline(always)]
    unsafe fn scores<V: Vector, const T: usize>(&mut self, at: usize, depth: usize) {
        let stride = self.past.stride();
        let mut sums = [V::splat(0.0); T];
        // SAFETY: `attend` has checked the channels, the caller the positions.
        unsafe {
            let keys = self.past.keys.as_ptr().add(self.first * stride + at);
            let queries = self.past.queries.as_ptr();
            for c in 0..depth {
                for t in 0..T {
                    let query = Self::repeated::<V>(queries.add(c * L), at + t * V::N);
                    sums[t] = query.mul_add(V::load(keys.add(c * stride + t * V::N)), sums[t]);
                }
            }
            let weights = self.past.weights.as_mut_ptr().add(at);
            for t in 0..T {
                sums[t].store(weights.add(t * V::N));
            }
        }
    }

    /// The greatest score of each image, NaN aside, repeated to fill a vector.
    #[inline(always)]
    fn greatest<V: Vector>(&self, whole: usize) -> [f32; MOST_LANES] {
        let mut parts = [V::splat(f32::NEG_INFINITY); MOST_LANES];
        let width = if V::N > L { V::N } else { L };
        for scores in self.past.weights[..whole].chunks_exact(width) {
            for i in 0..width / V::N {
                let x = V::read(&scores[i * V::N..]);
                parts[i] = parts[i].if_less(x, x, parts[i]);
            }
        }
        let mut numbers = [f32::NEG_INFINITY; MOST_LANES];
        for i in 0..width / V::N {
            parts[i].write(&mut numbers[i * V::N..]);
        }
        for i in L..MOST_LANES {
            if numbers[i % L] < numbers[i] {
                numbers[i % L] = numbers[i];
            }
        }
        for i in L..MOST_LANES {
            numbers[i] = numbers[i % L];
        }
        numbers
    }

    /// Turns scores into `e^(s - greatest)` and returns the sum of each image.
    #[inline(always)]
    fn exponentials<V: Vector>(
        &mut self,
        whole: usize,
        greatest: &[f32; MOST_LANES],
    ) -> [f32; MOST_LANES] {
        let mut sums = [0.0; PARTS * MOST_LANES];
        for chunk in self.past.weights[..whole].chunks_mut(PARTS * L) {
            for at in (0..chunk.len()).step_by(V::N) {
                let greatest = V::read(&greatest[at % MOST_LANES..]);
                let e = maths::exp(V::read(&chunk[at..]).sub(greatest));
                e.write(&mut chunk[at..]);
                V::read(&sums[at..]).add(e).write(&mut sums[at..]);
            }
        }
        for distance in [8, 4, 2, 1] {
            for i in 0..distance * L {
                sums[i] += sums[i + distance * L];
            }
        }
        let mut total = [0.0; MOST_LANES];
        total[..L].copy_from_slice(&sums[..L]);
        total
    }

    /// T vectors of outputs from float `at` on.
    ///
    /// # Safety
    /// They lie within the head.
    #[inline(always)]
    unsafe fn outputs<V: Vector, const T: usize>(&mut self, at: usize, total: &[f32; MOST_LANES]) {
        let width = self.past.channels * L;
        let mut sums = [V::splat(0.0); T];
        // SAFETY: `attend` has checked the channels of the past, the caller those of the head.
        unsafe {
            let values = self.past.values.as_ptr().add(self.first * L + at);
            let weights = self.past.weights.as_ptr();
            for j in 0..self.past.len {
                for t in 0..T {
                    let weight = Self::repeated::<V>(weights.add(j * L), at + t * V::N);
                    sums[t] = weight.mul_add(V::load(values.add(j * width + t * V::N)), sums[t]);
                }
            }
            for t in 0..T {
                let total = Self::repeated::<V>(total.as_ptr(), at + t * V::N);
                sums[t].div(total).store(self.ys.as_mut_ptr().add(at + t * V::N));
            }
        }
    }
}

#[cfg(test)]
mod tests;
