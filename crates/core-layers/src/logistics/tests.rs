use ndarray::Array2;
use tch::{Kind, Tensor};

use super::*;
use crate::{
    autoregressive::{Conditional, Context as _, Engine, Layout, Stepper},
    codec,
    likelihood::Logistics,
    random::uniform_at,
    sampling::{Draws, SamplingConfig, draw_in_parallel},
    testing::{Rows, rows},
};

/// Mixtures of three: usual, wide, sharper than a level, far outside.
const MIXTURES: [[f32; 9]; 5] = [
    [0.3, -1., 2., -0.2, 0.01, 0.1, -4., -5., -6.],
    [0., 0.5, -0.5, -0.9, 0., 0.7, -1., 0., -2.],
    [1., 0., 0., -0.5, 0.25, 0.999, -14., -12., -10.],
    [0., 0., 0., 40., -40., 0.5, -14., -14., -9.],
    [-80., 0., -200., 0.1, 3., -3., -3., -14., 2.],
];

fn of(parameters: &[f32], levels: usize) -> DiscretisedMixture {
    let mut mixture = DiscretisedMixture::default();
    mixture.set(Mixture::of(parameters, levels));
    mixture
}

/// `log p` of the symbols as training has it.
fn log_prob_of_training(parameters: &[f32], levels: usize, symbols: &[i64]) -> Vec<f64> {
    let part = |i: i64| Tensor::from_slice(parameters).narrow(0, 3 * i, 3).view([1, 1, 3]);
    let (logits, means, log_scales) = (part(0), part(1), part(2));
    let logistics = Logistics { logits, means, log_scales, levels: levels as i64 };
    let symbols = Tensor::from_slice(symbols).unsqueeze(0);
    Vec::try_from(logistics.log_prob(&symbols).squeeze_dim(0).to_kind(Kind::Double)).unwrap()
}

#[test]
fn exp_is_within_1e_15_relatively() {
    for i in 0..=100_000 {
        let x = f64::from(i) * 0.0073 - 699.;
        if x <= 30. {
            let error = (exp(x) / x.exp() - 1.).abs();
            assert!(error < 1e-15, "{error:e} at {x}");
        }
    }
    assert_eq!((exp(0.), exp(-1e9)), (1., exp(-700.)));
    assert!(exp(f64::NAN).is_nan());
}

#[test]
fn its_bits_are_those_written_here() {
    // by the same operations in Python; a machine that gave others could not open the files of this one
    let bits: Vec<u64> = [-0.75, -33.3, 12.5].map(|x| exp(x).to_bits()).to_vec();
    assert_eq!(bits, [0x3fde_3b40_ebef_cd7e, 0x3cef_165b_b9b5_9d94, 0x4110_60c5_2565_ba66]);
    let mixture = of(&MIXTURES[0], 65_536);
    let cumulated: Vec<u32> =
        [1, 20_000, 32_768, 36_000, 65_535].map(|level| mixture.cumulated(level)).to_vec();
    assert_eq!(cumulated, [2, 45_066, 167_214_017, 521_091_019, 1_073_741_822]);
}

#[test]
fn levels_sum_to_one_and_have_the_probabilities_of_training() {
    for levels in [256usize, 65_536] {
        let symbols: Vec<i64> = (0..levels as i64).collect();
        for parameters in &MIXTURES {
            let mixture = of(parameters, levels);
            let pointwise: Vec<f64> =
                (0..levels as u32).map(|level| mixture.log_prob(level)).collect();
            let total: f64 = pointwise.iter().map(|log_prob| log_prob.exp()).sum();
            assert!((total - 1.).abs() < 1e-9, "{total} {parameters:?} {levels}");
            // training places edges in f32, which the sharpest scale magnifies
            let sharpest = parameters[6..].iter().map(|&it| (-it).exp()).fold(0., f32::max);
            let furthest = parameters[3..6].iter().map(|it| 1. + it.abs()).fold(0., f32::max);
            let trained = log_prob_of_training(parameters, levels, &symbols);
            for (level, (&found, wanted)) in pointwise.iter().zip(trained).enumerate() {
                let edges = f64::from(sharpest * furthest) * 2e-7;
                let bound = 1e-5 * (1. + wanted.abs()) + edges;
                assert!((found - wanted).abs() < bound, "{level}: {found} {wanted} {parameters:?}");
            }
        }
    }
}

#[test]
fn cumulated_frequencies_rise_to_the_whole_and_cost_little() {
    for levels in [2, 256, 65_536] {
        for parameters in &MIXTURES {
            let mixture = of(parameters, levels);
            let (mut below, mut cost) = (0, 0.);
            for level in 0..levels {
                let upto = mixture.cumulated(level + 1);
                assert!(upto > below, "{level} of {levels} {parameters:?}");
                let coded = f64::from(upto - below) / f64::from(1u32 << PRECISION);
                let log_prob = mixture.log_prob(level as u32);
                cost += log_prob.exp() * (log_prob - coded.ln());
                below = upto;
            }
            assert_eq!(below, 1 << PRECISION);
            assert!((-1e-12..2e-4).contains(&cost), "{cost} nats, {levels} {parameters:?}");
        }
    }
}

#[test]
fn quantiles_and_symbols_invert_their_functions() {
    for parameters in &MIXTURES {
        let mixture = of(parameters, 65_536);
        for i in 0..2000 {
            let u = uniform_at(1, "quantile", 0, i);
            let symbol = mixture.quantile(u) as usize;
            assert!(mixture.below(symbol) <= u && u < mixture.below(symbol + 1), "{u} {symbol}");
            let quantile = (u * f64::from(1u32 << PRECISION)) as u32;
            let symbol = mixture.symbol_at(quantile) as usize;
            assert!((mixture.cumulated(symbol)..mixture.cumulated(symbol + 1)).contains(&quantile));
        }
    }
}

