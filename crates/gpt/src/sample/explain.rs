//! Why a token was drawn: what each step from logits to draw did, one after the other.
//!
//! This is the definition of the filters, written for clearness: everything is sorted, and every sum is taken in f64.
//! [`Filters`](super::Filters) are held to it.

use core_layers::sampling::SamplingConfig;
use serde::Serialize;

use super::{
    Penalties,
    ranking::{Ranked, by_rank},
};

/// What one step did to a distribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// `penalties`, `temperature`, `top-k`, `top-p` or `min-p`.
    pub name: &'static str,
    /// Whether it removes tokens; the others change how probable they are.
    pub is_cut: bool,
    /// Tokens left.
    pub kept: usize,
    /// Probability removed, of what the step before left.
    pub removed: f64,
    /// Entropy after it, in nats.
    pub entropy: f64,
}

/// One token, and the steps that led to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The token.
    pub token: u32,
    /// Its probability as the model has it.
    pub probability: f64,
    /// Its rank as the model has it; 1 is the likeliest.
    pub rank: usize,
    /// The entropy of the model's distribution, in nats.
    pub entropy: f64,
    /// The steps that were asked for.
    pub stages: Vec<Stage>,
    /// Its probability in what was drawn from.
    pub drawn_probability: f64,
    /// Its rank there; none where a cut had removed it.
    pub drawn_rank: Option<usize>,
    /// Entropy of what was drawn from, in nats.
    pub drawn_entropy: f64,
}

impl Explanation {
    /// Of `token`, drawn from `logits` as the model gave them.
    pub fn new(logits: &[f32], penalties: &Penalties, config: SamplingConfig, token: u32) -> Self {
        let model = Left::new(logits, 1.);
        let (drawn, stages) = filtered(logits, penalties, config);
        let rank = |left: &Left| left.ranked.iter().position(|it| it.1 == token);
        let probability = |left: &Left| rank(left).map_or(0., |at| left.probabilities[at]);
        Self {
            token,
            probability: probability(&model),
            rank: 1 + rank(&model).unwrap_or(logits.len()),
            entropy: model.entropy(),
            stages,
            drawn_probability: probability(&drawn),
            drawn_rank: rank(&drawn).map(|at| at + 1),
            drawn_entropy: drawn.entropy(),
        }
    }
}

/// Tokens that are left, by rank, and their probabilities.
pub(super) struct Left {
    pub(super) ranked: Vec<Ranked>,
    pub(super) probabilities: Vec<f64>,
}

impl Left {
    fn new(logits: &[f32], temperature: f64) -> Self {
        let mut ranked: Vec<Ranked> = logits.iter().map(|it| it + 0.).zip(0..).collect();
        ranked.retain(|it| it.0 > f32::NEG_INFINITY);
        ranked.sort_by(|a, b| by_rank(*a, *b));
        let greatest = ranked.first().map_or(0., |it| f64::from(it.0));
        let weigh = |it: &Ranked| ((f64::from(it.0) - greatest) / temperature).exp();
        let mut left = Self { probabilities: ranked.iter().map(weigh).collect(), ranked };
        left.keep(left.ranked.len());
        left
    }

    /// Leaves the first `count`, and returns the probability of the others.
    fn keep(&mut self, count: usize) -> f64 {
        let all: f64 = self.probabilities.iter().sum();
        let removed = 0. + self.probabilities.drain(count..).sum::<f64>() / all; // of none: 0, not -0
        self.ranked.truncate(count);
        let kept: f64 = self.probabilities.iter().sum();
        self.probabilities.iter_mut().for_each(|it| *it /= kept);
        removed
    }

    fn entropy(&self) -> f64 {
        let term = |&p: &f64| if p > 0. { p * (1. / p).ln() } else { 0. };
        0. + self.probabilities.iter().map(term).sum::<f64>()
    }
}

