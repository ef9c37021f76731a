//! Attention over kept positions: `y = sum_j p_j v_j` with `p = softmax(scale q k_j)`, j from the first position that the
//! band shows up to the query's own.
//!
//! Positions are taken 256 at a time, what was found before being rescaled to the new maximum (Milakov and Gimelshein,
//! 2018, <https://arxiv.org/abs/1805.02867>), so that nothing grows with the text. Stretches begin at multiples of 256:
//! a query's result does not depend on which others are computed with it. The heads that share keys, and queries side by
//! side, read them together.

use std::ops::Range;

use super::{
    cache::{BLOCK, Cache, Kept, Number, Pair},
    elementwise::{exp, total},
    inputs::greatest,
    lanes::{Lanes, Task},
    level::{LANES, Level},
    pool::{Parts, Pool},
};

/// The heads of a layer, and what they see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads H.
    pub heads: usize,
    /// Key and value heads K, of which H is a multiple.
    pub kv_heads: usize,
    /// Width E of a head.
    pub d_head: usize,
    /// Positions that are seen, the query's own included; all where there is none.
    pub band: Option<usize>,
    /// What products are multiplied by.
    pub scale: f32,
}

/// Columns of one text: those of `columns` stand at positions `first`, `first + 1`...
#[derive(Debug, Clone)]
pub struct Span<'a> {
    /// The text's keys and values, those of these columns included.
    pub cache: &'a Cache,
    /// Position of the first column.
    pub first: usize,
    /// The columns.
    pub columns: Range<usize>,
}

/// Positions that are taken at once.
const STRETCH: usize = 256;
/// Queries that read keys and values together.
const TOGETHER: usize = 4;
/// Products below which a call is not worth sharing.
const FEW: usize = 1 << 15;

/// Queries are `[column][stride]`, of which the first `[H][E]` count; results `[column][H][E, rounded up to 16]`.
pub(super) fn attend(
    (level, pool): (Level, &mut Pool),
    heads: &Heads,
    spans: &[Span<'_>],
    (queries, stride): (&[f32], usize),
    to: &mut [f32],
) {
    let group = heads.heads / heads.kv_heads;
    let side = TOGETHER.div_ceil(group); // columns of a unit
    let mut units = Vec::new();
    let mut products = 0;
    for span in spans {
        let end = span.first + span.columns.len();
        assert!(end <= span.cache.positions, "position {end} of {}", span.cache.positions);
        assert_eq!(
            (span.cache.heads, span.cache.d_head),
            (heads.kv_heads, heads.d_head),
            "a cache of these heads"
        );
        products += span.columns.len() * end * heads.heads * heads.d_head;
        for kv_head in 0..heads.kv_heads {
            for column in span.columns.clone().step_by(side) {
                let columns = column..span.columns.end.min(column + side);
                let first = span.first + column - span.columns.start;
                units.push((span.cache, kv_head, first, columns));
            }
        }
    }
    let columns = spans.iter().map(|it| it.columns.end).max().unwrap_or(0);
    let width = heads.heads * heads.d_head.next_multiple_of(LANES);
    assert!(to.len() >= columns * width, "room for {columns} columns");
    assert!(queries.len() >= columns * stride && stride >= heads.heads * heads.d_head);
    let to = Parts::new(to);
    let work = |unit: usize| {
        let (cache, kv_head, first, columns) = &units[unit];
        let (heads, kv_head, first, columns) = (*heads, *kv_head, *first, columns.clone());
        let query = Query { heads, kv_head, first, columns, queries, stride, to: &to };
        match &cache.numbers {
            Kept::F16(pair) => level.run(Unit { query, pair, positions: cache.positions }),
            Kept::F32(pair) => level.run(Unit { query, pair, positions: cache.positions }),
        }
    };
    if products < FEW {
        (0..units.len()).for_each(work);
    } else {
        pool.run(units.len(), &work);
    }
}

/// Columns of one text and the query heads that share a key head.
struct Query<'a> {
    heads: Heads,
    kv_head: usize,
    first: usize,
    columns: Range<usize>,
    queries: &'a [f32],
    stride: usize,
    to: &'a Parts<'a, f32>,
}

struct Unit<'a, T> {
    query: Query<'a>,
    pair: &'a Pair<T>,
    positions: usize,
}

