//! Causal self-attention between the blocks of a Gated PixelCNN (Chen et al., "PixelSNAIL: An Improved Autoregressive
//! Generative Model", 2018, section 2, <https://arxiv.org/abs/1712.09763>; the priors of Razavi et al., "Generating Diverse
//! High-Fidelity Images with VQ-VAE-2", 2019, appendix A, <https://arxiv.org/abs/1906.00446>).
//!
//! `h_i <- h_i + W_o sum_{j < i} softmax_j(q_i . k_j / sqrt(D)) v_j` for each head, with `q_i = W_q [h_i, p_i]` and
//! `k_j, v_j = W_kv [h_j, x_j, p_j]`: `h_j` knows the pixels before j, so the embedded pixel `x_j` stands beside it, and only
//! strictly later pixels read both. p is the pixel's row and column. Nothing comes before pixel 0, which reads zero.
//! The heads of a colour see what earlier colours of the own pixel and all colours of earlier pixels tell.
//! Letters: B batch, I numbers an embedded pixel, C channels, M heads, D = C / M, P = H W pixels.
//!
//! Differs: one 1x1 convolution each makes queries, and keys and values, where the papers have residual blocks.

use core_layers::{
    ConfigError,
    conv::{Mask, MaskedConv2d, MaskedConv2dConfig},
};
use tch::{Device, Tensor, nn, nn::Module};

use super::program::{Map, MapId, Program, Reach};
use crate::config::GatedConfig;

/// Row or column `index` of `count`, spread over `[-1, 1]`; 0 where there is one only.
pub fn coordinate(index: usize, count: usize) -> f32 {
    let span = count.saturating_sub(1).max(1) as f32;
    (2. * index as f32 - count.saturating_sub(1) as f32) / span
}

/// The coordinates of every pixel `[1, 2, H, W]`: its row, its column.
pub(crate) fn coordinates(height: i64, width: i64, device: Device) -> Tensor {
    let along = |count: i64| -> Vec<f32> {
        (0..count as usize).map(|index| coordinate(index, count as usize)).collect()
    };
    let rows = Tensor::from_slice(&along(height)).unsqueeze(-1).expand([height, width], false);
    let columns = Tensor::from_slice(&along(width)).expand([height, width], false);
    Tensor::stack(&[rows, columns], 0).unsqueeze(0).to_device(device)
}

#[derive(Debug)]
pub(super) struct Attention {
    query: MaskedConv2d,    // C -> C
    position: MaskedConv2d, // 2 -> C, to the queries
    past: MaskedConv2d,     // C + I + 2 -> 2 C: keys, then values
    output: MaskedConv2d,   // C -> C
    heads: i64,
}

impl Attention {
    /// Differs: keys and values have no bias. One of the keys would shift all scores of a query alike, one of the values
    /// is the output's.
    pub(super) fn new(
        vs: &nn::Path<'_>,
        config: &GatedConfig,
        features: i64,
    ) -> Result<Self, ConfigError> {
        let channels = config.channels;
        let conv = |name: &str, inputs, outputs, config| {
            MaskedConv2d::new(&(vs / name), inputs, outputs, config)
        };
        let own = MaskedConv2dConfig { groups: config.image.colours, ..pointwise(Mask::B) };
        let all = MaskedConv2dConfig { bias: false, ..pointwise(Mask::All) };
        Ok(Self {
            query: conv("query", channels, channels, own)?,
            position: conv("position", 2, channels, all)?,
            past: conv("past", channels + features + 2, 2 * channels, all)?,
            output: conv("output", channels, channels, own)?,
            heads: config.attention_heads,
        })
    }

    /// `hs` `[B, C, H, W]` with what is read of earlier pixels; `xs` `[B, I, H, W]`, `positions` `[1, 2, H, W]`.
    pub(super) fn forward(&self, hs: &Tensor, xs: &Tensor, positions: &Tensor) -> Tensor {
        let (rows, channels, height, width) = hs.size4().expect("an image batch has four axes");
        let positions = positions.expand([rows, -1, -1, -1], false);
        let queries = self.query.sum(hs, &self.position, &positions); // [B, C, H, W]
        let past = Tensor::cat(&[hs, xs, &positions], 1); // [B, C + I + 2, H, W]
        let past = self.past.forward(&past).chunk(2, 1);
        let read =
            attend(&self.of_heads(&queries), &self.of_heads(&past[0]), &self.of_heads(&past[1]));
        let read = read // [B, M, P, D]
            .transpose(1, 2)
            .reshape([rows, height, width, channels])
            .permute([0, 3, 1, 2]); // [B, C, H, W]
        hs + self.output.forward(&read)
    }

    /// `[B, C, H, W]` to `[B, M, P, D]`.
    fn of_heads(&self, xs: &Tensor) -> Tensor {
        let (rows, channels, height, width) = xs.size4().expect("an image batch has four axes");
        xs.permute([0, 2, 3, 1])
            .reshape([rows, height * width, self.heads, channels / self.heads])
            .transpose(1, 2)
    }

    pub(super) fn live_parameters(&self) -> i64 {
        let convs = [&self.query, &self.position, &self.past, &self.output];
        convs.map(MaskedConv2d::live_parameters).iter().sum()
    }

