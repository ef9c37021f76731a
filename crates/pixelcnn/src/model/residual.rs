//! PixelCNN with residual blocks (van den Oord et al., "Pixel Recurrent Neural Networks", 2016, figure 5 and table 1,
//! <https://arxiv.org/abs/1601.06759>).
//!
//! `x <- x + up(relu(conv(relu(down(relu(x))))))` with 1x1, 3x3 and 1x1 kernels of 2h, h and 2h channels.

use core_layers::{
    ConfigError,
    conv::{Mask, MaskedConv2d, MaskedConv2dConfig},
};
use tch::{Tensor, nn, nn::Module};

use super::program::{Map, MapId, Program};
use crate::config::PixelCnnConfig;

#[derive(Debug)]
struct Block {
    down: MaskedConv2d, // 2h -> h, 1x1
    conv: MaskedConv2d, // h -> h
    up: MaskedConv2d,   // h -> 2h, 1x1
}

impl Block {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let ys = self.down.forward(&xs.relu()).relu();
        let ys = self.conv.forward(&ys).relu();
        xs + self.up.forward(&ys)
    }
}

#[derive(Debug)]
pub(super) struct Residual {
    first: MaskedConv2d,
    blocks: Vec<Block>,
    head: [MaskedConv2d; 2],
    config: PixelCnnConfig,
}

impl Residual {
    pub(super) fn new(
        vs: &nn::Path<'_>,
        config: &PixelCnnConfig,
        features: i64,
    ) -> Result<Self, ConfigError> {
        let wide = 2 * config.channels;
        let conv = |vs: nn::Path<'_>, inputs, outputs, size, mask| {
            let masked = MaskedConv2dConfig {
                groups: config.image.colours,
                ..MaskedConv2dConfig::new([size; 2], mask)
            };
            MaskedConv2d::new(&vs, inputs, outputs, masked)
        };
        let block = |index: i64| -> Result<Block, ConfigError> {
            let vs = vs / "blocks" / index;
            Ok(Block {
                down: conv(&vs / "down", wide, config.channels, 1, Mask::B)?,
                conv: conv(
                    &vs / "conv",
                    config.channels,
                    config.channels,
                    config.kernel_size,
                    Mask::B,
                )?,
                up: conv(&vs / "up", config.channels, wide, 1, Mask::B)?,
            })
        };
        Ok(Self {
            first: conv(vs / "first", features, wide, config.first_kernel_size, Mask::A)?,
            blocks: (0..config.blocks).map(block).collect::<Result<_, _>>()?,
            head: [
                conv(vs / "head_layers" / 0, wide, config.head_channels, 1, Mask::B)?,
                conv(
                    vs / "head_layers" / 1,
                    config.head_channels,
                    config.head_channels,
                    1,
                    Mask::B,
                )?,
            ],
            config: config.clone(),
        })
    }

    /// `[B, I, H, W]` to `[B, head_channels, H, W]`.
    pub(super) fn forward(&self, xs: &Tensor) -> Tensor {
        let xs = self.blocks.iter().fold(self.first.forward(xs), |xs, block| block.forward(&xs));
        self.head.iter().fold(xs, |xs, layer| layer.forward(&xs.relu())).relu()
    }

    pub(super) fn live_parameters(&self) -> i64 {
        let blocks = self.blocks.iter().flat_map(|block| [&block.down, &block.conv, &block.up]);
        blocks.chain(&self.head).chain([&self.first]).map(MaskedConv2d::live_parameters).sum()
    }

    pub(super) fn lower(&self, program: &mut Program, image: MapId) -> MapId {
        let wide = Map::pixel(2 * self.config.channels);
        let narrow = Map::pixel(self.config.channels);
        let mut xs = program.conv(&[(&self.first, image)], None, wide);
        for block in &self.blocks {
            let mut ys = program.relu(xs);
            ys = program.conv(&[(&block.down, ys)], None, narrow);
            ys = program.relu(ys);
            ys = program.conv(&[(&block.conv, ys)], None, narrow);
            ys = program.relu(ys);
            ys = program.conv(&[(&block.up, ys)], None, wide);
            xs = program.add(xs, ys);
        }
        for layer in &self.head {
            let ys = program.relu(xs);
            xs = program.conv(&[(layer, ys)], None, Map::pixel(self.config.head_channels));
        }
        program.relu(xs)
    }
}
