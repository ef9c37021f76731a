//! Attention over the past of one text, whose length is its own: texts side by side need not march in step.
//!
//! `y_c = sum_j e_j v_jc / sum_j e_j` with `e_j = e^(s_j - max s)` and `s_j = sum_c (q_c / sqrt(D)) k_jc`, for each query
//! head over the positions j of a span, with the keys and values of the head that it shares
//! (Ainslie et al., "GQA", 2023, <https://arxiv.org/abs/2305.13245>).
//!
//! The order is defined as in [`super::attention`]: a score is one chain of fused multiply-adds, c ascending; the sum of the
//! `e_j` is 16 partial sums, the p-th over the positions j of the span with j mod 16 = p, then added in pairs of distance 8,
//! 4, 2 and 1; an output is one chain of fused multiply-adds, j ascending, then divided. Letters: H query heads, K key and
//! value heads, D channels of a head, N numbers in a vector.
//!
//! Keys lie as `[K][block of 16 positions][D + 1][16]` and values as `[K][position][D]`: vectors hold positions of a score, and
//! channels of an output, and a head reads memory from one end to the other. The line that fills up a block keeps blocks that
//! are read together out of each other's sets of the first cache.

#![expect(clippy::needless_range_loop, reason = "a constant index keeps an array in registers")]

use std::ops::Range;

use super::Kernel;
use super::buffer::Buffer;
use super::maths;
use super::vector::{Task, Vector, dispatch};

const BLOCK: usize = 16;

/// Keys and values of the positions of one text that came before.
#[derive(Debug, Default)]
pub struct TextPast {
    keys: Buffer,
    values: Buffer,
    kv_heads: usize,
    depth: usize,
    room: usize, // positions, whole blocks
    len: usize,
}

impl TextPast {
    /// Nothing yet, for `kv_heads` heads of `depth` channels.
    pub fn new(kv_heads: usize, depth: usize) -> Self {
        Self { kv_heads, depth, ..Self::default() }
    }

    /// Positions that are remembered.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to attend to.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all but the first `len` positions.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len, "{} positions are remembered, not {len}", self.len);
        self.len = len;
    }

    /// Adds a position: key and value `[K][D]`.
    ///
    /// # Panics
    /// If either has another length.
    pub fn push(&mut self, key: &[f32], value: &[f32]) {
        let (depth, width) = (self.depth, self.kv_heads * self.depth);
        assert!(key.len() == width && value.len() == width, "a key and a value of {width}");
        if self.len == self.room {
            *self = self.with_room((2 * self.room).max(4 * BLOCK));
        }
        let (block, place) = (self.len / BLOCK * BLOCK, self.len % BLOCK);
        for head in 0..self.kv_heads {
            let key = &key[head * depth..][..depth];
            let first = (head * self.room + block) * (depth + 1);
            let to = self.keys[first..][..BLOCK * depth].iter_mut();
            to.skip(place).step_by(BLOCK).zip(key).for_each(|(to, &from)| *to = from);
            let value = &value[head * depth..][..depth];
            let first = (head * self.room + self.len) * depth;
            self.values[first..][..depth].copy_from_slice(value);
        }
        self.len += 1;
    }

    /// A copy with room for so many positions, at least as many as it has.
    fn with_room(&self, room: usize) -> Self {
        let grown = |from: &Buffer, width: usize| {
            let mut to = Buffer::new(room * self.kv_heads * width);
            let heads = from.chunks_exact((self.room * width).max(1));
            for (to, from) in to.chunks_exact_mut((room * width).max(1)).zip(heads) {
                to[..from.len()].copy_from_slice(from);
            }
            to
        };
        let (keys, values) = (grown(&self.keys, self.depth + 1), grown(&self.values, self.depth));
        Self { keys, values, room, ..*self }
    }
}

impl Clone for TextPast {
    fn clone(&self) -> Self {
        self.with_room(self.room)
    }
}

