//! Two-dimensional convolutions over what comes earlier in raster order.
//! Letters: B batch, I channels in, O channels out, H rows, W columns, K kernel height or width, G groups (colours).
//!
//! Groups stand in blocks: of C channels, group g owns `g C / G .. (g + 1) C / G`. Where tanh and sigmoid halves stand
//! one behind the other, each half is split so by itself.

use tch::{Device, Kind, Tensor, nn};

use crate::{
    ConfigError,
    kernels::ffi::{self, Summand},
};

/// What a [`MaskedConv2d`] may see (van den Oord et al., "Pixel Recurrent Neural Networks", 2016, section 3.4,
/// <https://arxiv.org/abs/1601.06759>, for A and B; "Conditional Image Generation with PixelCNN Decoders", 2016,
/// section 2.3, <https://arxiv.org/abs/1606.05328>, for the vertical stack).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Earlier pixels, and at the centre earlier groups only: the first layer of a network.
    A,
    /// Earlier pixels, and at the centre the own group as well: every later layer.
    B,
    /// Rows above the centre: the first layer of a vertical stack.
    Above,
    /// Rows above and the centre's row: later layers of a vertical stack, whose inputs know only rows above.
    UpToRow,
    /// Everything: layers over what is known before the first pixel is drawn.
    All,
}

/// Shape of a [`MaskedConv2d`].
#[derive(Debug, Clone, Copy)]
pub struct MaskedConv2dConfig {
    /// Height and width of the kernel, both odd; `[1, k]` sees its own row only.
    pub kernel_size: [i64; 2],
    /// Pixels between two taps, in both directions.
    pub dilation: i64,
    /// What it may see.
    pub mask: Mask,
    /// Groups G of channels that are drawn in turn: 1, or 3 for red, green and blue.
    pub groups: i64,
    /// Halves the outputs fall into, each split into groups by itself: 2 before a gate, otherwise 1.
    pub halves: i64,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether all weights start at zero, so that the layer's output is zero before training.
    pub zero: bool,
}

impl MaskedConv2dConfig {
    /// A layer of one group with a bias and without dilation.
    pub const fn new(kernel_size: [i64; 2], mask: Mask) -> Self {
        Self { kernel_size, dilation: 1, mask, groups: 1, halves: 1, bias: true, zero: false }
    }
}

/// One live tap of a kernel: what it reads, relative to the output's pixel, and its masked weights.
#[derive(Debug)]
pub struct Tap {
    /// Rows down; positive only under [`Mask::All`].
    pub dy: i64,
    /// Columns to the right; not positive in the centre's row, except under [`Mask::UpToRow`] and [`Mask::All`].
    pub dx: i64,
    /// Weights `[O, I]`.
    pub ws: Tensor,
}

/// Convolution with a kernel of the published shape `[O, I, K, K]` of which only live taps are computed.
///
/// `y[o, r, c] = b[o] + sum_{i, dy, dx} m[o, i, dy, dx] w[o, i, dy, dx] x[i, r + dy d, c + dx d]`, with zeros outside the
/// image, dilation `d` and the mask `m`. The mask multiplies the weights in every pass, so that no optimiser step,
/// average or checkpoint can open a dead tap.
///
/// ```
/// use core_layers::conv::{Mask, MaskedConv2d, MaskedConv2dConfig};
/// use tch::{Device, Kind, Tensor, nn, nn::Module};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let conv = MaskedConv2d::new(&vs.root(), 1, 8, MaskedConv2dConfig::new([7, 7], Mask::A))?;
/// assert_eq!(conv.forward(&Tensor::zeros([2, 1, 5, 4], (Kind::Float, Device::Cpu))).size(), [2, 8, 5, 4]);
/// # Ok::<(), core_layers::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct MaskedConv2d {
    ws: Tensor,           // [O, I, KH, KW]
    bs: Option<Tensor>,   // [O]
    mask: Option<Tensor>, // [O, I, live rows, live columns]; none where the live window is all live
    live: [i64; 2], // rows and columns of the window that holds every live tap, from the kernel's corner on
    live_weights: i64,
    config: MaskedConv2dConfig,
}

