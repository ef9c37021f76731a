//! Whether a decoder gives what another program says it gives, and which convention is likely wrong where it does not.

mod faults;
mod reference;
#[cfg(test)]
mod tests;

pub use faults::{Suspect, suspect};
pub use reference::Reference;

use serde::Serialize;
use tch::{Kind, Tensor, nn::Module as _, no_grad};

use crate::model::Decoder;

/// How near one layer comes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// `hidden.0` to `hidden.L`, or `logits`.
    pub layer: String,
    /// Of all numbers.
    pub greatest_difference: f64,
    /// Mean `KL(theirs || ours)` over tokens of the next token's distribution; of a hidden layer, of what norm and head
    /// would make of it.
    pub kl_nats: f64,
}

/// Every layer that the reference holds, the logits last.
pub fn agreements(model: &Decoder, reference: &Reference) -> Vec<Agreement> {
    no_grad(|| {
        let rows = reference.tokens.size()[0];
        let of_row = |row: i64| {
            let theirs = |xs: &Tensor| xs.narrow(0, row, 1).to_device(model.device());
            let states = model.states(&theirs(&reference.tokens));
            let last = states.len() - 1;
            let mut found = Vec::new(); // difference and KL by layer
            for (&layer, hidden) in &reference.hidden {
                let head = |xs: &Tensor| {
                    model.logits(&if layer == last {
                        xs.shallow_clone()
                    } else {
                        model.norm.forward(xs)
                    })
                };
                let wanted = theirs(hidden);
                let pair = [&states[layer], &wanted].map(head);
                found.push((difference(&states[layer], &wanted), kl(&pair[1], &pair[0])));
            }
            let ours = model.logits(&states[last]);
            let wanted = theirs(&reference.logits);
            found.push((difference(&ours, &wanted), kl(&wanted, &ours)));
            found
        };
        let all: Vec<_> = (0..rows).map(of_row).collect();
        let layers = reference.hidden.keys().map(|layer| format!("hidden.{layer}"));
        let greatest = |index: usize| {
            let of_rows = all.iter().map(|row: &Vec<(f64, f64)>| row[index].0);
            of_rows.fold(0., |a: f64, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
        };
        let mean = |index: usize| all.iter().map(|row| row[index].1).sum::<f64>() / rows as f64;
        let named = layers.chain(["logits".into()]).enumerate();
        named
            .map(|(index, layer)| Agreement {
                layer,
                greatest_difference: greatest(index),
                kl_nats: mean(index),
            })
            .collect()
    })
}

fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    (ours.to_kind(Kind::Float) - theirs).abs().max().double_value(&[])
}

/// Mean over tokens, in f64.
fn kl(theirs: &Tensor, ours: &Tensor) -> f64 {
    let [p, q] = [theirs, ours].map(|xs| xs.log_softmax(-1, Kind::Double));
    let nats = (p.exp() * (&p - q)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
    nats.mean(Kind::Double).double_value(&[])
}
