//! What moves the codes: running means, restarts, a start by k-means; and what says how well they are used.

use tch::{Kind, Tensor};

use super::{CodebookUpdate, VectorQuantiser, kernel};
use crate::{kernels::cuda::quantise, random};

/// What keeps the count of a rare code above zero (the epsilon of Laplace's rule).
const EPSILON: f64 = 1e-5;
/// Rounds of k-means at the start.
const ROUNDS: usize = 10;

impl VectorQuantiser {
    /// One step of the running means on vectors `[N, G D]` and the codes `[N, G]` that a lookup gave them; does nothing
    /// under [`CodebookUpdate::Gradient`].
    ///
    /// `n_k = g n_k + (1 - g) |{x: x chose k}|`, `m_k = g m_k + (1 - g) sum of them`, and for every code that was chosen
    /// `e_k = m_k / s_k`, `s_k = (n_k + eps) / (sum n + K eps) sum n` (Laplace). A code that nobody chose stays where it is:
    /// its count falls, and a quotient of two vanishing numbers is never taken.
    pub fn update(&self, xs: &Tensor, codes: &Tensor) {
        let CodebookUpdate::Ema { decay } = self.config.update else { return };
        tch::no_grad(|| {
            let (chosen, total) = self.totals(xs, codes);
            let follow = |mean: &Tensor, new: &Tensor| {
                let mut mean = mean.shallow_clone();
                let _ = mean.g_mul_scalar_(decay);
                let _ = mean.g_add_(&(new * (1. - decay)));
            };
            follow(&self.counts, &chosen);
            follow(&self.sums, &total);
            let all = self.counts.sum_dim_intlist([1i64].as_slice(), true, Kind::Float); // [G, 1]
            let smooth =
                (&self.counts + EPSILON) / (&all + self.config.codes as f64 * EPSILON) * all;
            let moved = &self.sums / smooth.unsqueeze(-1);
            let used = chosen.gt(0.).unsqueeze(-1);
            self.codes.shallow_clone().copy_(&moved.where_self(&used, &self.codes));
        });
    }

    /// How many vectors chose each code `[G, K]`, and their sums `[G, K, D]`.
    fn totals(&self, xs: &Tensor, codes: &Tensor) -> (Tensor, Tensor) {
        if let Some(gpu) = kernel(xs) {
            return quantise::totals(gpu, xs, codes, &self.sums)
                .unwrap_or_else(|error| panic!("a codebook's sums: {error}"));
        }
        let parts = self.parts(xs).reshape([-1, self.config.dim]); // [G N, D]
        let index = self.flat(codes).tr().reshape([-1]); // [G N]
        let chosen = index
            .bincount::<Tensor>(None, self.config.codebooks * self.config.codes)
            .to_kind(Kind::Float)
            .view_as(&self.counts);
        let total = self.sums.zeros_like().view([-1, self.config.dim]).index_add(0, &index, &parts);
        (chosen, total.view_as(&self.sums))
    }

    /// The totals of the codes nearest to `xs`; on a GPU they are taken where codes are looked up.
    fn totals_of_nearest(&self, xs: &Tensor) -> (Tensor, Tensor) {
        let Some(gpu) = kernel(xs) else { return self.totals(xs, &self.nearest(xs)) };
        quantise::nearest_and_totals(gpu, xs, &self.codes)
            .unwrap_or_else(|error| panic!("a codebook's sums: {error}"))
            .1
    }

