//! The gated activation unit.

use tch::Tensor;

use crate::kernels::ffi;

/// `tanh(a) * sigmoid(b)` for the first and the second half of the channels (van den Oord et al., "Conditional Image
/// Generation with PixelCNN Decoders", 2016, equation 2, <https://arxiv.org/abs/1606.05328>).
///
/// # Shape
/// `[B, 2 C, ...]` to `[B, C, ...]`.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// let pre = Tensor::zeros([1, 6, 4, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(core_layers::conv::gate(&pre).size(), [1, 3, 4, 4]);
/// ```
///
/// # Panics
/// When libtorch is out of memory.
pub fn gate(xs: &Tensor) -> Tensor {
    if xs.dim() == 3 {
        return gate(&xs.unsqueeze(2)).squeeze_dim(2); // sound is an image of one row
    }
    if ffi::takes(xs) {
        return ffi::gate(xs).unwrap_or_else(|error| panic!("a gate: {error}"));
    }
    plain_gate(xs)
}

/// The definition; [`gate`] does the same in one pass where it can.
fn plain_gate(xs: &Tensor) -> Tensor {
    let halves = xs.chunk(2, 1);
    halves[0].tanh() * halves[1].sigmoid()
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn the_first_half_is_squashed_and_the_second_opens() {
        let xs = Tensor::from_slice(&[0.3f64, -2., 1.5, 0.2]).reshape([1, 4, 1]);
        let ys = gate(&xs.to_kind(Kind::Double));
        for (channel, (a, b)) in [(0.3, 1.5), (-2., 0.2)].into_iter().enumerate() {
            assert!(
                (ys.double_value(&[0, channel as i64, 0]) - f64::tanh(a) / (1. + f64::exp(-b)))
                    .abs()
                    < 1e-12
            );
        }
    }

    #[test]
    fn the_fused_gate_is_the_formula_in_values_and_gradients() {
        let options = (Kind::Float, tch::Device::Cpu);
        let xs = (Tensor::randn([2, 38, 3, 5], options) * 20.).set_requires_grad(true);
        xs.detach().view(-1).narrow(0, 0, 2).copy_(&Tensor::from_slice(&[1e30f32, -1e30]));
        let coefficients = (Tensor::arange(570, options) * 0.7).sin().reshape([2, 19, 3, 5]);
        let value_and_gradient = |ys: &Tensor| {
            let loss = (ys.to_kind(Kind::Float) * &coefficients).sum(Kind::Float);
            [ys.detach(), Tensor::run_backward(&[loss], &[&xs], false, false).remove(0)]
        };
        let wanted = value_and_gradient(&plain_gate(&xs));
        for (found, wanted) in value_and_gradient(&gate(&xs)).iter().zip(&wanted) {
            assert!((found - wanted).abs().max().double_value(&[]) < 1e-6);
        }
        let wanted =
            value_and_gradient(&plain_gate(&xs.to_kind(Kind::BFloat16).to_kind(Kind::Float)));
        for (found, wanted) in
            value_and_gradient(&gate(&xs.to_kind(Kind::BFloat16))).iter().zip(&wanted)
        {
            assert!((found - wanted).abs().max().double_value(&[]) < 4e-3);
        }
    }
}
