//! Layers that even out the sizes of their input, over the last axis.
//! Letters: D width.

use tch::{Kind, Tensor, nn, nn::Module};

use crate::kernels::{self, cuda};

/// A layer norm, or a root mean square norm.
#[derive(Debug)]
pub struct Norm {
    ws: Tensor,         // [D]
    bs: Option<Tensor>, // [D]; none in a root mean square norm
    epsilon: f64,
}

impl Norm {
    /// `(x - mean) / sqrt(var + eps) * w + b` (Ba et al., 2016, <https://arxiv.org/abs/1607.06450>).
    pub fn layer(vs: &nn::Path<'_>, d_model: i64, epsilon: f64) -> Self {
        Self { ws: vs.ones("weight", &[d_model]), bs: Some(vs.zeros("bias", &[d_model])), epsilon }
    }

    /// `x / sqrt(mean(x^2) + eps) * w` (Zhang and Sennrich, 2019, <https://arxiv.org/abs/1910.07467>).
    pub fn root_mean_square(vs: &nn::Path<'_>, d_model: i64, epsilon: f64) -> Self {
        Self { ws: vs.ones("weight", &[d_model]), bs: None, epsilon }
    }

    /// The norm of given weights, without biases a root mean square norm.
    #[cfg(test)]
    pub(crate) fn of(ws: Tensor, bs: Option<Tensor>, epsilon: f64) -> Self {
        Self { ws, bs, epsilon }
    }

    /// Its weights `[D]`.
    pub fn weight(&self) -> &Tensor {
        &self.ws
    }

    /// What stands beside the variance under the root.
    pub(crate) fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Its biases `[D]`; a root mean square norm has none.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bs.as_ref()
    }
}

impl Module for Norm {
    /// # Shape
    /// `[.., D]` to the same.
    ///
    /// Under autocast a kernel's output is bfloat16, as what reads it makes it anyway; libtorch's own operations leave it f32.
    fn forward(&self, xs: &Tensor) -> Tensor {
        let (ws, bs) = (&self.ws, self.bs.as_ref());
        if let Some(gpu) = self.gpu(xs, None) {
            return cuda::norm::norm(gpu, xs, self.affine())
                .unwrap_or_else(|error| panic!("a norm: {error}"));
        }
        if kernels::norm::takes(xs, ws, bs) {
            return kernels::norm::norm(xs, ws, bs, self.epsilon)
                .unwrap_or_else(|error| panic!("a norm: {error}"));
        }
        self.plain(xs)
    }
}

impl Norm {
    /// `xs + residual`, which runs on beside the layers, and its norm, which the next layer reads: one pass on a GPU.
    ///
    /// # Shape
    /// Two of one shape, `[.., D]`, to the same.
    pub fn add(&self, xs: &Tensor, residual: &Tensor) -> (Tensor, Tensor) {
        if let Some(gpu) = self.gpu(xs, Some(residual)) {
            let [sum, normed] = cuda::norm::add(gpu, xs, residual, self.affine())
                .unwrap_or_else(|error| panic!("a sum and its norm: {error}"));
            return (sum, normed);
        }
        let sum = xs + residual;
        let normed = self.forward(&sum);
        (sum, normed)
    }

    fn affine(&self) -> cuda::norm::Affine<'_> {
        cuda::norm::Affine { ws: &self.ws, bs: self.bs.as_ref(), epsilon: self.epsilon }
    }

    /// What runs the kernels, where they take these.
    fn gpu(&self, xs: &Tensor, residual: Option<&Tensor>) -> Option<&'static dyn cuda::Gpu> {
        cuda::of(xs.device()).filter(|_| cuda::norm::takes(xs, residual, self.affine()))
    }

    /// The definition; [`Module::forward`] does the same in one pass where it can.
    fn plain(&self, xs: &Tensor) -> Tensor {
        match &self.bs {
            Some(bs) => {
                xs.layer_norm(self.ws.size(), Some(&self.ws), Some(bs), self.epsilon, false)
            }
            None => root_mean_square(xs, &self.ws, self.epsilon),
        }
    }
}