impl MaskedConv2d {
    /// Creates `weight` and, where there is one, `bias` under `vs`.
    ///
    /// Live weights start uniform in `+- 1 / sqrt(live inputs)`, dead ones at zero.
    ///
    /// # Errors
    /// [`ConfigError`] for an even or empty kernel, a dilation below 1, or channels that do not split into groups.
    pub fn new(
        vs: &nn::Path<'_>,
        in_channels: i64,
        out_channels: i64,
        config: MaskedConv2dConfig,
    ) -> Result<Self, ConfigError> {
        let [height, width] = config.kernel_size;
        for (field, size) in [("kernel height", height), ("kernel width", width)] {
            ConfigError::ensure(size >= 1 && size % 2 == 1, field, size, "odd")?;
        }
        ConfigError::at_least_one("dilation", config.dilation)?;
        let units = config.groups * config.halves;
        ConfigError::ensure(
            out_channels % units == 0,
            "output channels",
            out_channels,
            "a multiple of the colours",
        )?;
        ConfigError::ensure(
            in_channels % config.groups == 0,
            "input channels",
            in_channels,
            "a multiple of the colours",
        )?;

        let live = match config.mask {
            Mask::All => [height, width],
            Mask::Above => [height / 2, width],
            Mask::UpToRow => [height / 2 + 1, width],
            Mask::A | Mask::B if height > 1 => [height / 2 + 1, width],
            Mask::A if config.groups == 1 => [1, width / 2],
            Mask::A | Mask::B => [1, width / 2 + 1],
        };
        ConfigError::ensure(
            live[0] * live[1] > 0,
            "kernel",
            format!("{height} x {width}"),
            "large enough for its mask",
        )?;
        let mask = mask(in_channels, out_channels, live, &config);
        let live_weights = mask.sum(Kind::Int64).int64_value(&[]);
        let ws = vs.zeros("weight", &[out_channels, in_channels, height, width]);
        if !config.zero {
            let bound = (out_channels as f64 / live_weights as f64).sqrt();
            let start = Tensor::empty(mask.size(), (Kind::Float, Device::Cpu))
                .uniform(-bound, bound)
                * &mask;
            tch::no_grad(|| ws.narrow(2, 0, live[0]).narrow(3, 0, live[1]).copy_(&start));
        }
        let all_live = live_weights == mask.numel() as i64;
        Ok(Self {
            ws,
            bs: config.bias.then(|| vs.zeros("bias", &[out_channels])),
            mask: (!all_live).then(|| mask.to_device(vs.device())),
            live,
            live_weights,
            config,
        })
    }

    /// Parameters that can have an effect: live weights and biases.
    pub fn live_parameters(&self) -> i64 {
        self.live_weights + self.bs.as_ref().map_or(0, |bs| bs.size()[0])
    }

    /// The bias `[O]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bs.as_ref()
    }

    /// Every live tap, row by row.
    pub fn taps(&self) -> Vec<Tap> {
        let [height, width] = self.config.kernel_size;
        let ws = self.live_ws();
        let mut taps = Vec::new();
        for row in 0..self.live[0] {
            for column in 0..self.live[1] {
                let live = self.mask.as_ref().is_none_or(|mask| {
                    mask.select(2, row).select(2, column).sum(Kind::Int64).int64_value(&[]) > 0
                });
                if live {
                    taps.push(Tap {
                        dy: (row - height / 2) * self.config.dilation,
                        dx: (column - width / 2) * self.config.dilation,
                        ws: ws.select(2, row).select(2, column),
                    });
                }
            }
        }
        taps
    }

    /// The window of live taps, masked: `[O, I, live rows, live columns]`.
    fn live_ws(&self) -> Tensor {
        let ws = self.ws.narrow(2, 0, self.live[0]).narrow(3, 0, self.live[1]);
        match &self.mask {
            Some(mask) => ws * mask,
            None => ws,
        }
    }
}

