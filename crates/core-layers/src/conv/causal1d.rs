//! One-dimensional convolutions over what came earlier.
//! Letters: B batch, I channels in, O channels out, T positions in time, K taps, d dilation.

use tch::{Tensor, nn, nn::Module};

use crate::{
    ConfigError,
    kernels::ffi::{self, Summand},
};

/// Shape of a [`CausalConv1d`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CausalConv1dConfig {
    /// Taps K.
    pub kernel_size: i64,
    /// Positions between two taps.
    pub dilation: i64,
    /// Whether the newest tap reads the position before the output's own: the first layer of a network that predicts
    /// what it reads. Only without dilation.
    pub strict: bool,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether all weights start at zero, so that the layer's output is zero before training.
    pub zero: bool,
}

impl CausalConv1dConfig {
    /// A layer with a bias whose newest tap reads the output's own position.
    pub const fn new(kernel_size: i64, dilation: i64) -> Self {
        Self { kernel_size, dilation, strict: false, bias: true, zero: false }
    }

    /// How many positions before the output's own tap k reads.
    pub const fn delay(&self, tap: i64) -> i64 {
        (self.kernel_size - 1 - tap) * self.dilation + self.strict as i64
    }
}

/// Causal dilated convolution (van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016, section 2.1,
/// <https://arxiv.org/abs/1609.03499>).
///
/// `y[o, t] = b[o] + sum_{i, k} w[o, i, k] x[i, t - (K - 1 - k) d - s]` with zeros before the start, and s = 1 for a
/// strict layer, otherwise 0. Weights have the published shape `[O, I, K]`.
///
/// ```
/// use core_layers::conv::{CausalConv1d, CausalConv1dConfig};
/// use tch::{Device, Kind, Tensor, nn, nn::Module};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let conv = CausalConv1d::new(&vs.root(), 1, 8, CausalConv1dConfig::new(2, 4))?;
/// assert_eq!(conv.forward(&Tensor::zeros([3, 1, 10], (Kind::Float, Device::Cpu))).size(), [3, 8, 10]);
/// # Ok::<(), core_layers::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct CausalConv1d {
    ws: Tensor,         // [O, I, K]
    bs: Option<Tensor>, // [O]
    config: CausalConv1dConfig,
}

impl CausalConv1d {
    /// Creates `weight`, uniform in `+- 1 / sqrt(I K)`, and `bias`, zero, under `vs`.
    ///
    /// # Errors
    /// [`ConfigError`] for a kernel or dilation below 1, or a strict layer with dilation.
    pub fn new(
        vs: &nn::Path<'_>,
        in_channels: i64,
        out_channels: i64,
        config: CausalConv1dConfig,
    ) -> Result<Self, ConfigError> {
        ConfigError::at_least_one("kernel_size", config.kernel_size)?;
        ConfigError::at_least_one("dilation", config.dilation)?;
        let dilation_fits = !config.strict || config.dilation == 1;
        ConfigError::ensure(dilation_fits, "dilation", config.dilation, "1 in a strict layer")?;
        let bound =
            if config.zero { 0. } else { 1. / ((in_channels * config.kernel_size) as f64).sqrt() };
        let start = nn::Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            ws: vs.var("weight", &[out_channels, in_channels, config.kernel_size], start),
            bs: config.bias.then(|| vs.zeros("bias", &[out_channels])),
            config,
        })
    }

    /// The weights `[O, I, K]`.
    pub fn weight(&self) -> &Tensor {
        &self.ws
    }

    /// The bias `[O]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bs.as_ref()
    }

    /// Its shape.
    pub fn config(&self) -> CausalConv1dConfig {
        self.config
    }

    /// `self(xs) + other(ys)`, on the CPU as one matrix product.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn sum(&self, xs: &Tensor, other: &Self, ys: &Tensor) -> Tensor {
        let (xs, ys) = (xs.unsqueeze(2), ys.unsqueeze(2));
        if !ffi::takes(&xs) || !ffi::takes(&ys) {
            return self.plain(&xs.squeeze_dim(2)) + other.plain(&ys.squeeze_dim(2));
        }
        let bias = match &other.bs {
            Some(more) => self.start() + more,
            None => self.start(),
        };
        ffi::conv_sum(&[self.summand(&xs), other.summand(&ys)], &bias)
            .unwrap_or_else(|error| panic!("a sum of causal convolutions: {error}"))
            .squeeze_dim(2)
    }

    /// The definition; `forward` does the same as a matrix product where it can.
    fn plain(&self, xs: &Tensor) -> Tensor {
        let time = xs.size()[2];
        let before = self.config.delay(0);
        xs.constant_pad_nd([before, 0])
            .conv1d(&self.ws, self.bs.as_ref(), 1, 0, self.config.dilation, 1)
            .narrow(2, 0, time) // [B, O, T]; a strict layer has one position more
    }

    fn start(&self) -> Tensor {
        let zeros = || Tensor::zeros([self.ws.size()[0]], (self.ws.kind(), self.ws.device()));
        self.bs.as_ref().map_or_else(zeros, Tensor::shallow_clone)
    }

    fn summand<'a>(&self, xs: &'a Tensor) -> Summand<'a> {
        let CausalConv1dConfig { kernel_size, dilation, strict, .. } = self.config;
        let centre = [0, kernel_size - 1 + i64::from(strict)];
        Summand { xs, ws: self.ws.unsqueeze(2), centre, dilation }
    }
}