    /// Puts every code whose count is below its share (`restart_below`) where a vector of `[N, G D]` is, all different ones,
    /// chosen by (seed, step); its count becomes an even share and its sum that many of the vector. Returns how many were moved.
    pub fn restart(&self, xs: &Tensor, seed: u64, step: u64) -> usize {
        if self.config.restart_below <= 0. {
            return 0;
        }
        tch::no_grad(|| {
            let share = self.counts.sum_dim_intlist([1i64].as_slice(), true, Kind::Float)
                / self.config.codes as f64;
            let dead = self.counts.lt_tensor(&(&share * self.config.restart_below)).nonzero(); // [M, 2]
            let dead: Vec<i64> = Vec::try_from(dead.flatten(0, -1).to_device(tch::Device::Cpu))
                .expect("a flat int64 tensor is a vector");
            let parts = self.parts(xs); // [G, N, D]
            let order = random::permutation(seed, "codebook.restart", step, xs.size()[0] as usize);
            for (pair, row) in dead.chunks_exact(2).zip(order.iter().cycle()) {
                let (book, code) = (pair[0], pair[1]);
                let vector = parts.get(book).get(*row as i64);
                let place = |to: &Tensor| to.get(book).get(code);
                place(&self.codes).copy_(&vector);
                place(&self.sums).copy_(&(&vector * share.get(book)));
                place(&self.counts).copy_(&share.get(book).get(0));
            }
            dead.len() / 2
        })
    }

    /// Starts the codes by k-means on vectors `[N, G D]`: K of them, each drawn in proportion to its squared distance from
    /// those before it (Arthur and Vassilvitskii, "k-means++", 2007, section 2.2), then ten rounds of Lloyd's algorithm.
    /// Counts become those of an even use.
    pub fn start(&self, xs: &Tensor, seed: u64) {
        tch::no_grad(|| {
            let mut codes = self.codes.shallow_clone();
            let parts = self.parts(xs); // [G, N, D]
            for book in 0..self.config.codebooks {
                codes.get(book).copy_(&spread(
                    &parts.get(book),
                    self.config.codes,
                    seed,
                    book as u64,
                ));
            }
            for _ in 0..ROUNDS {
                let (chosen, total) = self.totals_of_nearest(xs);
                let mean = total / chosen.clamp_min(1.).unsqueeze(-1);
                let used = chosen.gt(0.).unsqueeze(-1);
                codes.copy_(&mean.where_self(&used, &self.codes));
            }
            let share = xs.size()[0] as f64 / self.config.codes as f64;
            let _ = self.counts.shallow_clone().fill_(share);
            self.sums.shallow_clone().copy_(&(&self.codes * share));
        });
    }
}

/// `count` of the vectors `[N, D]`, far from each other: `[count, D]`.
fn spread(xs: &Tensor, count: i64, seed: u64, book: u64) -> Tensor {
    let uniform = |k: i64| random::uniform_at(seed, "codebook.start", book, k as u64);
    let last = xs.size()[0] - 1;
    let mut picked = vec![xs.get((uniform(0) * (last + 1) as f64) as i64)];
    let mut nearest =
        (xs - &picked[0]).square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    for k in 1..count {
        let below = nearest.cumsum(0, Kind::Double);
        let at = Tensor::from(uniform(k) * below.double_value(&[last])).to_device(xs.device());
        let row = Vec::<i64>::try_from(at.unsqueeze(0).searchsorted(
            &below,
            false,
            true,
            "right",
            None::<Tensor>,
        ))
        .map_or(0, |row| row[0].min(last)); // all alike: any will do
        let next = xs.get(row);
        let distance =
            (xs - &next).square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
        nearest = nearest.minimum(&distance);
        picked.push(next);
    }
    Tensor::stack(&picked, 0)
}

/// How often each of `num_codes` codes stands in `codes`.
pub fn usage(codes: impl IntoIterator<Item = u32>, num_codes: usize) -> Vec<u64> {
    let mut counts = vec![0; num_codes];
    for code in codes {
        counts[code as usize] += 1;
    }
    counts
}

/// `exp(-sum_k p_k ln p_k)`: the number of codes that, evenly used, would say as much. 1 for one code, K for all alike.
pub fn perplexity(usage: &[u64]) -> f64 {
    let total = usage.iter().sum::<u64>() as f64;
    let entropy = |&count: &u64| {
        let p = count as f64 / total;
        if count == 0 { 0. } else { -p * p.ln() }
    };
    usage.iter().map(entropy).sum::<f64>().exp()
}
