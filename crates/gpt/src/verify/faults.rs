//! Conventions in which programs differ, each tried.

use anyhow::Result;
use core_layers::encoded::Encoded;
use serde::Serialize;
use tch::{Device, Kind, Tensor, no_grad};

use super::Reference;
use crate::{
    config::{DecoderConfig, FeedForward, Positions},
    model::Decoder,
    weights::Weights,
};

/// A convention that explains the difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suspect {
    /// Its name, and how it is wrong.
    pub what: String,
    /// Greatest difference of logits once it is put right.
    pub greatest_difference: f64,
}

/// The projections of a layer, as [`Weights`] name them.
const MAPS: [&str; 7] = [
    "attention.query",
    "attention.key",
    "attention.value",
    "attention.output",
    "feed_forward.gate",
    "feed_forward.up",
    "feed_forward.down",
];

/// The decoder with one convention changed.
struct Trial {
    what: String,
    config: DecoderConfig,
    weights: Weights,
}

/// The convention without which the logits differ least, if that is at most `tolerance` or a tenth of what they differ by.
///
/// # Errors
/// None for weights that fit.
pub fn suspect(
    config: &DecoderConfig,
    weights: &Weights,
    reference: &Reference,
    tolerance: f64,
    device: Device,
) -> Result<Option<Suspect>> {
    let model = Decoder::load(config, weights, device)?;
    let as_it_is = difference(&model, reference);
    let enough = tolerance.max(if as_it_is.is_nan() { 0. } else { as_it_is / 10. });
    if head_alone_differs(&model, reference, enough) {
        let what = if config.tied {
            "tied head: the reference's head is not its embedding"
        } else {
            "tied head: the reference's head is another matrix"
        };
        let embedding = Trial::tied(config, weights);
        let found = embedding.map(|trial| trial.difference(reference, device)).transpose()?;
        return Ok(Some(match found.filter(|&it| it <= enough) {
            Some(greatest_difference) => Suspect {
                what: "tied head: the reference's is its embedding".into(),
                greatest_difference,
            },
            None => Suspect { what: what.into(), greatest_difference: 0. },
        }));
    }
    drop(model);
    let mut best: Option<Suspect> = None;
    for trial in trials(config, weights) {
        let greatest_difference = trial.difference(reference, device)?;
        if best.as_ref().is_none_or(|best| greatest_difference < best.greatest_difference) {
            best = Some(Suspect { what: trial.what, greatest_difference });
        }
    }
    Ok(best.filter(|it| it.greatest_difference <= enough))
}

/// Of the logits of the first text.
fn difference(model: &Decoder, reference: &Reference) -> f64 {
    no_grad(|| {
        let logits = model.forward(&reference.tokens.narrow(0, 0, 1), false);
        let theirs = reference.logits.narrow(0, 0, 1).to_device(model.device());
        super::difference(&logits, &theirs)
    })
}

/// Whether what the head reads is right and the head is not: because the reference says so, or because its logits are a
/// linear function of what ours reads, of more tokens than it has numbers.
fn head_alone_differs(model: &Decoder, reference: &Reference, enough: f64) -> bool {
    let d = model.config().d_model;
    no_grad(|| {
        let states = model.hidden(&reference.tokens, false).reshape([-1, d]).to_kind(Kind::Float);
        let last = reference.hidden.get(&(model.config().layers as usize));
        if let Some(theirs) = last {
            let theirs = theirs.reshape([-1, d]).to_device(states.device());
            return super::difference(&states, &theirs) <= enough.min(1e-2);
        }
        if states.size()[0] < d + d / 8 + 8 {
            return false; // any logits are such a function of so few
        }
        let states = states.to_device(Device::Cpu).to_kind(Kind::Double);
        let logits = reference.logits.reshape([states.size()[0], -1]);
        let some = logits.narrow(1, 0, logits.size()[1].min(64)).to_kind(Kind::Double);
        let (head, ..) = states.linalg_lstsq(&some, None, "gelsd");
        (states.matmul(&head) - &some).abs().max().double_value(&[]) <= enough.min(1e-2)
    })
}

