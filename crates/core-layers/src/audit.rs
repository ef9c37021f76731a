//! Does a model keep the laws that its probabilities rest on? Works on any checkpoint.
//!
//! Causality is proved by gradients: what a conditional depends on has a gradient, and what it must not see has exactly
//! none. The other laws compare two ways of computing the same numbers.

use std::{fmt, path::Path};

use ndarray::Array2;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::{
    autoregressive::{Autoregressive, Conditional, Conditionals, Context, Engine, Stepper},
    codec, random,
};

/// One law and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Law {
    /// What must hold.
    pub name: &'static str,
    /// What was measured.
    pub figure: f64,
    /// The most that is allowed.
    pub limit: f64,
    /// Where or over what it was measured.
    pub detail: String,
}

impl Law {
    /// Whether it holds; a figure that is not a number does not.
    pub fn holds(&self) -> bool {
        self.figure <= self.limit
    }
}

impl fmt::Display for Law {
    /// One line: the verdict, the law, the figure and its limit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, figure, limit, detail } = self;
        let verdict = if self.holds() { "holds " } else { "BROKEN" };
        write!(f, "{verdict} {name:<34} {figure:>9.2e} (at most {limit:.0e}); {detail}")
    }
}

/// The laws as JSON, each with whether it holds.
pub fn to_json(laws: &[Law]) -> Value {
    let one = |law: &Law| {
        let Law { name, figure, limit, detail } = law;
        json!({"name": name, "figure": figure, "limit": limit, "holds": law.holds(), "detail": detail})
    };
    laws.iter().map(one).collect()
}

/// An error where a law is broken; `what` is named.
///
/// # Errors
/// One line with how many of them are.
pub fn ensure_all_hold(laws: &[Law], what: &Path) -> anyhow::Result<()> {
    let broken = laws.iter().filter(|law| !law.holds()).count();
    anyhow::ensure!(broken == 0, "{}: {broken} of {} laws broken", what.display(), laws.len());
    Ok(())
}

/// Random symbols `[rows, N]` of a model's layout.
pub fn random_symbols(layout: &crate::Layout, rows: usize, seed: u64) -> Array2<u32> {
    Array2::from_shape_fn((rows, layout.len()), |(row, position)| {
        let u = random::uniform_at(seed, "audit", row as u64, position as u64);
        (u * f64::from(layout.levels[position])) as u32
    })
}

/// Symbols `[B, N]` as an int64 tensor.
pub fn symbol_tensor(symbols: &Array2<u32>) -> Tensor {
    let flat: Vec<i64> = symbols.iter().map(|&symbol| i64::from(symbol)).collect();
    Tensor::from_slice(&flat).reshape([symbols.nrows() as i64, symbols.ncols() as i64])
}

/// How strongly the conditional of the `k`-th drawn position depends on every position: `sum |d s / d embedded|` for a
/// random projection s of its parameters `[N]`, by position.
pub fn influence<M: Autoregressive>(
    model: &M,
    symbols: &Tensor,
    context: &M::Context,
    k: usize,
) -> Vec<f64> {
    let position = i64::from(model.layout().order[k]);
    let embedded = model.embed(symbols).detach().set_requires_grad(true);
    let parameters = match model.conditionals(&embedded, context) {
        Conditionals::Logits(logits) => logits,
        Conditionals::Logistics(it) => Tensor::cat(&[it.logits, it.means, it.log_scales], -1),
    };
    let at = parameters.select(1, position); // [1, L]
    let weights: Vec<f32> = (0..at.numel() as u64)
        .map(|i| random::uniform_at(k as u64, "projection", 0, i) as f32 - 0.5)
        .collect();
    let projection = Tensor::from_slice(&weights).to_device(at.device()).view_as(&at);
    let gradient =
        Tensor::run_backward(&[(at * projection).sum(Kind::Float)], &[&embedded], false, false);
    let strength = gradient[0].select(0, 0).flatten(1, -1).abs().sum_dim_intlist(
        [1i64].as_slice(),
        false,
        Kind::Double,
    );
    Vec::try_from(strength.to_device(tch::Device::Cpu)).expect("a flat double tensor is a vector")
}

/// No conditional has a gradient with respect to what is drawn with or after it. Checks `draws`, at the most all.
pub fn causality<M: Autoregressive>(
    model: &M,
    context: &M::Context,
    draws: usize,
    seed: u64,
) -> Law {
    let layout = model.layout();
    let one = context.select(&[0]);
    let symbols = symbol_tensor(&random_symbols(&layout, 1, seed));
    let count = draws.clamp(1, layout.len());
    let mut worst = (0., 0, 0);
    for i in 0..count {
        let k = if count == 1 { 0 } else { i * (layout.len() - 1) / (count - 1) };
        let strength = influence(model, &symbols, &one, k);
        for (j, &position) in layout.order.iter().enumerate().skip(k) {
            let leak = strength[position as usize];
            if leak > worst.0 || leak.is_nan() {
                worst = (leak, k, j);
            }
        }
    }
    let detail = if worst.0 == 0. {
        format!("{count} of {} positions, none sees itself or a later one", layout.len())
    } else {
        format!(
            "position {} sees position {}, drawn {} later",
            layout.order[worst.1],
            layout.order[worst.2],
            worst.2 - worst.1
        )
    };
    Law { name: "causality", figure: worst.0, limit: 0., detail }
}

