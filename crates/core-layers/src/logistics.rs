//! A mixture of logistics over very many levels, asked for one level at a time instead of being written out.
//! Letters: L levels, M mixture components, P the precision of the coder.
//!
//! Everything but [`DiscretisedMixture::log_prob`] is of *defined bits*: f64 additions, multiplications and divisions,
//! rounded as IEEE 754 says, in the order that stands here; `exp` is our own. So no processor decodes anything else.

use crate::categorical::any_kernel;

/// Up to so many levels a mixture is taken as the table of its levels, beyond them level by level.
pub const MAX_TABLE_LEVELS: usize = 4096;

/// Cumulated frequencies of a coder go up to `2^PRECISION`: far more than there are levels.
pub const PRECISION: usize = 30;

/// The parameters of a mixture of logistics on `[-1, 1]`, discretised to L levels as
/// [`likelihood::Logistics`](crate::likelihood::Logistics) says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixture<'a> {
    /// Unnormalised log-weights `[M]`.
    pub log_weights: &'a [f32],
    /// Means `[M]`.
    pub means: &'a [f32],
    /// Logarithms of the scales `[M]`; below -30 they count as -30.
    pub log_scales: &'a [f32],
    /// Levels L.
    pub levels: usize,
}

impl<'a> Mixture<'a> {
    /// That of the numbers `[3, M]`.
    pub(crate) fn of(parameters: &'a [f32], levels: usize) -> Self {
        let (log_weights, rest) = parameters.split_at(parameters.len() / 3);
        let (means, log_scales) = rest.split_at(log_weights.len());
        Self { log_weights, means, log_scales, levels }
    }

    /// Log-probabilities of every level `[L]`, by the exact engine.
    pub fn log_probs(&self, out: &mut [f32]) {
        any_kernel().discretised_logistics(self.log_weights, self.means, self.log_scales, out);
    }
}

/// Probabilities of single levels; reused from symbol to symbol.
#[derive(Debug, Clone, Default)]
pub struct DiscretisedMixture {
    levels: usize,
    components: Vec<Component>,
}

/// One logistic: its weight, mean and inverse scale.
#[derive(Debug, Clone, Copy)]
struct Component {
    weight: f64,
    mean: f64,
    rate: f64,
}

impl DiscretisedMixture {
    /// Takes the distribution of `mixture`.
    pub fn set(&mut self, mixture: Mixture<'_>) {
        let Mixture { log_weights, means, log_scales, levels } = mixture;
        self.levels = levels;
        let greatest = log_weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |log_weight: f32| exp(f64::from(log_weight) - f64::from(greatest));
        let total: f64 = log_weights.iter().map(|&it| weight(it)).sum();
        self.components.clear();
        let all = log_weights.iter().zip(means).zip(log_scales);
        self.components.extend(all.map(|((&log_weight, &mean), &log_scale)| Component {
            weight: weight(log_weight) / total,
            mean: f64::from(mean),
            rate: exp(at_most(-f64::from(log_scale), 30.)),
        }));
    }

    /// Levels L.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Whether its parameters are numbers.
    pub fn is_finite(&self) -> bool {
        self.components.iter().all(|it| (it.weight + it.mean + it.rate).is_finite())
    }

    /// The probability of the levels below `level`, which may be L: `sum_m w_m sigma((e - mean_m) / scale_m)` with `e` the
    /// lower edge of `level`, but 0 of none and 1 of all. It errs by less than 1e-12, so it may fall by as much.
    pub fn below(&self, level: usize) -> f64 {
        if level == 0 {
            return 0.;
        }
        if level >= self.levels {
            return 1.;
        }
        let edge = self.edge(level);
        self.components.iter().map(|it| it.weight * sigmoid((edge - it.mean) * it.rate)).sum()
    }

    /// The lower edge of `level`: `(2 level - 1) / (L - 1) - 1`.
    fn edge(&self, level: usize) -> f64 {
        (2. * level as f64 - 1.) / (self.levels - 1) as f64 - 1.
    }