/// Every convention that this decoder could have otherwise.
fn trials<'w>(config: &'w DecoderConfig, weights: &'w Weights) -> impl Iterator<Item = Trial> + 'w {
    let pairings = [true, false]
        .into_iter()
        .filter_map(|from_neighbours| Trial::pairing(config, weights, from_neighbours));
    let forms = [FeedForward::Gelu, FeedForward::GeluTanh].into_iter();
    let forms = forms.filter_map(|form| Trial::gelu(config, weights, form));
    let one_map = MAPS.into_iter().map(|map| vec![map]);
    let groups = [vec!["attention.query", "attention.key"], MAPS[..4].to_vec(), MAPS.to_vec()];
    let transposed =
        one_map.chain(groups).filter_map(|maps| Trial::transposed(config, weights, &maps));
    pairings.chain(forms).chain(Trial::tied(config, weights)).chain(transposed)
}

impl Trial {
    fn difference(&self, reference: &Reference, device: Device) -> Result<f64> {
        Ok(difference(&Decoder::load(&self.config, &self.weights, device)?, reference))
    }

    fn of(what: &str, config: &DecoderConfig, weights: &Weights) -> Self {
        Self { what: what.into(), config: config.clone(), weights: weights.clone() }
    }

    /// Queries and keys reordered from neighbours to halves, or back.
    fn pairing(config: &DecoderConfig, weights: &Weights, from_neighbours: bool) -> Option<Self> {
        matches!(config.positions, Positions::Rope { .. }).then_some(())?;
        let what = if from_neighbours {
            "RoPE pairing: rows of queries and keys pair neighbours, not halves"
        } else {
            "RoPE pairing: rows of queries and keys were reordered to halves, but paired halves before"
        };
        let mut trial = Self::of(what, config, weights);
        let head = config.d_head as usize;
        let half = head / 2;
        let source = |row: usize| {
            let (first, place) = (row / head * head, row % head);
            first
                + if from_neighbours {
                    2 * (place % half) + place / half
                } else {
                    place / 2 + half * (place % 2)
                }
        };
        for (name, weight) in &mut trial.weights.0 {
            if !name.contains("attention.query") && !name.contains("attention.key") {
                continue;
            }
            if name.ends_with("bias") {
                let values = weight.to_f32();
                let moved: Vec<f32> = (0..values.len()).map(|row| values[source(row)]).collect();
                *weight = Encoded::from_f32(1, moved.len(), &moved);
            } else {
                let rows: Vec<usize> = (0..weight.rows()).map(source).collect();
                *weight = weight.with_rows(&rows);
            }
        }
        Some(trial)
    }

    /// The other form of GELU.
    fn gelu(config: &DecoderConfig, weights: &Weights, form: FeedForward) -> Option<Self> {
        let other = config.feed_forward != FeedForward::SwiGlu && config.feed_forward != form;
        let what = match form {
            FeedForward::Gelu => "GELU form: it is the exact one, with the error function",
            _ => "GELU form: it is the approximation by tanh",
        };
        other.then(|| {
            let mut trial = Self::of(what, config, weights);
            trial.config.feed_forward = form;
            trial
        })
    }

    /// The embedding as head.
    fn tied(config: &DecoderConfig, weights: &Weights) -> Option<Self> {
        (!config.tied).then(|| {
            let what = "tied head: the reference's is its embedding";
            let mut trial = Self::of(what, config, weights);
            trial.config.tied = true;
            trial.weights.0.remove("head.weight");
            trial
        })
    }

    /// The numbers of some maps of every layer taken as `[in, out]`.
    fn transposed(config: &DecoderConfig, weights: &Weights, maps: &[&str]) -> Option<Self> {
        let what = format!("transposed projection: {}", maps.join(", "));
        let mut trial = Self::of(&what, config, weights);
        let mut found = false;
        for (name, weight) in &mut trial.weights.0 {
            if maps.iter().any(|map| name.ends_with(&format!("{map}.weight"))) {
                let (rows, columns) = (weight.rows(), weight.columns());
                let values = Tensor::from_slice(&weight.to_f32());
                let turned = values.view([columns as i64, rows as i64]).tr().contiguous();
                let values: Vec<f32> = Vec::try_from(turned.view(-1)).ok()?;
                *weight = Encoded::from_f32(rows, columns, &values);
                found = true;
            }
        }
        found.then_some(trial)
    }
}
