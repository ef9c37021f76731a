//! What a network makes of its context map before the first pixel is drawn (the conditioning stack of Razavi et al.,
//! "Generating Diverse High-Fidelity Images with VQ-VAE-2", 2019, appendix A, <https://arxiv.org/abs/1906.00446>).
//!
//! `m <- F m`, then for each block `m <- m + V relu(U relu(m))`, with F and U of 3x3 and V of 1x1 taps and zeros outside the
//! map, at the map's own size; then each of its pixels is repeated to fill the image. Nothing is masked: all of the map is
//! known beforehand. Without blocks the map itself is repeated.
//! Letters: B batch, K channels of the map, C channels, h and w its rows and columns, H and W the image's.

use core_layers::{
    ConfigError,
    conv::{Mask, MaskedConv2d, MaskedConv2dConfig},
};
use tch::{Tensor, nn, nn::Module};

use super::to_vec;
use crate::config::GatedConfig;

/// A convolution over the context map at its own size.
#[derive(Debug, Clone)]
pub struct ContextLayer {
    /// Channels that it reads.
    pub inputs: usize,
    /// Rows down, columns to the right, and weights `[O, inputs]`, row-major, in the order in which they are summed.
    pub taps: Vec<(i64, i64, Vec<f32>)>,
    /// Bias `[O]`.
    pub bias: Vec<f32>,
}

#[derive(Debug)]
struct Block {
    conv: MaskedConv2d, // C -> C, 3x3
    out: MaskedConv2d,  // C -> C, 1x1
}

#[derive(Debug)]
pub(super) struct ContextStack {
    first: Option<MaskedConv2d>, // K -> C, 3x3; none without blocks
    blocks: Vec<Block>,
    config: GatedConfig,
}

impl ContextStack {
    pub(super) fn new(vs: &nn::Path<'_>, config: &GatedConfig) -> Result<Self, ConfigError> {
        let channels = config.channels;
        let conv = |vs: nn::Path<'_>, inputs, size| {
            let all = MaskedConv2dConfig::new([size; 2], Mask::All);
            MaskedConv2d::new(&vs, inputs, channels, all)
        };
        let first = (config.context_blocks > 0)
            .then(|| conv(vs / "first", config.context_channels, 3))
            .transpose()?;
        let block = |index: i64| -> Result<Block, ConfigError> {
            let vs = vs / "blocks" / index;
            Ok(Block {
                conv: conv(&vs / "conv", channels, 3)?,
                out: conv(&vs / "out", channels, 1)?,
            })
        };
        let blocks = (0..config.context_blocks).map(block).collect::<Result<_, _>>()?;
        Ok(Self { first, blocks, config: config.clone() })
    }

    /// `[B, K, h, w]` to `[B, C, H, W]`, without blocks `[B, K, H, W]`.
    pub(super) fn forward(&self, map: &Tensor) -> Tensor {
        let mut xs = self.first.as_ref().map_or_else(|| map.shallow_clone(), |it| it.forward(map));
        for block in &self.blocks {
            xs = &xs + block.out.forward(&block.conv.forward(&xs.relu()).relu());
        }
        let image = &self.config.image;
        if self.config.context_size() == [image.height, image.width] {
            return xs;
        }
        xs.upsample_nearest2d([image.height, image.width], None, None)
    }

    /// Channels that leave it.
    pub(super) fn channels(&self) -> i64 {
        if self.blocks.is_empty() { self.config.context_channels } else { self.config.channels }
    }

    /// Channels K, rows h and columns w of the map.
    pub(super) fn shape(&self) -> [usize; 3] {
        let [height, width] = self.config.context_size();
        [self.config.context_channels, height, width].map(|size| size as usize)
    }

    fn convs(&self) -> impl Iterator<Item = &MaskedConv2d> {
        self.first.iter().chain(self.blocks.iter().flat_map(|block| [&block.conv, &block.out]))
    }

    pub(super) fn live_parameters(&self) -> i64 {
        self.convs().map(MaskedConv2d::live_parameters).sum()
    }

    /// The first convolution, then two for each block.
    pub(super) fn layers(&self) -> Vec<ContextLayer> {
        let layer = |conv: &MaskedConv2d| {
            let taps = conv.taps();
            ContextLayer {
                inputs: taps[0].ws.size()[1] as usize,
                taps: taps.iter().map(|tap| (tap.dy, tap.dx, to_vec(&tap.ws))).collect(),
                bias: conv.bias().map(to_vec).unwrap_or_default(),
            }
        };
        self.convs().map(layer).collect()
    }
}