    /// The symbol at `u` in `[0, 1)` of the distribution function, by bisection: that whose interval of it holds `u`.
    pub fn quantile(&self, u: f64) -> u32 {
        self.bisect(|level| self.below(level) <= u)
    }

    /// The last level of which `reached` holds; it does for 0, and for none after one of which it does not.
    fn bisect(&self, reached: impl Fn(usize) -> bool) -> u32 {
        let (mut from, mut to) = (0, self.levels);
        while to - from > 1 {
            let middle = from.midpoint(to);
            if reached(middle) {
                from = middle;
            } else {
                to = middle;
            }
        }
        from as u32
    }

    /// The integer frequency of all levels below `level` together: 0 of none, `2^P` of all, and in between
    /// `C(v) = 2 v + floor(F(v) (2^P - 2 L))`.
    ///
    /// It rises by at least 1 from level to level: `F` falls by less than one unit, the floor by one at the most, and each
    /// level brings two of its own. That costs less than `2 L / 2^P / ln 2` bits a symbol: 0.0002 of 65,536 levels.
    pub fn cumulated(&self, level: usize) -> u32 {
        let spread = f64::from((1u32 << PRECISION) - 2 * self.levels as u32);
        2 * level as u32 + (at_most(self.below(level), 1.) * spread) as u32
    }

    /// The symbol in whose interval of [`cumulated`](Self::cumulated) `quantile`, below `2^P`, lies.
    pub fn symbol_at(&self, quantile: u32) -> u32 {
        self.bisect(|level| self.cumulated(level) <= quantile)
    }

    /// `log p(symbol)` in nats, as [`likelihood::Logistics`](crate::likelihood::Logistics) has it. Its last bits are the
    /// machine's: for reports, not for coding.
    pub fn log_prob(&self, symbol: u32) -> f64 {
        let level = symbol as usize;
        let (lower, upper) = (self.edge(level), self.edge(level + 1));
        let log_prob = |it: &Component| {
            let (a, b) = ((upper - it.mean) * it.rate, (lower - it.mean) * it.rate);
            let log_bin = match level {
                0 => log_sigmoid(a),
                level if level + 1 == self.levels => log_sigmoid(-b),
                _ => log_sigmoid(a) + log_sigmoid(-b) + (-(b - a).exp_m1()).ln(),
            };
            it.weight.ln() + log_bin
        };
        let all: Vec<f64> = self.components.iter().map(log_prob).collect();
        let greatest = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        greatest + all.iter().map(|it| (it - greatest).exp()).sum::<f64>().ln()
    }
}

/// `if bound < x { bound } else { x }`: NaN stays.
fn at_most(x: f64, bound: f64) -> f64 {
    if bound < x { bound } else { x }
}

/// 1 / (1 + e^-x), from the side on which nothing is lost.
fn sigmoid(x: f64) -> f64 {
    let small = exp(-x.abs());
    let one_of = 1. / (1. + small);
    if x < 0. { small * one_of } else { one_of }
}

fn log_sigmoid(x: f64) -> f64 {
    x.min(0.) - (-x.abs()).exp().ln_1p()
}

/// e^x for x up to 700, within 1e-15 relatively; that of -700 below -700. NaN gives NaN.
///
/// `x = n ln 2 + r`, with ln 2 in two parts so that `n` times the first is exact, and the series of e^r up to `r^13 / 13!`.
fn exp(x: f64) -> f64 {
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8; // 33 bits
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const ROUND: f64 = 6_755_399_441_055_744.; // 1.5 * 2^52 rounds what is added to it to an integer, held by its low bits
    const FACTORIALS: [f64; 12] = [
        6_227_020_800.,
        479_001_600.,
        39_916_800.,
        3_628_800.,
        362_880.,
        40_320.,
        5_040.,
        720.,
        120.,
        24.,
        6.,
        2.,
    ];
    let x = if x < -700. { -700. } else { x };
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = 0.;
    for factorial in FACTORIALS {
        sum = sum * r + 1. / factorial;
    }
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52); // 2^n
    (sum * r * r + r + 1.) * power
}

#[cfg(test)]
mod tests;