/// The stepper gives the full pass's log-probabilities at every position of random examples.
pub fn steppers_agree<M, E>(model: &M, engine: &E, context: &M::Context, seed: u64) -> Law
where
    M: Autoregressive,
    E: Engine<Context = M::Context>,
{
    let layout = model.layout();
    let symbols = random_symbols(&layout, context.rows(), seed);
    let full = tch::no_grad(|| {
        let xs = model.embed(&symbol_tensor(&symbols));
        model
            .conditionals(&xs, context)
            .log_probs()
            .to_kind(Kind::Float)
            .to_device(tch::Device::Cpu)
    }); // [B, N, L]
    let mut worst = (0f64, 0);
    let mut room = Vec::new();
    each_conditional(engine, context, &symbols, |position, conditional| {
        for row in 0..context.rows() {
            let want: Vec<f32> =
                Vec::try_from(full.get(row as i64).get(position as i64)).unwrap_or_default();
            for (got, want) in log_softmax(conditional.logits(row, &mut room)).into_iter().zip(want)
            {
                // levels that never occur differ by what was cut off
                let difference = (got.max(-70.) - f64::from(want).max(-70.)).abs();
                if difference > worst.0 || difference.is_nan() {
                    worst = (difference, position);
                }
            }
        }
    });
    let detail = format!("greatest difference of log-probabilities, at position {}", worst.1);
    Law { name: "steppers give the full pass", figure: worst.0, limit: 1e-3, detail }
}

/// The probabilities of every conditional sum to one, in f32.
pub fn sums_to_one<M: Autoregressive>(model: &M, context: &M::Context, seed: u64) -> Law {
    let symbols = symbol_tensor(&random_symbols(&model.layout(), context.rows(), seed));
    let figure = tch::no_grad(|| {
        let log_probs = model.conditionals(&model.embed(&symbols), context).log_probs();
        let total = log_probs.exp().sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
        (total - 1.).abs().max().double_value(&[])
    });
    let detail = format!("{} conditionals", symbols.numel());
    Law { name: "probabilities sum to one", figure, limit: 1e-4, detail }
}

/// An example's conditionals are the same bits whether it is stepped alone or with others.
pub fn batch_invariance<E: Engine>(engine: &E, context: &E::Context, seed: u64) -> Law {
    let symbols = random_symbols(engine.layout(), context.rows(), seed);
    let mut together = Vec::new();
    each_conditional(engine, context, &symbols, |_, conditional| {
        together.push(conditional.row(0).to_vec());
    });
    let mut worst = 0f64;
    let mut step = 0;
    let first = symbols.slice(ndarray::s![..1, ..]).to_owned();
    each_conditional(engine, &context.select(&[0]), &first, |_, conditional| {
        for (alone, together) in conditional.row(0).iter().zip(&together[step]) {
            worst = worst.max(f64::from((alone - together).abs()));
        }
        step += 1;
    });
    let detail = format!("alone and among {}", context.rows());
    Law { name: "batch size changes nothing", figure: worst, limit: 0., detail }
}

/// Examples drawn at random survive the codec; the figure is the number of symbols that did not.
///
/// # Errors
/// What the codec says of a model whose probabilities are no numbers.
pub fn codec_round_trip<E: Engine + Sync>(
    engine: &E,
    context: &E::Context,
    seed: u64,
) -> anyhow::Result<Law> {
    let symbols = random_symbols(engine.layout(), context.rows(), seed);
    let streams = codec::encode(engine, context, symbols.view(), 1, &|_| {})?;
    let back = codec::decode(engine, context, &streams, 1, &|_| {})?;
    let lost = back.iter().zip(&symbols).filter(|(a, b)| a != b).count();
    let words: usize = streams.iter().map(Vec::len).sum();
    let detail = format!("{} random symbols in {} bytes", symbols.len(), 4 * words);
    Ok(Law { name: "the codec restores every symbol", figure: lost as f64, limit: 0., detail })
}

fn each_conditional<E: Engine>(
    engine: &E,
    context: &E::Context,
    symbols: &Array2<u32>,
    mut see: impl FnMut(usize, &Conditional),
) {
    let mut stepper: Box<dyn Stepper + '_> = engine.stepper(context);
    let mut conditional = Conditional::default();
    for &position in &engine.layout().order {
        stepper.next(&mut conditional);
        see(position as usize, &conditional);
        stepper.feed(&symbols.column(position as usize).to_vec());
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let greatest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - greatest).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit) - greatest - total.ln()).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use tch::Device;

    use super::*;
    use crate::{
        plain::Plain,
        testing::{Markov, rows},
    };

    #[test]
    fn a_sound_model_keeps_every_law() -> Result<()> {
        let model = Markov::new(12, 5);
        let laws = [
            causality(&model, &rows(3), 12, 1),
            steppers_agree(&model, &model, &rows(3), 2),
            steppers_agree(&model, &Plain::new(&model, Device::Cpu), &rows(3), 2),
            sums_to_one(&model, &rows(3), 3),
            batch_invariance(&model, &rows(3), 4),
            codec_round_trip(&model, &rows(3), 5)?,
        ];
        for law in laws {
            assert!(law.holds(), "{law:?}");
        }
        Ok(())
    }

    #[test]
    fn a_leak_is_found_and_placed() {
        let mut model = Markov::new(12, 5);
        model.leaks = true;
        let law = causality(&model, &rows(1), 12, 1);
        assert!(!law.holds());
        assert!(law.detail.contains("drawn 0 later"), "{}", law.detail);
        assert!(!steppers_agree(&model, &model, &rows(2), 2).holds(), "its stepper does not leak");
    }

    #[test]
    fn influence_is_where_the_chain_looks() {
        let model = Markov::new(6, 4);
        let symbols = symbol_tensor(&random_symbols(&model.layout, 1, 9));
        let strength = influence(&model, &symbols, &rows(1), 4);
        let seen: Vec<usize> = (0..6).filter(|&i| strength[i] > 0.).collect();
        assert_eq!(seen, [3]);
    }
}
