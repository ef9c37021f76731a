//! What encoders and decoders are made of (1711.00937, section 4.1; widths as in sonnet's example).

use tch::{
    Tensor,
    nn::{self, Module},
};

use crate::config::VqVaeConfig;

/// Weights of variance `1 / fan_in`, as in sonnet: a map of variance 1 stays near it, so that an untrained decoder speaks
/// in the range of images.
///
/// With tch's own (He's, and for transposed convolutions the fan of the other side) a decoder of two levels begins at 300
/// times the variance, and the first steps push all vectors together instead of learning to tell them apart.
fn even_variance(fan_in: i64) -> nn::Init {
    let up = (3. / fan_in as f64).sqrt();
    nn::Init::Uniform { lo: -up, up }
}

fn conv(vs: &nn::Path<'_>, ins: i64, outs: i64, size: i64, stride: i64) -> nn::Conv2D {
    // padding that keeps H / stride rows for odd sizes of stride 1 and even sizes of stride 2
    let padding = (size - 1) / 2;
    let ws_init = even_variance(ins * size * size);
    let config = nn::ConvConfig { stride, padding, ws_init, ..nn::ConvConfig::default() };
    nn::conv2d(vs, ins, outs, size, config)
}

/// Doubles rows and columns: a transposed convolution of 4 x 4 taps and stride 2, of which 2 x 2 meet in an output.
fn double(vs: &nn::Path<'_>, ins: i64, outs: i64) -> nn::ConvTranspose2D {
    let ws_init = even_variance(ins * 4);
    let config = nn::ConvTransposeConfig {
        stride: 2,
        padding: 1,
        ws_init,
        ..nn::ConvTransposeConfig::default()
    };
    nn::conv_transpose2d(vs, ins, outs, 4, config)
}

/// A 1 x 1 convolution.
pub(super) fn pointwise(vs: &nn::Path<'_>, ins: i64, outs: i64) -> nn::Conv2D {
    conv(vs, ins, outs, 1, 1)
}

/// `x + conv1x1(relu(conv3x3(relu(x))))`.
#[derive(Debug)]
struct Residual {
    wide: nn::Conv2D,
    narrow: nn::Conv2D,
}

/// Residual blocks and a rectifier.
#[derive(Debug)]
struct Stack(Vec<Residual>);

impl Stack {
    fn new(vs: &nn::Path<'_>, config: &VqVaeConfig) -> Self {
        let block = |index| {
            let vs = vs / index;
            Residual {
                wide: conv(&(&vs / "wide"), config.channels, config.residual_channels, 3, 1),
                narrow: conv(&(&vs / "narrow"), config.residual_channels, config.channels, 1, 1),
            }
        };
        Self((0..config.residual_blocks).map(block).collect())
    }

    fn forward(&self, xs: Tensor) -> Tensor {
        let block = |xs: Tensor, block: &Residual| {
            let inner = block.narrow.forward(&block.wide.forward(&xs.relu()).relu());
            xs + inner
        };
        self.0.iter().fold(xs, block).relu()
    }
}

/// `[B, ins, H, W]` to `[B, M, H / factor, W / factor]`: convolutions of 4 x 4 taps and stride 2, one of 3 x 3, residual
/// blocks.
#[derive(Debug)]
pub(super) struct Encoder {
    halvings: Vec<nn::Conv2D>,
    last: nn::Conv2D,
    stack: Stack,
}

impl Encoder {
    pub(super) fn new(vs: &nn::Path<'_>, ins: i64, factor: i64, config: &VqVaeConfig) -> Self {
        let widths = widths(factor, config.channels / 2, config.channels);
        let width = |index: usize| if index == 0 { ins } else { widths[index - 1] };
        let halving = |(index, &outs): (usize, &i64)| {
            conv(&(vs / "halvings" / index as i64), width(index), outs, 4, 2)
        };
        Self {
            halvings: widths.iter().enumerate().map(halving).collect(),
            last: conv(&(vs / "last"), width(widths.len()), config.channels, 3, 1),
            stack: Stack::new(&(vs / "stack"), config),
        }
    }

    pub(super) fn forward(&self, xs: &Tensor) -> Tensor {
        let halved = self.halvings.iter().fold(xs.shallow_clone(), |xs, it| it.forward(&xs).relu());
        self.stack.forward(self.last.forward(&halved))
    }
}

/// `[B, ins, H, W]` to `[B, outs, H factor, W factor]`: the mirror of [`Encoder`].
#[derive(Debug)]
pub(super) struct Decoder {
    first: nn::Conv2D,
    stack: Stack,
    doublings: Doublings,
}

impl Decoder {
    pub(super) fn new(
        vs: &nn::Path<'_>,
        ins: i64,
        outs: i64,
        factor: i64,
        config: &VqVaeConfig,
    ) -> Self {
        Self {
            first: conv(&(vs / "first"), ins, config.channels, 3, 1),
            stack: Stack::new(&(vs / "stack"), config),
            doublings: Doublings::new(
                &(vs / "doublings"),
                [config.channels, config.channels / 2, outs],
                factor,
            ),
        }
    }

    pub(super) fn forward(&self, xs: &Tensor) -> Tensor {
        self.doublings.forward(&self.stack.forward(self.first.forward(xs)))
    }
}

/// Transposed convolutions that make rows and columns `factor` times as many, with rectifiers between them.
#[derive(Debug)]
pub(super) struct Doublings(Vec<nn::ConvTranspose2D>);

impl Doublings {
    /// From `ins` by `inner` to `outs` channels; a factor of 1 leaves everything as it is.
    pub(super) fn new(vs: &nn::Path<'_>, [ins, inner, outs]: [i64; 3], factor: i64) -> Self {
        let count = factor.ilog2() as usize;
        let width = |index: usize| match index {
            0 => ins,
            index if index == count => outs,
            _ => inner,
        };
        let one = |index: usize| double(&(vs / index as i64), width(index), width(index + 1));
        Self((0..count).map(one).collect())
    }

    pub(super) fn forward(&self, xs: &Tensor) -> Tensor {
        let step = |xs: Tensor, (index, it): (usize, &nn::ConvTranspose2D)| {
            it.forward(&if index == 0 { xs } else { xs.relu() })
        };
        self.0.iter().enumerate().fold(xs.shallow_clone(), step)
    }
}

/// Channels after each halving by two: `first`, then `rest`.
fn widths(factor: i64, first: i64, rest: i64) -> Vec<i64> {
    (0..factor.ilog2()).map(|index| if index == 0 { first } else { rest }).collect()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::config::preset;

    /// The first rectifier of a branch must not reach the path beside it.
    #[test]
    fn a_residual_branch_leaves_its_input_as_it_was() {
        tch::manual_seed(2);
        let vs = nn::VarStore::new(Device::Cpu);
        let config = preset("demo").expect("listed").model;
        let stack = Stack::new(&vs.root(), &config);
        let xs = Tensor::randn([2, config.channels, 4, 4], (Kind::Float, Device::Cpu));
        let before = xs.copy();
        let found = stack.forward(xs.shallow_clone());
        assert_eq!(xs, before);
        let mut wanted = before;
        for Residual { wide, narrow } in &stack.0 {
            let inner = narrow.forward(&wide.forward(&wanted.clamp_min(0.)).clamp_min(0.));
            wanted += inner;
        }
        assert_eq!(found, wanted.clamp_min(0.));
    }
}