    pub(super) fn lower(&self, program: &mut Program, hs: MapId, image: MapId) -> MapId {
        let map = Map { halves: 1, ..program.maps[hs] };
        let position = program.position();
        let queries = program.conv(&[(&self.query, hs), (&self.position, position)], None, map);
        let drawn = Map { channels: 2 * map.channels, reach: Reach::Drawn, halves: 1 };
        let past = program.conv_of_all(&self.past, &[hs, image, position], drawn);
        let read = program.attention(queries, past, self.heads as usize);
        let output = program.conv(&[(&self.output, read)], None, map);
        program.add(hs, output)
    }
}

const fn pointwise(mask: Mask) -> MaskedConv2dConfig {
    MaskedConv2dConfig::new([1, 1], mask)
}

/// `y_i = sum_{j < i} softmax_j(q_i . k_j / sqrt(D)) v_j`, and `y_0 = 0`; the weights of all pairs are never kept.
///
/// # Shape
/// Three times `[B, M, P, D]` to `[B, M, P, D]`.
fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Tensor {
    // Query i + 1 reads positions up to i: so the mask is the causal one, and no softmax is over nothing.
    let before = queries.size()[2] - 1;
    let (later, keys, values) =
        (queries.narrow(2, 1, before), keys.narrow(2, 0, before), values.narrow(2, 0, before));
    let read = if before == 0 {
        values
    } else {
        let mask = None::<Tensor>;
        Tensor::scaled_dot_product_attention(&later, &keys, &values, mask, 0., true, None, false)
    };
    read.constant_pad_nd([0, 0, 1, 0])
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    fn random(seed: f64) -> Tensor {
        let options = (Kind::Float, Device::Cpu);
        (Tensor::arange(2 * 3 * 7 * 4, options) * seed).sin().reshape([2, 3, 7, 4])
    }

    #[test]
    fn it_is_the_naive_nested_loop() {
        let (queries, keys, values) = (random(0.7), random(1.3), random(2.9));
        let ys = attend(&queries, &keys, &values);
        for (row, head, i) in [(0, 0, 0), (0, 1, 1), (1, 2, 4), (1, 0, 6)] {
            let score = |j: i64| -> f64 {
                let at = |of: &Tensor, i, c| of.double_value(&[row, head, i, c]);
                (0..4).map(|c| at(&queries, i, c) * at(&keys, j, c)).sum::<f64>() / 2.
            };
            let total: f64 = (0..i).map(|j| score(j).exp()).sum();
            for c in 0..4 {
                let of = |j| score(j).exp() / total * values.double_value(&[row, head, j, c]);
                let wanted: f64 = (0..i).map(of).sum();
                assert!((ys.double_value(&[row, head, i, c]) - wanted).abs() < 1e-6, "{i} {c}");
            }
        }
    }

    /// The definition: a strict mask, and pixel 0 by itself.
    fn masked(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Tensor {
        let (_, _, count, depth) = queries.size4().unwrap();
        let unseen = Tensor::ones([count; 2], (Kind::Bool, Device::Cpu)).triu(0);
        let scores = (queries / (depth as f64).sqrt()).matmul(&keys.transpose(2, 3));
        // row 0 sees all for a moment: a softmax over nothing is not a number
        let unseen = unseen * Tensor::arange(count, (Kind::Int64, Device::Cpu)).gt(0).unsqueeze(-1);
        let weights = scores.masked_fill(&unseen, f64::NEG_INFINITY).softmax(-1, Kind::Float);
        weights.matmul(values).narrow(2, 1, count - 1).constant_pad_nd([0, 0, 1, 0])
    }

    #[test]
    fn values_and_gradients_are_those_of_the_masked_softmax() {
        for pixels in [2, 3, 7] {
            let parts = [0.7, 1.3, 2.9]
                .map(|seed| random(seed).narrow(2, 0, pixels).contiguous().set_requires_grad(true));
            let all = |ys: Tensor| {
                let loss = (&ys * random(0.3).narrow(2, 0, pixels)).sum(Kind::Float);
                let mut all = Tensor::run_backward(&[loss], &parts, false, false);
                all.push(ys);
                all
            };
            let found = all(attend(&parts[0], &parts[1], &parts[2]));
            let wanted = all(masked(&parts[0], &parts[1], &parts[2]));
            for (found, wanted) in found.iter().zip(&wanted) {
                let difference = (found - wanted).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{pixels} pixels: {difference}");
            }
        }
    }

    #[test]
    fn one_pixel_reads_nothing() {
        let [queries, keys, values] = [0.7, 1.3, 2.9].map(|seed| random(seed).narrow(2, 3, 1));
        let ys = attend(&queries, &keys, &values);
        assert_eq!((ys.size(), ys.abs().max().double_value(&[])), (vec![2, 3, 1, 4], 0.));
    }

    #[test]
    fn coordinates_span_minus_one_to_one() {
        assert_eq!([0, 1, 2].map(|index| coordinate(index, 3)), [-1., 0., 1.]);
        assert_eq!(coordinate(0, 1), 0.);
        let positions = coordinates(2, 3, Device::Cpu);
        assert_eq!(positions.double_value(&[0, 0, 1, 0]), 1.);
        assert_eq!(positions.double_value(&[0, 1, 1, 0]), -1.);
    }
}
