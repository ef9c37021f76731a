//! The masked autoencoder for distribution estimation (Germain et al., "MADE", 2015, section 3 and equations 8 and 9,
//! <https://arxiv.org/abs/1502.03509>).
//!
//! A unit of degree m sees inputs of rank below m, by way of units of degree at most m; the outputs of rank k see units
//! of degree at most k. So the outputs of rank k depend on inputs of rank below k.
//! Letters: B batch, N pixels, U units of a layer, L levels.
//!
//! Differs: degrees are spread evenly over a layer where the paper draws them; softmax outputs for any number of levels.

use core_layers::random;
use tch::{Device, Kind, Tensor, nn};

use super::{positions, to_vec};
use crate::config::{MadeConfig, Order};

/// One order of the pixels and the masks that keep to it.
#[derive(Debug)]
pub struct Masks {
    order: Vec<u32>,
    layers: Vec<Tensor>, // [U, inputs] each, the last [N L, U]
}

/// Weights of a MADE, and the masks of its orders.
#[derive(Debug)]
pub struct Made {
    layers: Vec<(Tensor, Tensor)>, // weight [outputs, inputs] and bias [outputs]
    masks: Vec<Masks>,
    current: usize,
    levels: i64,
    degrees: Vec<Vec<usize>>, // of each hidden layer
}

/// The numbers of one layer of a [`Made`] under the masks in use.
#[derive(Debug, Clone)]
pub struct MadeLayer {
    /// Masked weights `[outputs, inputs]`, row-major.
    pub ws: Vec<f32>,
    /// Bias `[outputs]`.
    pub bs: Vec<f32>,
    /// Units that are read.
    pub inputs: usize,
}

impl Made {
    /// Creates the weights under `vs`; those of the outputs start at zero.
    pub(super) fn new(vs: &nn::Path<'_>, config: &MadeConfig) -> Self {
        let pixels = config.image.dims();
        let outputs = pixels * config.image.levels;
        let widths: Vec<i64> =
            [pixels].into_iter().chain(config.hidden.iter().copied()).chain([outputs]).collect();
        let last = widths.len() - 2;
        let layers = widths.windows(2).enumerate().map(|(index, pair)| {
            let vs = vs / "layers" / index as i64;
            let sizes = [pair[1], pair[0]];
            let bound = (2. / pair[0] as f64).sqrt(); // about half the weights are masked
            let ws = if index == last {
                vs.zeros("weight", &sizes)
            } else {
                vs.uniform("weight", &sizes, -bound, bound)
            };
            (ws, vs.zeros("bias", &[pair[1]]))
        });
        let layers: Vec<_> = layers.collect();
        let degrees: Vec<Vec<usize>> =
            config.hidden.iter().map(|&units| spread(units as usize, pixels as usize)).collect();
        let masks = (0..config.num_orders as u64)
            .map(|k| {
                let order = match k {
                    0 => positions(config.order, pixels as usize),
                    _ => positions(
                        Order::Shuffled { seed: random::uniform_at(k, "made", 0, 0).to_bits() },
                        pixels as usize,
                    ),
                };
                Masks::new(order, &degrees, config.image.levels, vs.device())
            })
            .collect();
        Self { layers, masks, current: 0, levels: config.image.levels, degrees }
    }

    /// The position that is drawn k-th, under the masks in use.
    pub fn order(&self) -> &[u32] {
        &self.masks[self.current].order
    }

    /// Orders that it has masks for.
    pub fn num_orders(&self) -> usize {
        self.masks.len()
    }

    pub(super) fn use_order(&mut self, k: usize) {
        self.current = k;
    }

    /// The degree of each unit of each hidden layer, from 1 to N - 1.
    pub fn degrees(&self) -> &[Vec<usize>] {
        &self.degrees
    }

    /// Inputs `[B, N, 1]` to logits `[B, N, L]`.
    pub(super) fn forward(&self, embedded: &Tensor) -> Tensor {
        let mut xs = embedded.squeeze_dim(-1);
        let last = self.layers.len() - 1;
        for (index, ((ws, bs), mask)) in
            self.layers.iter().zip(&self.masks[self.current].layers).enumerate()
        {
            xs = xs.linear(&(ws * mask), Some(bs));
            if index < last {
                xs = xs.relu();
            }
        }
        xs.reshape([embedded.size()[0], -1, self.levels])
    }

    /// Weights that no mask in use closes, and biases.
    pub(super) fn live_parameters(&self) -> i64 {
        let masks = self.masks[self.current].layers.iter();
        let live: i64 = masks.map(|mask| mask.sum(Kind::Int64).int64_value(&[])).sum();
        live + self.layers.iter().map(|(_, bs)| bs.numel() as i64).sum::<i64>()
    }

    /// A copy of the masked weights, layer by layer.
    pub fn weights(&self) -> Vec<MadeLayer> {
        let masks = &self.masks[self.current].layers;
        self.layers
            .iter()
            .zip(masks)
            .map(|((ws, bs), mask)| MadeLayer {
                ws: to_vec(&(ws * mask)),
                bs: to_vec(bs),
                inputs: ws.size()[1] as usize,
            })
            .collect()
    }
}

impl Masks {
    fn new(order: Vec<u32>, degrees: &[Vec<usize>], levels: i64, device: Device) -> Self {
        let mut rank = vec![0; order.len()];
        for (k, &position) in order.iter().enumerate() {
            rank[position as usize] = k;
        }
        // what the units of a layer know at the most, as a rank that inputs must be below
        let of = |degrees: &[usize]| {
            let degrees: Vec<i64> = degrees.iter().map(|&degree| degree as i64).collect();
            Tensor::from_slice(&degrees).to_device(device)
        };
        let mut known = of(&rank) + 1; // an input of rank r may be seen by units of degree above r
        let mut layers = Vec::new();
        for layer in degrees {
            let degrees = of(layer);
            layers.push(degrees.unsqueeze(1).ge_tensor(&known.unsqueeze(0)).to_kind(Kind::Float)); // [U, inputs]
            known = degrees;
        }
        let ranks = of(&rank).unsqueeze(1).repeat([1, levels]).view(-1); // [N L]
        layers.push(ranks.unsqueeze(1).ge_tensor(&known.unsqueeze(0)).to_kind(Kind::Float));
        Self { order, layers }
    }
}

/// Degrees of `units` units, from 1 to `pixels - 1`, each as often as any other, in rising order.
fn spread(units: usize, pixels: usize) -> Vec<usize> {
    let highest = pixels.saturating_sub(1).max(1);
    (0..units).map(|unit| 1 + unit * highest / units).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_rise_from_one_to_the_last_but_one() {
        assert_eq!(spread(6, 4), [1, 1, 2, 2, 3, 3]);
        assert_eq!(spread(3, 1), [1, 1, 1]);
        let degrees = spread(8000, 784);
        assert_eq!((degrees[0], degrees[7999]), (1, 783));
    }
}