impl<T: Number> Task for Unit<'_, T> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let group = self.query.heads.heads / self.query.heads.kv_heads;
        let count = group * self.query.columns.len();
        let mut i = 0;
        while i < count {
            // SAFETY: the processor has the instructions, since this is a task; lengths were checked by `attend`.
            i += unsafe {
                match count - i {
                    1 => self.several::<L, 1, 4>(i),
                    2 => self.several::<L, 2, 2>(i),
                    3 => self.several::<L, 3, 2>(i),
                    _ => self.several::<L, TOGETHER, 2>(i),
                }
            };
        }
    }
}

impl<T: Number> Unit<'_, T> {
    /// M queries from the i-th on; keys of P times 16 positions at once. Returns M.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline(always)]
    unsafe fn several<L: Lanes, const M: usize, const P: usize>(&self, i: usize) -> usize {
        let (query, Heads { d_head, band, scale, .. }) = (&self.query, self.query.heads);
        let group = query.heads.heads / query.heads.kv_heads;
        let padded = d_head.next_multiple_of(LANES);
        let places: [(usize, usize); M] = std::array::from_fn(|m| {
            let (column, head) = ((i + m) / group, query.kv_head * group + (i + m) % group);
            (query.columns.start + column, head)
        });
        let queries = places.map(|(column, head)| {
            &query.queries[column * query.stride + head * d_head..][..d_head]
        });
        let mut to = places.map(|(column, head)| {
            let at = (column * query.heads.heads + head) * padded;
            // SAFETY: no other unit has this column and head.
            unsafe { query.to.part(at..at + padded) }
        });
        for to in &mut to {
            to.fill(0.);
        }
        let seen = places.map(|(column, _)| {
            let end = query.first + column - query.columns.start + 1;
            (band.map_or(0, |band| end.saturating_sub(band)), end)
        });
        let keys = &self.pair.keys[query.kv_head * self.positions * d_head..];
        let values = &self.pair.values[query.kv_head * self.positions * padded..];
        let from = seen.iter().map(|it| it.0).min().unwrap_or(0) / STRETCH * STRETCH;
        let end = seen.iter().map(|it| it.1).max().unwrap_or(0);
        let mut scores = [[0f32; STRETCH]; M];
        let mut found = [(f32::NEG_INFINITY, 0f32); M]; // the greatest score, and the sum of exponentials
        for base in (from..end).step_by(STRETCH) {
            let count = (end - base).min(STRETCH);
            for at in (0..count).step_by(P * LANES) {
                let keys = &keys[(base + at) * d_head..][..P * LANES * d_head];
                // SAFETY: by this function's contract.
                let products = unsafe { products::<L, T, M, P>(keys, queries) };
                for (scores, products) in scores.iter_mut().zip(products) {
                    scores[at..at + P * LANES].copy_from_slice(products.as_flattened());
                }
            }
            let (mut least, mut most) = (STRETCH, 0);
            for m in 0..M {
                let inside = |it: usize| it.clamp(base, base + STRETCH) - base;
                let own = inside(seen[m].0)..inside(seen[m].1);
                (least, most) = (least.min(own.start), most.max(own.end));
                let shrink = soften(&mut scores[m], own, scale, &mut found[m]);
                for it in to[m].iter_mut() {
                    *it *= shrink;
                }
            }
            let values = &values[(base + least) * padded..(base + most) * padded];
            let scores = scores.each_ref().map(|it| &it[least..most]);
            // SAFETY: by this function's contract.
            unsafe { add_values::<L, T, M>(values, scores, &mut to) };
        }
        for (to, (_, sum)) in to.into_iter().zip(found) {
            for it in to.iter_mut() {
                *it /= sum;
            }
        }
        M
    }
}

const _: () = assert!(STRETCH.is_multiple_of(BLOCK) && BLOCK == 4 * LANES);

