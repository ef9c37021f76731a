//! The front of the kernels: threads, and the instructions that they use.

use super::{
    attention::{self, Heads, Span},
    elementwise::Kernel,
    inputs::{Inputs, Quantise},
    level::Level,
    linear::Tiles,
    packed::{Format, Packed, TILE},
    pool::{Parts, Pool},
    read::Read,
};
use crate::kernels::exact::Variant;

/// Threads that compute one thing after the other together.
///
/// The caller is one of them; the others live as long as this does, and sleep when there is nothing to do.
pub struct Workers {
    level: Level,
    pool: Pool,
    cuts: Vec<usize>,
}

/// One of the matrices that read the same inputs.
#[derive(Debug)]
pub struct Product<'a> {
    /// The matrix.
    pub weights: &'a Packed,
    /// What its products are added to, `[column][padded outs]`.
    pub ys: &'a mut [f32],
}

/// Tiles of a unit, at least, for one column: claiming one takes a tenth of the time of a tile.
const LEAST: usize = 2;
/// Columns from which on small work is worth sharing.
const MANY: usize = 4;

impl Workers {
    /// `threads` threads, the caller's included; fewer where the system gives no more.
    ///
    /// # Panics
    /// If this processor lacks `variant`, see [`Variant::available`].
    pub fn new(variant: Variant, threads: usize) -> Self {
        Self { level: Level::of(variant), pool: Pool::new(threads), cuts: Vec::new() }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The same instructions for one thread.
    pub const fn kernel(&self) -> Kernel {
        Kernel::new(self.level)
    }

    /// Calls `work` with each stretch of `size` and its number, on all threads.
    ///
    /// # Panics
    /// If `size` is 0.
    pub fn each<T: Send>(
        &mut self,
        xs: &mut [T],
        size: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let (len, units) = (xs.len(), xs.len().div_ceil(size));
        let parts = Parts::new(xs);
        share(&mut self.pool, units, |i| {
            // SAFETY: stretches do not overlap, and each is one unit.
            work(i, unsafe { parts.part(i * size..len.min((i + 1) * size)) });
        });
    }

    /// Rounds the floats of inputs to the integers that their readers need.
    pub fn quantise(&mut self, inputs: &mut Inputs) {
        let (width, columns) = (inputs.width(), inputs.columns());
        let (xs, groups) = inputs.parts();
        for groups in groups {
            let (size, count) = (groups.size, width / groups.size);
            let values = Parts::new(&mut groups.values);
            let scales = Parts::new(&mut groups.scales);
            let sums = Parts::new(&mut groups.sums);
            let totals = Parts::new(&mut groups.totals);
            let level = self.level;
            share(&mut self.pool, columns, |column| {
                let range = column * count..(column + 1) * count;
                // SAFETY: columns do not overlap, and each is one unit.
                level.run(unsafe {
                    Quantise {
                        size,
                        xs: &xs[column * width..][..width],
                        values: values.part(column * width..(column + 1) * width),
                        scales: scales.part(range.clone()),
                        sums: sums.part(range.clone()),
                        totals: totals.part(range),
                    }
                });
            });
        }
    }

    /// `y[c][o] += sum_k w[o][k] x[c][k]` for every matrix of `products` and every column of `inputs`, which were
    /// quantised. Outputs beyond a matrix's last have 0 added.
    ///
    /// # Panics
    /// If a matrix has other inputs or was not among the readers of `inputs`, or its results have no room.
    pub fn accumulate(&mut self, products: &mut [Product<'_>], inputs: &Inputs) {
        let columns = inputs.columns();
        for product in products.iter() {
            let (weights, needed) = (product.weights, columns * product.weights.padded_outs());
            assert_eq!(weights.inputs(), inputs.width(), "inputs of a matrix");
            let len = product.ys.len();
            assert!(len >= needed, "there are {len} results, but {needed} are written");
            if let Format::Integers(it) = weights.format() {
                assert!(
                    inputs.groups(it.group).is_some(),
                    "a matrix that inputs have no integers for"
                );
            }
        }
        let level = self.level;
        let tiles = products.iter().map(|it| it.weights.tiles()).sum();
        let least = LEAST.div_ceil(columns.max(1));
        cut(tiles, self.pool.threads(), least, &mut self.cuts);
        let parts: Vec<(&Packed, Parts<'_, f32>)> =
            products.iter_mut().map(|it| (it.weights, Parts::new(&mut *it.ys))).collect();
        let cuts = &self.cuts;
        self.pool.run(cuts.len() - 1, &|unit| {
            let (mut from, end) = (cuts[unit], cuts[unit + 1]);
            let mut before = 0;
            for (weights, ys) in &parts {
                let tiles = weights.tiles();
                if from < end && from < before + tiles {
                    let (first, end) = (from - before, (end - before).min(tiles));
                    level.run(Tiles { weights, inputs, first, end, ys });
                    from = before + end;
                }
                before += tiles;
            }
        });
    }

    /// Reads all weights of a matrix and does next to nothing with them: what [`Workers::accumulate`] can be measured against.
    pub fn read(&mut self, weights: &Packed) {
        let (level, lines) = (self.level, weights.lines());
        let share = lines.len().div_ceil(8 * self.pool.threads()).next_multiple_of(128).max(128);
        self.pool.run(lines.len().div_ceil(share), &|i| {
            let lines = &lines[i * share..lines.len().min((i + 1) * share)];
            let mut sums = [0.; TILE];
            level.run(Read { lines, sums: &mut sums });
            std::hint::black_box(sums);
        });
    }

    /// Attention of the columns of `spans`; see [`Span`].
    ///
    /// # Panics
    /// If slices are too short, or a cache does not hold the positions.
    pub fn attend(
        &mut self,
        heads: &Heads,
        spans: &[Span<'_>],
        queries: (&[f32], usize),
        to: &mut [f32],
    ) {
        attention::attend((self.level, &mut self.pool), heads, spans, queries, to);
    }
}

/// Does small units of work, several at once where there are many.
fn share(pool: &mut Pool, units: usize, work: impl Fn(usize) + Sync) {
    if units < MANY {
        (0..units).for_each(work);
    } else {
        let several = units.div_ceil(4 * pool.threads());
        pool.run(units.div_ceil(several), &|i| {
            (i * several..units.min((i + 1) * several)).for_each(&work);
        });
    }
}

/// Cuts tiles into units: large ones first, so that there are few, small ones at the end, so that all threads end together.
fn cut(tiles: usize, threads: usize, least: usize, cuts: &mut Vec<usize>) {
    cuts.clear();
    cuts.push(0);
    let mut from = 0;
    while from < tiles {
        let left = tiles - from;
        from += if threads == 1 { tiles } else { (left / (threads + 1)).max(least).min(left) };
        cuts.push(from);
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn cuts_cover_all_tiles_in_order() {
        for (tiles, threads) in [(0, 1), (1, 1), (1, 2), (18, 2), (96, 2), (1536, 2), (7, 64)] {
            let mut cuts = Vec::new();
            cut(tiles, threads, 2, &mut cuts);
            assert_eq!((cuts[0], *cuts.last().unwrap()), (0, tiles));
            assert!(cuts.windows(2).all(|it| it[0] < it[1]));
            assert!(threads > 1 || cuts.len() <= 2);
        }
    }
}
