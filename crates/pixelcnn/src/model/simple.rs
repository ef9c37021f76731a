//! The simplest PixelCNN: a stack of masked convolutions (van den Oord et al., "Pixel Recurrent Neural Networks", 2016,
//! section 3.5 and figure 2, <https://arxiv.org/abs/1601.06759>, without its residual blocks).
//!
//! `h_0 = relu(A(x))`, `h_l = relu(B_l(h_{l-1}))`; it has the blind spot that Gated PixelCNN removes.

use core_layers::{
    ConfigError,
    conv::{Mask, MaskedConv2d, MaskedConv2dConfig},
};
use tch::{Tensor, nn, nn::Module};

use super::program::{Map, MapId, Program};
use crate::config::SimpleConfig;

#[derive(Debug)]
pub(super) struct Simple {
    layers: Vec<MaskedConv2d>,
    channels: i64,
}

impl Simple {
    pub(super) fn new(
        vs: &nn::Path<'_>,
        config: &SimpleConfig,
        features: i64,
    ) -> Result<Self, ConfigError> {
        let layer = |index: i64| {
            let (inputs, mask) =
                if index == 0 { (features, Mask::A) } else { (config.channels, Mask::B) };
            let masked = MaskedConv2dConfig {
                groups: config.image.colours,
                ..MaskedConv2dConfig::new([config.kernel_size; 2], mask)
            };
            MaskedConv2d::new(&(vs / "layers" / index), inputs, config.channels, masked)
        };
        Ok(Self {
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
            channels: config.channels,
        })
    }

    /// `[B, I, H, W]` to `[B, channels, H, W]`.
    pub(super) fn forward(&self, xs: &Tensor) -> Tensor {
        self.layers.iter().fold(xs.shallow_clone(), |xs, layer| layer.forward(&xs).relu())
    }

    pub(super) fn live_parameters(&self) -> i64 {
        self.layers.iter().map(MaskedConv2d::live_parameters).sum()
    }

    pub(super) fn lower(&self, program: &mut Program, image: MapId) -> MapId {
        self.layers.iter().fold(image, |xs, layer| {
            let pre = program.conv(&[(layer, xs)], None, Map::pixel(self.channels));
            program.relu(pre)
        })
    }
}