impl nn::Module for MaskedConv2d {
    /// # Shape
    /// `[B, I, H, W]` to `[B, O, H, W]`.
    fn forward(&self, xs: &Tensor) -> Tensor {
        if !ffi::takes(xs) {
            return self.plain(xs);
        }
        ffi::conv_sum(&[self.summand(xs)], &self.start())
            .unwrap_or_else(|error| panic!("a masked convolution: {error}"))
    }
}

impl MaskedConv2d {
    /// `self(xs) + other(ys)`, on the CPU as one matrix product.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn sum(&self, xs: &Tensor, other: &Self, ys: &Tensor) -> Tensor {
        if !ffi::takes(xs) || !ffi::takes(ys) {
            return self.plain(xs) + other.plain(ys);
        }
        let bias = match &other.bs {
            Some(more) => self.start() + more,
            None => self.start(),
        };
        ffi::conv_sum(&[self.summand(xs), other.summand(ys)], &bias)
            .unwrap_or_else(|error| panic!("a sum of masked convolutions: {error}"))
    }

    /// The definition; `forward` does the same as a matrix product where it can.
    fn plain(&self, xs: &Tensor) -> Tensor {
        let (_, _, rows, columns) = xs.size4().expect("an image batch has four axes");
        let dilation = self.config.dilation;
        let padding = self.config.kernel_size.map(|size| size / 2 * dilation);
        // Symmetric padding costs nothing inside the convolution; the outputs that it adds at the end are dropped.
        xs.conv2d(&self.live_ws(), self.bs.as_ref(), [1, 1], padding, [dilation, dilation], 1)
            .narrow(2, 0, rows)
            .narrow(3, 0, columns) // [B, O, H, W]
    }

    /// The bias, or zeros `[O]`.
    fn start(&self) -> Tensor {
        let zeros = || Tensor::zeros([self.ws.size()[0]], (self.ws.kind(), self.ws.device()));
        self.bs.as_ref().map_or_else(zeros, Tensor::shallow_clone)
    }

    fn summand<'a>(&self, xs: &'a Tensor) -> Summand<'a> {
        Summand {
            xs,
            ws: self.live_ws(),
            centre: self.config.kernel_size.map(|size| size / 2),
            dilation: self.config.dilation,
        }
    }
}

/// 1 where a weight is live, in the window `live` of the kernel: `[O, I, live rows, live columns]`.
fn mask(
    in_channels: i64,
    out_channels: i64,
    live: [i64; 2],
    config: &MaskedConv2dConfig,
) -> Tensor {
    let mask =
        Tensor::ones([out_channels, in_channels, live[0], live[1]], (Kind::Float, Device::Cpu));
    let [height, width] = config.kernel_size;
    let (centre_row, centre) = (height / 2, width / 2);
    if matches!(config.mask, Mask::A | Mask::B) {
        let row = mask.select(2, centre_row); // [O, I, live columns]
        if live[1] > centre + 1 {
            let _ = row.narrow(2, centre + 1, live[1] - centre - 1).fill_(0.);
        }
        if live[1] > centre {
            row.select(2, centre).copy_(&group_mask(in_channels, out_channels, config));
        }
    }
    mask
}

/// 1 where an output's group may see an input's group of the same pixel: `[O, I]`.
fn group_mask(in_channels: i64, out_channels: i64, config: &MaskedConv2dConfig) -> Tensor {
    let options = (Kind::Int64, Device::Cpu);
    let half = out_channels / config.halves;
    let of_output = Tensor::arange(out_channels, options)
        .remainder(half)
        .divide_scalar_mode(half / config.groups, "floor");
    let of_input = Tensor::arange(in_channels, options)
        .divide_scalar_mode(in_channels / config.groups, "floor");
    let seen = if config.mask == Mask::A {
        of_input.unsqueeze(0).lt_tensor(&of_output.unsqueeze(1))
    } else {
        of_input.unsqueeze(0).le_tensor(&of_output.unsqueeze(1))
    };
    seen.to_kind(Kind::Float)
}

#[cfg(test)]
mod tests;
