//! From logits to the distribution that a token is drawn from: temperature, top-k, top-p, min-p, in that order.
//!
//! Letters: V tokens, T temperature. Each filter sees what the one before it left, renormalised. Nothing sorts V numbers:
//! cuts look only at tokens that may survive them.

use anyhow::Result;
use core_layers::{
    kernels::exact::{Kernel, Variant},
    sampling::SamplingConfig,
};

use super::{
    Distribution,
    ranking::{Ranked, Ranking, by_rank},
};

/// How much wider candidates are sought than exact arithmetic would need to.
const SLACK: f64 = 1e-3;

/// A token that may be left over.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    ranked: Ranked,
    weight: f32,
}

/// The filters, and the room that they work in.
#[derive(Debug, Clone)]
pub struct Filters {
    config: SamplingConfig,
    kernel: Kernel,
    ranking: Ranking,
    ranked: Vec<Ranked>,
    scaled: Vec<f32>,
    weights: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Filters {
    /// Filters of a configuration that was validated.
    pub fn new(config: SamplingConfig) -> Self {
        Self {
            config,
            kernel: Kernel::new(Variant::available()[0], 1), // the bits of all variants are the same
            ranking: Ranking::default(),
            ranked: Vec::new(),
            scaled: Vec::new(),
            weights: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// The distribution that logits `[V]` (already penalised) leave.
    ///
    /// # Errors
    /// Where they are no distribution: NaN, plus infinity, or minus infinity everywhere.
    pub fn apply(&mut self, logits: &[f32], out: &mut Distribution) -> Result<()> {
        let SamplingConfig { temperature, top_k, top_p, min_p } = self.config;
        let cuts_by_rank = top_k > 0 && top_k < logits.len();
        let cuts = cuts_by_rank || top_p < 1. || min_p > 0.;
        if temperature > 0. && !cuts && self.weigh_plainly(logits) {
            out.set_all(&mut self.weights);
            return Ok(());
        }
        let greatest = self.ranking.set(logits)?;
        if temperature == 0. {
            out.set_certain(self.ranking.first(logits, greatest));
            return Ok(());
        }
        if cuts_by_rank {
            self.ranking.likeliest(logits, top_k, &mut self.ranked);
            self.weigh_ranked(greatest);
        } else if top_p < 1. {
            self.weigh(greatest, logits.iter().copied());
            // tokens below (1 - p) / V have less than 1 - p together, so that the others reach p
            let most = self.weights[self.ranking.first(logits, greatest) as usize];
            let least = (1. - top_p) / logits.len() as f64 / f64::from(most);
            self.ranking.at_least(logits, self.threshold(greatest, least), &mut self.ranked);
            let weigh =
                |&it: &Ranked| Candidate { ranked: it, weight: self.weights[it.1 as usize] };
            self.candidates.clear();
            self.candidates.extend(self.ranked.iter().map(weigh));
        } else if min_p > 0. {
            self.ranking.at_least(logits, self.threshold(greatest, min_p), &mut self.ranked);
            self.weigh_ranked(greatest);
        } else {
            self.weigh(greatest, logits.iter().copied());
            out.set_all(&mut self.weights);
            return Ok(());
        }
        self.candidates.retain(|it| it.weight > 0.);
        self.cut(top_p, min_p);
        self.candidates.sort_unstable_by_key(|it| it.ranked.1);
        out.set_listed(self.candidates.iter().map(|it| (it.ranked.1, it.weight)));
        Ok(())
    }

    /// `weights` become the softmax of `logits / T`, in as few passes as there can be; false where that fails, be it that
    /// there is no distribution, or that T is extreme.
    fn weigh_plainly(&mut self, logits: &[f32]) -> bool {
        self.weights.resize(logits.len(), 0.);
        let scaled = if self.config.temperature == 1. {
            logits
        } else {
            let scale = (1. / self.config.temperature) as f32;
            self.scaled.clear();
            self.scaled.extend(logits.iter().map(|logit| logit * scale));
            &self.scaled
        };
        !self.kernel.softmax(scaled, &mut self.weights).is_nan()
    }

    /// A logit that no token `least` times as probable as the likeliest lies below, up to rounding.
    fn threshold(&self, greatest: f32, least: f64) -> f32 {
        let exact = f64::from(greatest) + self.config.temperature * least.ln();
        (exact - SLACK * (self.config.temperature + f64::from(greatest.abs()))) as f32
    }

    /// `weights` become the softmax of `logits / T`.
    fn weigh(&mut self, greatest: f32, logits: impl Iterator<Item = f32>) {
        // the greatest becomes 0, so that no temperature, however low or high, makes infinities or NaN
        let scale = (1. / self.config.temperature)
            .clamp(f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)) as f32;
        self.scaled.clear();
        self.scaled.extend(logits.map(|logit| (logit - greatest) * scale));
        self.weights.resize(self.scaled.len(), 0.);
        self.kernel.softmax(&self.scaled, &mut self.weights);
    }

    /// The ranked tokens become candidates, with their probabilities among themselves.
    fn weigh_ranked(&mut self, greatest: f32) {
        let ranked = std::mem::take(&mut self.ranked);
        self.weigh(greatest, ranked.iter().map(|it| it.0));
        self.candidates.clear();
        let weighed = ranked.iter().zip(&self.weights);
        self.candidates.extend(weighed.map(|(&ranked, &weight)| Candidate { ranked, weight }));
        self.ranked = ranked;
    }

    /// Keeps the candidates that top-p and min-p leave; each leaves the first so many of a ranking, so their order is free.
    fn cut(&mut self, top_p: f64, min_p: f64) {
        let candidates = &mut self.candidates;
        let most = candidates.iter().map(|it| it.weight).fold(0., f32::max);
        candidates.retain(|it| f64::from(it.weight) >= min_p * f64::from(most));
        if top_p == 1. {
            return;
        }
        // the least count whose mass reaches p lies above `low`, and is at most `high`; the first `low` are in place
        let (mut low, mut high, mut mass) = (0, candidates.len(), 0.);
        while high - low > 1 {
            let middle = low + ((high - low) / 4).max(1); // few are left, as a rule
            let open = &mut candidates[low..high];
            open.select_nth_unstable_by(middle - low, |a, b| by_rank(a.ranked, b.ranked));
            let more: f64 = open[..middle - low].iter().map(|it| f64::from(it.weight)).sum();
            if mass + more >= top_p {
                high = middle;
            } else {
                (low, mass) = (middle, mass + more);
            }
        }
        candidates.truncate(high);
    }
}
