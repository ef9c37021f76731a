//! Self-attention: queries, keys and values of every position, and what is made of what they find.
//! Letters: B texts, T tokens, D width, H heads, K key and value heads, E width of a head.

use core_layers::{attention, rope::Turn};
use tch::{Tensor, nn, nn::Module};

use super::linear::Linear;
use crate::config::DecoderConfig;

/// Self-attention.
#[derive(Debug)]
pub(crate) struct SelfAttention {
    pub(crate) query: Linear,   // D -> H E
    pub(crate) key: Linear,     // D -> K E
    pub(crate) value: Linear,   // D -> K E
    pub(crate) output: Linear,  // H E -> D
    pub(super) heads: [i64; 2], // H and K
    width: i64,                 // E
    dropout: f64,               // of the weights of attention, in training
}

/// What the positions of one layer ask for and offer, turned where positions are rotations.
#[derive(Debug)]
pub(crate) struct Heads {
    /// `[B, H, T, E]`.
    pub(crate) queries: Tensor,
    /// `[B, K, T, E]`.
    pub(crate) keys: Tensor,
    /// `[B, K, T, E]`.
    pub(crate) values: Tensor,
}

/// What a position sees.
pub(crate) enum Attend<'a> {
    /// Every position up to its own.
    Causal,
    /// The last so many up to its own.
    Band(i64),
    /// What this finds, `[B, H, T, E]`, among what was read before.
    Kept(&'a mut dyn FnMut(&Heads) -> Tensor),
}

impl SelfAttention {
    /// `residual_std` is that of what writes to the residual stream.
    pub(crate) fn new(vs: &nn::Path<'_>, config: &DecoderConfig, residual_std: f64) -> Self {
        let d = config.d_model;
        let linear =
            |name, outs| Linear::new(&(vs / name), [outs, d], config.initial_std, config.biases);
        Self {
            query: linear("query", config.d_query()),
            key: linear("key", config.d_key()),
            value: linear("value", config.d_key()),
            output: Linear::new(
                &(vs / "output"),
                [d, config.d_query()],
                residual_std,
                config.biases,
            ),
            heads: [config.heads, config.kv_heads],
            width: config.d_head,
            dropout: config.dropout,
        }
    }

    /// `train` lets dropout act on the weights of attention, but on nothing that was read before.
    ///
    /// # Shape
    /// `[B, T, D]` to the same.
    pub(crate) fn forward(
        &self,
        xs: &Tensor,
        turn: Option<&Turn>,
        train: bool,
        attend: Attend<'_>,
    ) -> Tensor {
        let dropout = if train { self.dropout } else { 0. };
        let maps = [&self.query, &self.key, &self.value];
        let (rows, time, _) = xs.size3().expect("inputs are [B, T, D]");
        let heads = |xs: &Tensor| xs.view([rows, time, -1, self.width]).transpose(1, 2);
        let turned = |xs: Tensor| match turn {
            Some(turn) => turn.forward(&xs),
            None => xs,
        };
        let ys = match attend {
            Attend::Causal => {
                // in training one product of joined weights; else nothing is copied but what comes out
                let all = if self.query.ws.requires_grad() {
                    Linear::joined(&maps, xs)
                } else {
                    Tensor::cat(&maps.map(|map| map.forward(xs)), -1)
                };
                return self.output.forward(&attention::joint(&all, turn, self.heads, dropout));
            }
            Attend::Band(band) => {
                let [queries, keys, values] = maps.map(|map| heads(&map.forward(xs)));
                attention::banded(&turned(queries), &turned(keys), &values, band, dropout)
            }
            Attend::Kept(of) => {
                let [queries, keys, values] = maps.map(|map| heads(&map.forward(xs)));
                of(&Heads { queries: turned(queries), keys: turned(keys), values })
            }
        }; // [B, H, T, E]
        self.output.forward(&ys.transpose(1, 2).reshape([rows, time, -1]))
    }
}
