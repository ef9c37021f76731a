//! What stands between the matrices of a feed-forward network.

use tch::Tensor;

use crate::kernels::{cuda, decoder};

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, an approximation of `x Phi(x)` (Hendrycks and Gimpel, 2016,
/// <https://arxiv.org/abs/1606.08415>): GPT-2's.
pub fn gelu_tanh(xs: &Tensor) -> Tensor {
    if let Some(gpu) = gpu(xs) {
        return cuda::activation::gelu(gpu, xs).unwrap_or_else(|error| panic!("gelu: {error}"));
    }
    if decoder::takes_activation(xs) {
        return decoder::gelu(xs).unwrap_or_else(|error| panic!("gelu: {error}"));
    }
    xs.gelu("tanh")
}

/// `silu(gate) * up` (Shazeer, 2020, <https://arxiv.org/abs/2002.05202>).
///
/// # Shape
/// Two of one shape, to the same.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Tensor {
    let is_one_kind = gate.kind() == up.kind();
    if let Some(gpu) = gpu(gate).filter(|_| is_one_kind) {
        return cuda::activation::swiglu(gpu, gate, up)
            .unwrap_or_else(|error| panic!("swiglu: {error}"));
    }
    let alike = is_one_kind && decoder::takes_activation(up);
    if alike && decoder::takes_activation(gate) {
        return decoder::swiglu(gate, up).unwrap_or_else(|error| panic!("swiglu: {error}"));
    }
    gate.silu() * up
}

/// What runs the kernels of activations, where they take `xs`.
fn gpu(xs: &Tensor) -> Option<&'static dyn cuda::Gpu> {
    cuda::of(xs.device()).filter(|_| cuda::Element::of(xs.kind()).is_some())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// Values and gradients of a function of two tensors.
    fn run(of: &dyn Fn(&Tensor, &Tensor) -> Tensor, kind: Kind) -> Vec<Tensor> {
        let options = (Kind::Float, Device::Cpu);
        let place = Tensor::arange(2 * 3 * 37, options).reshape([2, 3, 37]);
        let [a, b] = [(0.7, 5.), (1.3, 2.)]
            .map(|(step, size)| (&place * step).sin() * size)
            .map(|xs| xs.to_kind(kind).set_requires_grad(true));
        a.detach().view(-1).narrow(0, 0, 2).copy_(&Tensor::from_slice(&[1e4f32, -1e4]));
        let ys = of(&a, &b);
        let loss = (ys.to_kind(Kind::Float) * (&place * 0.3).cos()).sum(Kind::Float);
        let unused = b.zeros_like();
        let gradients = Tensor::run_backward(
            &[loss + (&b * &unused).sum(Kind::Float)],
            &[&a, &b],
            false,
            false,
        );
        std::iter::once(ys.detach()).chain(gradients).map(|it| it.to_kind(Kind::Float)).collect()
    }

    fn ensure_near(
        fused: &dyn Fn(&Tensor, &Tensor) -> Tensor,
        plain: &dyn Fn(&Tensor, &Tensor) -> Tensor,
    ) {
        for (kind, tolerance) in [(Kind::Float, 2e-5), (Kind::BFloat16, 8e-3)] {
            let wide =
                |a: &Tensor, b: &Tensor| plain(&a.to_kind(Kind::Float), &b.to_kind(Kind::Float));
            for (found, wanted) in run(fused, kind).iter().zip(run(&wide, kind)) {
                let difference = (found - &wanted).abs() / (wanted.abs() + 1.);
                let worst = difference.max().double_value(&[]);
                assert!(worst < tolerance, "{kind:?}: {worst}");
            }
        }
    }

    #[test]
    fn the_fused_gelu_is_the_formula_in_values_and_gradients() {
        ensure_near(&|a, _| gelu_tanh(a), &|a, _| a.gelu("tanh"));
    }

    #[test]
    fn the_fused_gate_is_the_formula_in_values_and_gradients() {
        ensure_near(&|a, b| swiglu(a, b), &|a, b| a.silu() * b);
    }
}