impl Kernel {
    /// What the heads of `queries` `[H][D]` read of the positions `span` of `past`, to `ys` `[H][D]`; query head h shares the
    /// key and value head `h / (H / K)`. `scores` is scratch space.
    ///
    /// # Panics
    /// If the span is empty or reaches beyond the past, the lengths differ, or the heads do not share evenly.
    pub fn attend_text(
        &self,
        past: &TextPast,
        span: Range<usize>,
        queries: &[f32],
        scores: &mut Vec<f32>,
        ys: &mut [f32],
    ) {
        let (width, depth) = (queries.len(), past.depth);
        assert!(span.start < span.end && span.end <= past.len, "{span:?} of {}", past.len);
        assert!(ys.len() == width && depth > 0, "queries and outputs of one length");
        let shared = past.kv_heads * depth;
        assert!(width > 0 && width.is_multiple_of(shared), "{width} floats share {shared}");
        let heads = width / depth;
        let stride = span.end.next_multiple_of(BLOCK) - span.start / BLOCK * BLOCK;
        scores.resize(heads * stride + depth, 0.0); // after the heads' scores, a scaled query
        dispatch(
            self.machine(),
            Heads { past, span, queries, scores, stride, share: heads / past.kv_heads, ys },
        );
    }
}

/// All heads of one query, checked: the span lies within the past.
struct Heads<'a> {
    past: &'a TextPast,
    span: Range<usize>,
    queries: &'a [f32],
    scores: &'a mut [f32], // [H][stride] from the first block of the span on, then D
    stride: usize,
    share: usize,
    ys: &'a mut [f32],
}

impl Task for Heads<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let depth = self.past.depth;
        let heads = self.queries.len() / depth;
        for head in 0..heads {
            self.weigh::<V>(head);
        }
        let vectors = depth / V::N;
        let mut head = 0;
        while head < heads {
            // eight chains at once hide the latency of an addition
            let count = match (vectors, heads - head) {
                (0..=1, 8..) => self.row::<V, 1, 8>(head),
                (0..=3, 4..) => self.row::<V, 2, 4>(head),
                (0..=7, 2..) => self.row::<V, 4, 2>(head),
                (8.., _) => self.row::<V, 8, 1>(head),
                _ => self.row::<V, 4, 1>(head),
            };
            head += count;
        }
    }
}

impl Heads<'_> {
    /// Scores of a head, and from them its weights `e_j / sum e_j` but for the division, whose divisor stays in `ys`.
    #[inline(always)]
    fn weigh<V: Vector>(&mut self, head: usize) {
        let (depth, stride) = (self.past.depth, self.stride);
        let first = self.span.start / BLOCK * BLOCK;
        let heads = self.queries.len() / depth;
        let scale = 1.0 / (depth as f32).sqrt();
        let (all, query) = self.scores.split_at_mut(heads * stride);
        let query = &mut query[..depth];
        for (scaled, query) in query.iter_mut().zip(&self.queries[head * depth..]) {
            *scaled = query * scale;
        }
        let scores = &mut all[head * stride..][..stride];
        let keys = Keys { past: self.past, head: head / self.share, first, query };
        let mut at = 0;
        at = keys.scores::<V, 8>(at, scores);
        at = keys.scores::<V, 4>(at, scores);
        at = keys.scores::<V, 2>(at, scores);
        keys.scores::<V, 1>(at, scores);
        scores[..self.span.start - first].fill(f32::NEG_INFINITY); // no part in what follows
        scores[self.span.end - first..].fill(f32::NEG_INFINITY);
        self.ys[head * depth] = exponentials::<V>(scores);
    }

    /// Outputs of G heads from `head` on, T vectors of channels of each at a time; returns G.
    #[inline(always)]
    fn row<V: Vector, const T: usize, const G: usize>(&mut self, head: usize) -> usize {
        let depth = self.past.depth;
        let mut totals = [0.0; G];
        for g in 0..G {
            totals[g] = self.ys[(head + g) * depth];
        }
        let mut at = 0;
        // SAFETY: whole vectors of existing channels of existing heads.
        unsafe {
            while at + T * V::N <= depth {
                self.outputs::<V, T, G>(head, at, &totals);
                at += T * V::N;
            }
            while at + V::N <= depth {
                self.outputs::<V, 1, G>(head, at, &totals);
                at += V::N;
            }
            while at < depth {
                self.outputs::<f32, 1, G>(head, at, &totals);
                at += 1;
            }
        }
        G
    }

    /// T vectors of outputs of G heads, from channel `at` on.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    unsafe fn outputs<V: Vector, const T: usize, const G: usize>(
        &mut self,
        head: usize,
        at: usize,
        totals: &[f32; G],
    ) {
        let depth = self.past.depth;
        let first = self.span.start / BLOCK * BLOCK;
        let mut sums = [[V::splat(0.0); T]; G];
        // SAFETY: the span lies within the past and the scores, the caller has checked heads and channels.
        unsafe {
            let mut values = [self.past.values.as_ptr(); G];
            let mut weights = [self.scores.as_ptr(); G];
            for g in 0..G {
                values[g] = values[g].add((head + g) / self.share * self.past.room * depth + at);
                weights[g] = weights[g].add((head + g) * self.stride);
            }
            for j in self.span.clone() {
                for g in 0..G {
                    let weight = V::splat(*weights[g].add(j - first));
                    for t in 0..T {
                        let value = V::load(values[g].add(j * depth + t * V::N));
                        sums[g][t] = weight.mul_add(value, sums[g][t]);
                    }
                }
            }
            for g in 0..G {
                for t in 0..T {
                    let y = sums[g][t].div(V::splat(totals[g]));
                    y.store(self.ys.as_mut_ptr().add((head + g) * depth + at + t * V::N));
                }
            }
        }
    }
}