/// Products of M queries with P times 16 keys `[P][E][16]`.
///
/// # Safety
/// The processor has the instructions.
#[inline(always)]
unsafe fn products<L: Lanes, T: Number, const M: usize, const P: usize>(
    keys: &[T],
    queries: [&[f32]; M],
) -> [[[f32; LANES]; P]; M] {
    let d_head = queries[0].len();
    assert!(keys.len() == P * LANES * d_head && queries.iter().all(|it| it.len() == d_head));
    let mut out = [[[0f32; LANES]; P]; M];
    // SAFETY: by this function's contract; lengths are checked above.
    unsafe {
        let mut sums = [[L::splat(0.); P]; M];
        for e in 0..d_head {
            let keys: [L::Floats; P] =
                std::array::from_fn(|p| T::load::<L>(keys.as_ptr().add((p * d_head + e) * LANES)));
            for (sums, query) in sums.iter_mut().zip(queries) {
                let x = L::splat(*query.as_ptr().add(e));
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum = L::mul_add(key, x, *sum);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.iter_mut().zip(sums) {
                L::store(sum, out.as_mut_ptr());
            }
        }
    }
    out
}

/// Makes exponentials of the scores in `own`, relative to the greatest found so far, and zeros of the others; returns what
/// earlier results are to be multiplied by.
#[inline(always)]
fn soften(
    scores: &mut [f32; STRETCH],
    own: Range<usize>,
    scale: f32,
    (most, sum): &mut (f32, f32),
) -> f32 {
    if own.is_empty() {
        scores.fill(0.);
        return 1.;
    }
    scores[..own.start].fill(f32::NEG_INFINITY);
    scores[own.end..].fill(f32::NEG_INFINITY);
    let rows = &mut scores.as_chunks_mut::<LANES>().0[own.start / LANES..own.end.div_ceil(LANES)];
    let mut greater = [f32::NEG_INFINITY; LANES];
    for row in rows.iter_mut() {
        for (greater, x) in greater.iter_mut().zip(row) {
            *x *= scale;
            *greater = if *x > *greater { *x } else { *greater };
        }
    }
    let before = *most;
    *most = greatest(greater).max(before);
    for row in rows {
        for x in row {
            *x = exp(*x - *most);
        }
    }
    scores[..own.start].fill(0.);
    scores[own.end..].fill(0.);
    let mut sums = [0f32; LANES];
    for row in &scores.as_chunks::<LANES>().0[own.start / LANES..own.end.div_ceil(LANES)] {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
    let shrink = if before > f32::NEG_INFINITY { exp(before - *most) } else { 0. };
    *sum = *sum * shrink + total(sums);
    shrink
}

/// `to[m] += sum_j scores[m][j] values[j]`.
///
/// # Safety
/// The processor has the instructions.
#[inline(always)]
unsafe fn add_values<L: Lanes, T: Number, const M: usize>(
    values: &[T],
    scores: [&[f32]; M],
    to: &mut [&mut [f32]; M],
) {
    let padded = to[0].len();
    assert!(padded.is_multiple_of(LANES) && to.iter().all(|it| it.len() == padded));
    let count = values.len() / padded;
    assert!(scores.iter().all(|it| it.len() == count));
    let to = to.each_mut().map(|it| it.as_mut_ptr());
    let mut at = 0;
    while at < padded {
        // SAFETY: by this function's contract; lengths are checked above.
        at += LANES
            * unsafe {
                if padded - at >= 4 * LANES {
                    add_part::<L, T, M, 4>(
                        (values.as_ptr().add(at), padded),
                        scores,
                        to.map(|it| it.add(at)),
                    )
                } else {
                    add_part::<L, T, M, 1>(
                        (values.as_ptr().add(at), padded),
                        scores,
                        to.map(|it| it.add(at)),
                    )
                }
            };
    }
}

/// The same of V times 16 places, of rows `stride` apart. Returns V.
///
/// # Safety
/// The processor has the instructions; there are so many places, and a row for each score.
#[inline(always)]
unsafe fn add_part<L: Lanes, T: Number, const M: usize, const V: usize>(
    (values, stride): (*const T, usize),
    scores: [&[f32]; M],
    to: [*mut f32; M],
) -> usize {
    // SAFETY: by this function's contract.
    unsafe {
        let mut sums: [[L::Floats; V]; M] =
            to.map(|to| std::array::from_fn(|v| L::load(to.add(v * LANES))));
        for j in 0..scores[0].len() {
            let row = values.add(j * stride);
            let row: [L::Floats; V] = std::array::from_fn(|v| T::load::<L>(row.add(v * LANES)));
            for (sums, scores) in sums.iter_mut().zip(scores) {
                let p = L::splat(*scores.as_ptr().add(j));
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum = L::mul_add(value, p, *sum);
                }
            }
        }
        for (to, sums) in to.into_iter().zip(sums) {
            for (v, sum) in sums.into_iter().enumerate() {
                L::store(sum, to.add(v * LANES));
            }
        }
    }
    V
}
