//! The local condition: features at a low rate become one vector for each sample, by learnt interpolation.

use tch::{Device, Kind, Tensor, nn};

use super::context::MARGIN;
use crate::config::WaveNetConfig;

/// Taps of the convolution over frames.
pub(crate) const FRAME_KERNEL: usize = 3;

/// Features `[B, F, frames]` to a condition `[B, C, T]` (van den Oord et al., 2016, section 2.5: a learnt upsampling by
/// transposed convolution).
///
/// `g_j = b + sum_i W_i f_{j - 1 + i}` over three frames, then per channel
/// `c_t = sum_j u[t + h - floor(h / 2) - j h] g_j` with two frames of weight at each sample; `u`, of 2 h taps,
/// starts as the triangle that interpolates linearly between the centres of frames. Beyond a clip's ends f is zero.
#[derive(Debug)]
pub(crate) struct Upsampler {
    ws: Tensor,            // [C, F, 3]
    bs: Tensor,            // [C]
    interpolation: Tensor, // [C, 1, 2 h]
    hop: i64,
}

impl Upsampler {
    pub(super) fn new(vs: &nn::Path<'_>, config: &WaveNetConfig) -> Self {
        let (channels, hop) = (config.condition_channels, config.hop);
        let bound = 1. / ((config.features * FRAME_KERNEL as i64) as f64).sqrt();
        let start = nn::Init::Uniform { lo: -bound, up: bound };
        let taps = Tensor::arange(2 * hop, (Kind::Float, Device::Cpu));
        let triangle: Tensor = 1. - (taps + 0.5 - hop as f64).abs() / hop as f64;
        let interpolation = vs.zeros("interpolation", &[channels, 1, 2 * hop]);
        tch::no_grad(|| {
            interpolation.shallow_clone().copy_(&triangle.expand([channels, 1, 2 * hop], false));
        });
        Self {
            ws: vs.var("weight", &[channels, config.features, FRAME_KERNEL as i64], start),
            bs: vs.zeros("bias", &[channels]),
            interpolation,
            hop,
        }
    }

    /// Samples that lie before the first in what the transposed convolution gives.
    pub(crate) fn offset(hop: usize) -> usize {
        MARGIN * hop - hop / 2
    }

    /// `[B, F, MARGIN + frames + MARGIN]` to `[B, C, samples]`.
    pub(super) fn forward(&self, features: &Tensor, samples: i64) -> Tensor {
        let frames = features.conv1d(&self.ws, Some(&self.bs), 1, 0, 1, 1);
        let channels = self.bs.size()[0];
        frames
            .conv_transpose1d(&self.interpolation, None::<Tensor>, self.hop, 0, 0, channels, 1)
            .narrow(2, Self::offset(self.hop as usize) as i64, samples)
    }

    /// Weights `[C, F, 3]`, bias `[C]` and interpolation `[C, 2 h]`, flat, for the steppers.
    pub(crate) fn parameters(&self) -> [&Tensor; 3] {
        [&self.ws, &self.bs, &self.interpolation]
    }
}
