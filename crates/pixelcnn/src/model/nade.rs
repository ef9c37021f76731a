//! The neural autoregressive distribution estimator (Larochelle and Murray, 2011; Uria et al., "Neural Autoregressive
//! Distribution Estimation", 2016, equations 4 to 6, <https://arxiv.org/abs/1605.02226>).
//!
//! `p(x_{o(k)} | x_{o(<k)}) = softmax(b_k + V_k h_k)`, `h_k = sigmoid(c + sum_{j<k} W_j x_{o(j)})`: the hidden units
//! of all conditionals share their weights, so that one more known pixel costs one more column.
//! Letters: B batch, N pixels, H hidden units, L levels.
//!
//! Differs: inputs are levels spread over `[-1, 1]`, and L levels take a softmax where the paper has two and a sigmoid.

use core_layers::kernels;
use tch::{Tensor, nn};

use super::{positions, to_vec};
use crate::config::NadeConfig;

/// Weights of a NADE. Those of a pixel are stored by position, not by draw order.
#[derive(Debug)]
pub struct Nade {
    ws: Tensor,          // [N, H], what a known pixel adds to every hidden unit
    bs: Tensor,          // [H], the paper's c
    vs: Tensor,          // [N, H, L]
    output_bias: Tensor, // [N, L], the paper's b
    order: Vec<u32>,
}

/// The numbers of a [`Nade`], row-major.
#[derive(Debug, Clone)]
pub struct NadeWeights {
    /// `[N, H]`.
    pub inputs: Vec<f32>,
    /// `[H]`.
    pub bias: Vec<f32>,
    /// `[N, H, L]`.
    pub outputs: Vec<f32>,
    /// `[N, L]`.
    pub output_bias: Vec<f32>,
}

impl Nade {
    /// Creates the weights under `vs`; those of the outputs start at zero.
    pub(super) fn new(vs: &nn::Path<'_>, config: &NadeConfig) -> Self {
        let pixels = config.image.dims();
        let (input, output) = (vs / "input", vs / "output");
        let bound = (1. / pixels as f64).sqrt();
        Self {
            ws: input.uniform("weight", &[pixels, config.hidden], -bound, bound),
            bs: input.zeros("bias", &[config.hidden]),
            vs: output.zeros("weight", &[pixels, config.hidden, config.image.levels]),
            output_bias: output.zeros("bias", &[pixels, config.image.levels]),
            order: positions(config.order, pixels as usize),
        }
    }

    /// The position that is drawn k-th.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Inputs `[B, N, 1]` to logits `[B, N, L]`.
    pub(super) fn forward(&self, embedded: &Tensor) -> Tensor {
        let order: Vec<i64> = self.order.iter().map(|&position| i64::from(position)).collect();
        let order = Tensor::from_slice(&order).to_device(embedded.device());
        let xs = embedded.squeeze_dim(-1).index_select(1, &order); // [B, N], in draw order
        let ws = self.ws.index_select(0, &order); // [N, H]
        let vs = self.vs.index_select(0, &order); // [N, H, L]
        let logits = kernels::nade::logits(&xs, &ws, &self.bs, &vs); // [B, N, L]
        let position_to_draw = order.argsort(0, false);
        logits.index_select(1, &position_to_draw) + &self.output_bias
    }

    /// A copy of the weights.
    pub fn weights(&self) -> NadeWeights {
        NadeWeights {
            inputs: to_vec(&self.ws),
            bias: to_vec(&self.bs),
            outputs: to_vec(&self.vs),
            output_bias: to_vec(&self.output_bias),
        }
    }
}
