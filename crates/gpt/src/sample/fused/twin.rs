//! The decoder as its formulas say, one token at a time in f64 over decoded weights: what engines are compared with.

use crate::{
    config::{DecoderConfig, FeedForward, Norm},
    weights::Weights,
};

/// One text.
pub(super) struct Twin<'a> {
    config: &'a DecoderConfig,
    weights: &'a Weights,
    kept: Vec<Vec<[Vec<f64>; 2]>>, // [layer][position], keys and values
}

impl<'a> Twin<'a> {
    pub(super) fn new(config: &'a DecoderConfig, weights: &'a Weights) -> Self {
        Self { config, weights, kept: vec![Vec::new(); config.layers as usize] }
    }

    fn vector(&self, name: &str) -> Vec<f64> {
        self.weights.of(name).to_f32().into_iter().map(f64::from).collect()
    }

    fn row(&self, name: &str, row: usize) -> Vec<f64> {
        let table = self.weights.of(name);
        let mut out = vec![0.; table.columns()];
        table.decode_row(row, &mut out);
        out.into_iter().map(f64::from).collect()
    }

    fn product(&self, name: &str, xs: &[f64]) -> Vec<f64> {
        let values = self.vector(name);
        values
            .chunks_exact(xs.len())
            .map(|ws| ws.iter().zip(xs).map(|(w, x)| w * x).sum())
            .collect()
    }

    fn linear(&self, name: &str, xs: &[f64]) -> Vec<f64> {
        let mut ys = self.product(&format!("{name}.weight"), xs);
        if self.config.biases {
            ys.iter_mut().zip(self.vector(&format!("{name}.bias"))).for_each(|(y, b)| *y += b);
        }
        ys
    }

    fn norm(&self, name: &str, xs: &[f64]) -> Vec<f64> {
        let weight = self.vector(&format!("{name}.weight"));
        let count = xs.len() as f64;
        let is_layer = self.config.norm == Norm::LayerNorm;
        let mean = if is_layer { xs.iter().sum::<f64>() / count } else { 0. };
        let square = xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let scale = 1. / (square + self.config.norm_epsilon).sqrt();
        let mut ys: Vec<f64> = xs.iter().zip(weight).map(|(x, w)| (x - mean) * scale * w).collect();
        if is_layer {
            ys.iter_mut().zip(self.vector(&format!("{name}.bias"))).for_each(|(y, b)| *y += b);
        }
        ys
    }

    fn turn(&self, xs: &mut [f64], position: usize) {
        let half = self.config.d_head as usize / 2;
        for head in xs.chunks_exact_mut(2 * half) {
            for (pair, frequency) in self.config.frequencies().into_iter().flatten().enumerate() {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                let (x, y) = (head[pair], head[half + pair]);
                (head[pair], head[half + pair]) = (x * cosine - y * sine, y * cosine + x * sine);
            }
        }
    }

    fn attend(&self, layer: usize, queries: &[f64]) -> Vec<f64> {
        let width = self.config.d_head as usize;
        let group = (self.config.heads / self.config.kv_heads) as usize;
        let kept = &self.kept[layer];
        let band = self.config.attention.band(layer as i64).map_or(kept.len(), |it| it as usize);
        let seen = &kept[kept.len().saturating_sub(band)..];
        let mut out = Vec::new();
        for (head, query) in queries.chunks_exact(width).enumerate() {
            let at = head / group * width;
            let score = |keys: &Vec<f64>| -> f64 {
                let products = query.iter().zip(&keys[at..at + width]);
                products.map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt()
            };
            let ps: Vec<f64> = seen.iter().map(|[keys, _]| score(keys).exp()).collect();
            let sum: f64 = ps.iter().sum();
            out.extend((at..at + width).map(|e| {
                seen.iter().zip(&ps).map(|([_, values], p)| p / sum * values[e]).sum::<f64>()
            }));
        }
        out
    }

    /// Reads a token; the logits after it.
    pub(super) fn feed(&mut self, token: u32) -> Vec<f64> {
        let config = self.config;
        let position = self.kept[0].len();
        let mut xs = self.row("embedding.weight", token as usize);
        let add = |xs: &mut Vec<f64>, ys: Vec<f64>| {
            xs.iter_mut().zip(ys).for_each(|(x, y)| *x += y);
        };
        if config.frequencies().is_none() {
            add(&mut xs, self.row("position.weight", position));
        }
        for layer in 0..config.layers as usize {
            let name = |part: &str| format!("layers.{layer}.{part}");
            let normed = self.norm(&name("attention_norm"), &xs);
            let mut queries = self.linear(&name("attention.query"), &normed);
            let mut keys = self.linear(&name("attention.key"), &normed);
            let values = self.linear(&name("attention.value"), &normed);
            self.turn(&mut queries, position);
            self.turn(&mut keys, position);
            self.kept[layer].push([keys, values]);
            let found = self.attend(layer, &queries);
            add(&mut xs, self.linear(&name("attention.output"), &found));
            let normed = self.norm(&name("feed_forward_norm"), &xs);
            let mut inner = self.linear(&name("feed_forward.up"), &normed);
            match config.feed_forward {
                FeedForward::SwiGlu => {
                    let gates = self.linear(&name("feed_forward.gate"), &normed);
                    inner.iter_mut().zip(gates).for_each(|(x, g)| *x *= g / (1. + (-g).exp()));
                }
                FeedForward::GeluTanh => inner.iter_mut().for_each(|x| {
                    let u = (2. / std::f64::consts::PI).sqrt() * (*x + 0.044_715 * x.powi(3));
                    *x *= 0.5 * (1. + u.tanh());
                }),
                FeedForward::Gelu => inner.iter_mut().for_each(|x| {
                    *x *= 0.5 * (1. + erf(*x / std::f64::consts::SQRT_2));
                }),
            }
            add(&mut xs, self.linear(&name("feed_forward.down"), &inner));
        }
        let head = if config.tied { "embedding.weight" } else { "head.weight" };
        self.product(head, &self.norm("norm", &xs))
    }
}

/// The error function by its series, `2 / sqrt(pi) sum_n (-1)^n x^(2 n + 1) / (n! (2 n + 1))`; for small x.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    2. / std::f64::consts::PI.sqrt() * sum
}