/// The keys that one head reads, from the block of position `first` on.
struct Keys<'a> {
    past: &'a TextPast,
    head: usize,
    first: usize,
    query: &'a [f32],
}

impl Keys<'_> {
    /// As many tiles of T vectors of scores as fit from `at` on; where the next begins.
    #[inline(always)]
    fn scores<V: Vector, const T: usize>(&self, mut at: usize, scores: &mut [f32]) -> usize {
        let depth = self.past.depth;
        let first = self.head * self.past.room + self.first;
        while at + T * V::N <= scores.len() {
            let mut sums = [V::splat(0.0); T];
            let mut keys = [self.past.keys.as_ptr(); T];
            // SAFETY: `scores` is whole blocks of the span, which lies within the keys.
            unsafe {
                for t in 0..T {
                    let position = first + at + t * V::N; // rooms are whole blocks
                    let block = position / BLOCK * BLOCK * (depth + 1);
                    keys[t] = keys[t].add(block + position % BLOCK);
                }
                for c in 0..depth {
                    let query = V::splat(*self.query.get_unchecked(c));
                    for t in 0..T {
                        sums[t] = query.mul_add(V::load(keys[t].add(c * BLOCK)), sums[t]);
                    }
                }
            }
            for t in 0..T {
                sums[t].write(&mut scores[at + t * V::N..]);
            }
            at += T * V::N;
        }
        at
    }
}

/// Turns scores, whole blocks of them, into `e^(s - greatest)` and returns their sum.
#[inline(always)]
fn exponentials<V: Vector>(scores: &mut [f32]) -> f32 {
    let mut parts = [V::splat(f32::NEG_INFINITY); BLOCK];
    for block in scores.chunks_exact(BLOCK) {
        for i in 0..BLOCK / V::N {
            let x = V::read(&block[i * V::N..]);
            parts[i] = parts[i].if_less(x, x, parts[i]);
        }
    }
    let mut numbers = [f32::NEG_INFINITY; BLOCK];
    for i in 0..BLOCK / V::N {
        parts[i].write(&mut numbers[i * V::N..]);
    }
    let greatest = numbers.into_iter().fold(f32::NEG_INFINITY, |a, b| if a < b { b } else { a });
    let mut sums = [V::splat(0.0); BLOCK];
    for block in scores.chunks_exact_mut(BLOCK) {
        for i in 0..BLOCK / V::N {
            let e = maths::exp(V::read(&block[i * V::N..]).sub(V::splat(greatest)));
            e.write(&mut block[i * V::N..]);
            sums[i] = sums[i].add(e);
        }
    }
    for i in 0..BLOCK / V::N {
        sums[i].write(&mut numbers[i * V::N..]);
    }
    for distance in [8, 4, 2, 1] {
        for i in 0..distance {
            numbers[i] += numbers[i + distance];
        }
    }
    numbers[0]
}

#[cfg(test)]
mod tests;
