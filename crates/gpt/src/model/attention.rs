//! Self-attention: queries, keys and values of every position, and what is made of what they find.
//! Letters: B texts, T tokens, D width, H heads, K key and value heads, E width of a head.

use core_layers::rope::Turn;
use tch::{Tensor, nn, nn::Module};

use super::linear::Linear;
use crate::config::DecoderConfig;

/// Self-attention.
#[derive(Debug)]
pub(crate) struct SelfAttention {
    pub(crate) query: Linear,  // D -> H E
    pub(crate) key: Linear,    // D -> K E
    pub(crate) value: Linear,  // D -> K E
    pub(crate) output: Linear, // H E -> D
    heads: [i64; 2],           // H and K
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
        }
    }

    /// # Shape
    /// Inputs `[B, T, D]`; `attend` gives `[B, H, T, E]`; outputs `[B, T, D]`.
    pub(crate) fn forward(
        &self,
        xs: &Tensor,
        turn: Option<&Turn>,
        train: bool,
        attend: impl FnOnce(&Heads) -> Tensor,
    ) -> Tensor {
        let (rows, time, _) = xs.size3().expect("inputs are [B, T, D]");
        let [heads, kv_heads] = self.heads;
        let split = |xs: &Tensor, heads: i64| xs.view([rows, time, heads, -1]).transpose(1, 2);
        let [queries, keys, values] = if train {
            let all = split(
                &Linear::joined(&[&self.query, &self.key, &self.value], xs),
                heads + 2 * kv_heads,
            );
            [(0, heads), (heads, kv_heads), (heads + kv_heads, kv_heads)]
                .map(|(first, count)| all.narrow(1, first, count))
        } else {
            [(&self.query, heads), (&self.key, kv_heads), (&self.value, kv_heads)]
                .map(|(map, heads)| split(&map.forward(xs), heads))
        };
        let turned = |xs: Tensor| match turn {
            Some(turn) => turn.forward(&xs),
            None => xs,
        };
        let ys = attend(&Heads { queries: turned(queries), keys: turned(keys), values });
        self.output.forward(&ys.transpose(1, 2).reshape([rows, time, -1]))
    }
}