/// Greatest distance of two distribution functions, of a sample of `count` numbers and of the law.
fn kolmogorov(mut symbols: Vec<u32>, mixture: &DiscretisedMixture) -> f64 {
    symbols.sort_unstable();
    let count = symbols.len() as f64;
    let at = |level: u32| {
        let upto = symbols.partition_point(|&it| it <= level) as f64;
        (upto / count - mixture.below(level as usize + 1)).abs()
    };
    symbols.iter().map(|&level| at(level)).fold(0., f64::max)
}

/// Draws of one mixture, the same at every position.
struct Still {
    layout: Layout,
    parameters: [f32; 9],
    levels: usize,
}

impl Still {
    fn new(parameters: [f32; 9], levels: usize, len: usize) -> Self {
        Self { layout: Layout::uniform(len, levels as u32), parameters, levels }
    }
}

impl Engine for Still {
    type Context = Rows;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &Rows) -> Box<dyn Stepper + 'a> {
        Box::new(StillStepper(self, context.rows()))
    }
}

struct StillStepper<'e>(&'e Still, usize);

impl Stepper for StillStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        let Still { parameters, levels, .. } = self.0;
        for row in out.reset_mixtures(self.1, *levels, 3).chunks_exact_mut(9) {
            row.copy_from_slice(parameters);
        }
    }

    fn feed(&mut self, _: &[u32]) {}
}

fn drawn(engine: &Still, config: SamplingConfig, seed: u64) -> Array2<u32> {
    let mut symbols = Array2::zeros((2, engine.layout.len()));
    let draws = Draws { config, seed, known: 0 };
    draw_in_parallel(engine, &rows(2), symbols.view_mut(), draws, 1, &|_| {});
    symbols
}

#[test]
fn draws_follow_the_law() {
    for parameters in MIXTURES {
        for levels in [256, 65_536] {
            let engine = Still::new(parameters, levels, 10_000);
            let symbols = drawn(&engine, SamplingConfig::default(), 3).into_raw_vec_and_offset().0;
            let distance = kolmogorov(symbols, &of(&parameters, levels));
            let limit = 1.95 / 20_000f64.sqrt(); // exceeded once in a thousand
            assert!(distance < limit, "{distance} {parameters:?} {levels}");
        }
    }
}

#[test]
fn the_table_and_single_levels_draw_the_same() {
    for parameters in MIXTURES {
        let engine = Still::new(parameters, 65_536, 40);
        let single = drawn(&engine, SamplingConfig::default(), 5);
        let all = SamplingConfig { min_p: 1e-30, ..SamplingConfig::default() }; // cuts nothing, but needs the table
        let table = drawn(&engine, all, 5);
        let far = |&(&a, &b): &(&u32, &u32)| a.abs_diff(b) > 1;
        assert_eq!(single.iter().zip(&table).filter(far).count(), 0, "{parameters:?}");
    }
}

#[test]
fn any_symbols_survive_the_codec() -> anyhow::Result<()> {
    for parameters in MIXTURES {
        for levels in [5000, 65_536] {
            let engine = Still::new(parameters, levels, 400);
            let last = levels as u32 - 1;
            let extreme = |(row, at): (usize, usize)| match (row + at) % 4 {
                0 => 0,
                1 => last,
                2 => (uniform_at(7, "symbol", row as u64, at as u64) * levels as f64) as u32,
                _ => last / 2 + (at % 3) as u32,
            };
            let symbols = Array2::from_shape_fn((2, 400), extreme);
            let streams = codec::encode(&engine, &rows(2), symbols.view(), 1, &|_| {})?;
            assert_eq!(codec::decode(&engine, &rows(2), &streams, 1, &|_| {})?, symbols);
        }
    }
    Ok(())
}

#[test]
fn streams_are_as_long_as_the_nats_say() -> anyhow::Result<()> {
    for parameters in MIXTURES {
        let engine = Still::new(parameters, 65_536, 4000);
        let mixture = of(&parameters, 65_536);
        let symbols = drawn(&engine, SamplingConfig::default(), 9);
        let nats: f64 = symbols.iter().map(|&symbol| -mixture.log_prob(symbol)).sum();
        let bits = nats / std::f64::consts::LN_2;
        let streams = codec::encode(&engine, &rows(2), symbols.view(), 1, &|_| {})?;
        let written = 32. * streams.iter().map(Vec::len).sum::<usize>() as f64;
        let allowed = bits * 1.0005 + 8000. * 2e-4 + 96.;
        assert!(written > bits - 1. && written < allowed, "{written} {bits} {parameters:?}");
    }
    Ok(())
}

#[test]
fn what_is_no_number_or_no_level_is_refused() {
    let mut parameters = MIXTURES[0];
    parameters[4] = f32::NAN;
    let refusal = |parameters, symbol| {
        let symbols = Array2::from_elem((1, 2), symbol);
        let engine = Still::new(parameters, 65_536, 2);
        codec::encode(&engine, &rows(1), symbols.view(), 1, &|_| {}).unwrap_err().to_string()
    };
    assert_eq!(refusal(parameters, 1), "the model gives a probability that is not a number");
    assert_eq!(refusal(MIXTURES[0], 65_536), "level 65536 is beyond the model's 65536");
}