/// Mean of squares in f32 at least; what it gives has the kind of `xs` before the weights scale it.
fn root_mean_square(xs: &Tensor, ws: &Tensor, epsilon: f64) -> Tensor {
    let kind = if xs.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let wide = xs.to_kind(kind);
    let mean = wide.square().mean_dim([-1i64].as_slice(), true, kind);
    (wide * (mean + epsilon).rsqrt()).to_kind(xs.kind()) * ws
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn norm(of: fn(&nn::Path<'_>, i64, f64) -> Norm) -> Norm {
        let vs = nn::VarStore::new(Device::Cpu);
        let norm = of(&vs.root(), 6, 1e-5);
        tch::no_grad(|| {
            for (_, mut tensor) in vs.variables() {
                let _ = tensor.uniform_(0.5, 1.5);
            }
        });
        norm
    }

    #[test]
    fn a_layer_norm_is_its_formula() {
        let norm = norm(Norm::layer);
        let xs = Tensor::randn([3, 6], (Kind::Float, Device::Cpu)) * 3. + 1.;
        let mean = xs.mean_dim([-1i64].as_slice(), true, Kind::Float);
        let variance = xs.var_dim([-1i64].as_slice(), false, true);
        let wanted = (&xs - mean) / (variance + 1e-5).sqrt() * norm.weight()
            + norm.bias().expect("a layer norm has biases");
        assert!((norm.forward(&xs) - wanted).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn a_root_mean_square_norm_does_not_subtract_the_mean() {
        let norm = norm(Norm::root_mean_square);
        let xs = Tensor::randn([3, 6], (Kind::Float, Device::Cpu)) + 5.;
        let ys = norm.forward(&xs).to_kind(Kind::Double);
        for row in 0..3 {
            let xs: Vec<f64> = (0..6).map(|i| xs.double_value(&[row, i])).collect();
            let scale = (xs.iter().map(|x| x * x).sum::<f64>() / 6. + 1e-5).sqrt();
            for (i, x) in xs.iter().enumerate() {
                let wanted = x / scale * norm.weight().double_value(&[i as i64]);
                assert!((ys.double_value(&[row, i as i64]) - wanted).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn epsilon_stands_inside_the_root() {
        let norm = norm(Norm::root_mean_square);
        let xs = Tensor::full([1, 6], 1e-3, DOUBLE);
        let wanted = 1e-3 / (1e-6f64 + 1e-5).sqrt();
        let ratio = norm.forward(&xs) / norm.weight().to_kind(Kind::Double);
        assert!((ratio - wanted).abs().max().double_value(&[]) < 1e-12);
    }

    #[test]
    fn squares_of_bf16_are_summed_in_f32() {
        let norm = norm(Norm::root_mean_square);
        let xs = Tensor::full([1, 6], 1e30, (Kind::BFloat16, Device::Cpu)); // squares overflow nowhere but in f16
        let ys = norm.forward(&(xs * 1e-12)).to_kind(Kind::Double);
        assert!((ys / norm.weight() - 1.).abs().max().double_value(&[]) < 0.01);
    }

    #[test]
    fn the_fused_norms_are_the_formulas_in_values_and_gradients() {
        for of in [Norm::layer, Norm::root_mean_square] {
            let norm = norm(of);
            let xs = (Tensor::randn([7, 3, 6], (Kind::Float, Device::Cpu)) * 3. + 1.)
                .set_requires_grad(true);
            let coefficients = (Tensor::arange(126, (Kind::Float, Device::Cpu)) * 0.7).sin();
            let all = |ys: &Tensor| {
                let loss = (ys * coefficients.view([7, 3, 6])).sum(Kind::Float);
                let mut inputs = vec![&xs, norm.weight()];
                inputs.extend(norm.bias());
                let mut all = vec![ys.detach()];
                all.extend(Tensor::run_backward(&[loss], &inputs, false, false));
                all
            };
            for (found, wanted) in all(&norm.forward(&xs)).iter().zip(all(&norm.plain(&xs))) {
                let worst = (found - wanted).abs().max().double_value(&[]);
                assert!(worst < 1e-5, "{worst}");
            }
        }
    }

    #[test]
    fn under_autocast_a_norm_gives_what_products_read() {
        let norm = norm(Norm::layer);
        let xs = Tensor::randn([4, 6], (Kind::Float, Device::Cpu));
        let wide = norm.forward(&xs);
        let _autocast = crate::autocast::Precision::Bf16.autocast(Device::Cpu);
        let narrow = norm.forward(&xs);
        assert_eq!(narrow.kind(), Kind::BFloat16);
        assert_eq!(narrow, wide.to_kind(Kind::BFloat16));
    }
}