impl Module for CausalConv1d {
    /// # Shape
    /// `[B, I, T]` to `[B, O, T]`.
    fn forward(&self, xs: &Tensor) -> Tensor {
        let row = xs.unsqueeze(2); // an image of one row
        if !ffi::takes(&row) {
            return self.plain(xs);
        }
        ffi::conv_sum(&[self.summand(&row)], &self.start())
            .unwrap_or_else(|error| panic!("a causal convolution: {error}"))
            .squeeze_dim(2)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, IndexOp, Kind};

    use super::*;

    const SHAPES: [(i64, i64, bool); 6] =
        [(1, 1, false), (2, 1, false), (2, 4, false), (3, 5, false), (1, 1, true), (4, 1, true)];

    fn random(sizes: &[i64]) -> Tensor {
        Tensor::randn(sizes, (Kind::Float, Device::Cpu))
    }

    fn conv(kernel_size: i64, dilation: i64, strict: bool) -> (nn::VarStore, CausalConv1d) {
        let vs = nn::VarStore::new(Device::Cpu);
        let config =
            CausalConv1dConfig { strict, ..CausalConv1dConfig::new(kernel_size, dilation) };
        let conv = CausalConv1d::new(&vs.root(), 3, 5, config).unwrap();
        (vs, conv)
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn it_is_the_naive_nested_loop() {
        for (kernel_size, dilation, strict) in SHAPES {
            let (_vs, conv) = conv(kernel_size, dilation, strict);
            let xs = random(&[2, 3, 17]);
            let ys = conv.forward(&xs);
            for (b, o, t) in [(0, 0, 0), (0, 4, 1), (1, 2, 8), (1, 3, 16)] {
                let mut sum = 0.;
                for k in 0..kernel_size {
                    let from = t - conv.config().delay(k);
                    for i in 0..3 {
                        if from >= 0 {
                            sum += conv.weight().double_value(&[o, i, k])
                                * xs.double_value(&[b, i, from]);
                        }
                    }
                }
                assert!(
                    (ys.double_value(&[b, o, t]) - sum).abs() < 1e-5,
                    "{kernel_size} {dilation} {strict}"
                );
            }
        }
    }

    #[test]
    fn the_matrix_product_is_the_definition_in_values_and_gradients() {
        for (kernel_size, dilation, strict) in SHAPES {
            let (vs, conv) = conv(kernel_size, dilation, strict);
            let other =
                CausalConv1d::new(&(vs.root() / "other"), 3, 5, CausalConv1dConfig::new(1, 1))
                    .unwrap();
            let xs = random(&[2, 3, 13]).set_requires_grad(true);
            let coefficients = random(&[2, 5, 13]);
            let parts = [conv.weight(), conv.bias().unwrap(), other.weight(), &xs];
            let all = |ys: &Tensor| {
                let loss = (ys * &coefficients).sum(Kind::Float);
                let mut all = Tensor::run_backward(&[loss], &parts, false, false);
                all.push(ys.detach());
                all
            };
            let wanted = all(&(conv.plain(&xs) + other.plain(&xs)));
            for (found, wanted) in all(&conv.sum(&xs, &other, &xs)).iter().zip(&wanted) {
                assert!(difference(found, wanted) < 1e-4, "{kernel_size} {dilation} {strict}");
            }
        }
    }

    #[test]
    fn an_identity_kernel_shifts_nothing_and_a_strict_one_by_one() {
        for (strict, shift) in [(false, 0), (true, 1)] {
            let (_vs, conv) = conv(1, 1, strict);
            let identity = Tensor::eye_m(5, 3, (Kind::Float, Device::Cpu)).unsqueeze(-1);
            tch::no_grad(|| conv.weight().shallow_clone().copy_(&identity));
            let xs = Tensor::arange(11, (Kind::Float, Device::Cpu)).expand([1, 3, 11], false);
            let ys = conv.forward(&xs);
            assert_eq!(difference(&ys.i((.., ..3, shift..)), &xs.i((.., .., ..11 - shift))), 0.);
            assert!(shift == 0 || ys.i((.., .., 0)).abs().max().double_value(&[]) == 0.);
        }
    }

    #[test]
    fn a_layer_that_would_see_itself_is_refused() {
        let vs = nn::VarStore::new(Device::Cpu);
        let config = CausalConv1dConfig { strict: true, ..CausalConv1dConfig::new(2, 2) };
        let error = CausalConv1d::new(&vs.root(), 1, 1, config).unwrap_err().to_string();
        assert_eq!(error, "dilation is 2, but must be 1 in a strict layer");
    }
}