/// What the steps leave of the model's distribution, and what each of them did.
pub(super) fn filtered(
    logits: &[f32],
    penalties: &Penalties,
    config: SamplingConfig,
) -> (Left, Vec<Stage>) {
    let SamplingConfig { temperature, top_k, top_p, min_p } = config;
    let mut stages = Vec::new();
    let mut say = |name, removed: Option<f64>, left: &Left| {
        let is_cut = removed.is_some();
        let (kept, removed, entropy) = (left.ranked.len(), removed.unwrap_or(0.), left.entropy());
        stages.push(Stage { name, is_cut, kept, removed, entropy });
    };
    let mut logits = logits.to_vec();
    penalties.apply(&mut logits);
    let mut left = Left::new(&logits, 1.);
    if penalties.is_active() {
        say("penalties", None, &left);
    }
    if temperature == 0. {
        let removed = left.keep(1);
        say("temperature", Some(removed), &left);
        return (left, stages);
    }
    if temperature != 1. {
        left = Left::new(&logits, temperature);
        say("temperature", None, &left);
    }
    if top_k > 0 {
        let removed = left.keep(top_k.min(left.ranked.len()));
        say("top-k", Some(removed), &left);
    }
    if top_p < 1. {
        let mut mass = 0.;
        let reaches = |p: &f64| {
            mass += p;
            mass >= top_p
        };
        let crossing = left.probabilities.iter().position(reaches);
        let removed = left.keep(crossing.map_or(left.ranked.len(), |at| at + 1));
        say("top-p", Some(removed), &left);
    }
    if min_p > 0. {
        let least = min_p * left.probabilities.first().copied().unwrap_or(0.);
        let removed = left.keep(left.probabilities.partition_point(|&p| p >= least));
        say("min-p", Some(removed), &left);
    }
    (left, stages)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{Distribution, Filters, GenerationConfig};

    fn plain() -> Penalties {
        Penalties::new(&GenerationConfig::default(), &[])
    }

    #[test]
    fn each_step_says_what_it_kept_and_removed() {
        // probabilities 1/2, 1/4, 1/8, 1/8
        let logits = [8f32, 4., 2., 2.].map(f32::ln);
        let config = SamplingConfig { temperature: 1., top_k: 3, top_p: 0.8, min_p: 0.6 };
        let found = Explanation::new(&logits, &plain(), config, 0);
        let steps: Vec<_> = found.stages.iter().map(|it| (it.name, it.kept)).collect();
        assert_eq!(steps, [("top-k", 3), ("top-p", 2), ("min-p", 1)]);
        // 4/7 + 2/7 reach 0.8, the crossing token is kept; 1/3 is below 0.6 of 2/3
        for (stage, removed) in found.stages.iter().zip([1. / 8., 1. / 7., 1. / 3.]) {
            assert!((stage.removed - removed).abs() < 1e-6, "{stage:?}");
        }
        assert!((found.entropy - 1.75 * 2f64.ln()).abs() < 1e-6);
        assert_eq!((found.rank, found.drawn_rank), (1, Some(1)));
        assert!((found.probability - 0.5).abs() < 1e-6 && found.drawn_probability == 1.);
        assert_eq!(found.drawn_entropy, 0.);
    }

    #[test]
    fn temperature_divides_before_the_cuts() {
        let logits = [8f32, 4., 2., 2.].map(f32::ln);
        // at temperature 1/2: 64 : 16 : 4 : 4, so that one token reaches 0.7
        let config = SamplingConfig { temperature: 0.5, top_p: 0.7, ..Default::default() };
        let found = Explanation::new(&logits, &plain(), config, 1);
        assert_eq!(found.stages[1].kept, 1);
        assert_eq!((found.rank, found.drawn_rank, found.drawn_probability), (2, None, 0.));
    }

    fn configs() -> impl Strategy<Value = SamplingConfig> {
        let some = |all: &'static [f64]| prop::sample::select(all);
        let temperatures = some(&[0., 0.1, 0.7, 1., 1.5, 4.]);
        let (ks, ps, shares) =
            (0usize..80, some(&[1e-9, 0.3, 0.9, 0.999, 1.]), some(&[0., 0.01, 0.3, 1.]));
        (temperatures, ks, ps, shares).prop_map(|(temperature, top_k, top_p, min_p)| {
            SamplingConfig { temperature, top_k, top_p, min_p }
        })
    }

    #[derive(serde::Deserialize)]
    struct Case {
        config: GenerationConfig,
        prompt: Vec<u32>,
        logits: Vec<f32>,
        probabilities: Vec<f64>,
    }

    #[test]
    fn filters_leave_what_hugging_faces_leave() {
        // by fixtures/make.py
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("fixtures/filtered.json")).unwrap();
        assert_eq!(cases.len(), 40);
        for Case { config, prompt, mut logits, probabilities } in cases {
            Penalties::new(&config, &prompt).apply(&mut logits);
            let mut found = Distribution::default();
            Filters::new(config.sampling()).apply(&logits, &mut found).unwrap();
            for (token, wanted) in probabilities.into_iter().enumerate() {
                let found = found.probability(token as u32);
                assert!((found - wanted).abs() < 1e-5, "{config:?} {token} {found} {wanted}");
            }
        }
    }

    proptest! {
        #[test]
        fn filters_leave_what_the_definition_leaves(
            logits in prop::collection::vec(prop_oneof![9 => -9f32..9., 1 => Just(f32::NEG_INFINITY)], 2..500),
            config in configs(),
        ) {
            prop_assume!(logits.iter().any(|it| it.is_finite()));
            let (left, _) = filtered(&logits, &plain(), config);
            let mut found = Distribution::default();
            Filters::new(config).apply(&logits, &mut found).unwrap();
            let (f32s, f64s) = (found.iter().map(|it| it.1), left.probabilities.iter().copied());
            let kept = f32s.filter(|&it| it > 1e-30).count(); // less may be nothing in f32
            prop_assert_eq!(kept, f64s.filter(|&it| it > 1e-30).count());
            for (ranked, wanted) in left.ranked.iter().zip(&left.probabilities) {
                let found = found.probability(ranked.1);
                prop_assert!((found - wanted).abs() < 1e-5, "{} {} {}", ranked.1, found, wanted);
            }
        }

        #[test]
        fn a_cut_that_cuts_nothing_changes_no_draw(
            logits in prop::collection::vec(-3f32..3., 2..300),
            u in 0f64..1.,
        ) {
            let mut found = Distribution::default();
            let mut draw = |config| {
                Filters::new(config).apply(&logits, &mut found).unwrap();
                found.quantile(u)
            };
            let plain = SamplingConfig::default();
            let min_p = SamplingConfig { min_p: 1e-6, ..plain };
            let top_p = SamplingConfig { top_p: 1. - 1e-9, ..plain };
            // sums are rounded differently, so that a draw may fall to a neighbour
            let (all, least, most) = (draw(plain), draw(min_p), draw(top_p));
            prop_assert!(all.abs_diff(least) <= 1 && all.abs_diff(most) <= 1);
        }
    }
}
