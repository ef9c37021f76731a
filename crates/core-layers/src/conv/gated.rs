//! The gated activation unit.

use tch::Tensor;

use crate::kernels::{cuda, ffi};

/// `tanh(a) * sigmoid(b)` for the first and the second half of the channels of `xs`, to which an example's `condition`, the
/// same at every place, is added first (van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016,
/// equations 2 and 4, <https://arxiv.org/abs/1606.05328>).
///
/// # Shape
/// `[B, 2 C, ...]` and `[B, 2 C]` to `[B, C, ...]`.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// let pre = Tensor::zeros([1, 6, 4, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(core_layers::conv::gate(&pre, None).size(), [1, 3, 4, 4]);
/// ```
///
/// # Panics
/// When libtorch is out of memory.
pub fn gate(xs: &Tensor, condition: Option<&Tensor>) -> Tensor {
    let condition = condition.map(|it| it.to_kind(xs.kind()));
    let condition = condition.as_ref();
    if let Some(gpu) = cuda::of(xs.device()).filter(|_| cuda::Element::of(xs.kind()).is_some()) {
        return cuda::gate::gate(gpu, xs, condition)
            .unwrap_or_else(|error| panic!("a gate: {error}"));
    }
    if xs.dim() == 3 {
        return gate(&xs.unsqueeze(2), condition).squeeze_dim(2); // sound is an image of one row
    }
    if ffi::takes(xs) {
        return ffi::gate(xs, condition).unwrap_or_else(|error| panic!("a gate: {error}"));
    }
    plain_gate(xs, condition)
}

/// The definition; [`gate`] does the same in one pass where it can.
fn plain_gate(xs: &Tensor, condition: Option<&Tensor>) -> Tensor {
    let added = condition.map(|it| {
        let places = vec![1; xs.dim() - 2];
        xs + it.reshape([&it.size()[..], &places].concat())
    });
    let halves = added.as_ref().unwrap_or(xs).chunk(2, 1);
    halves[0].tanh() * halves[1].sigmoid()
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn the_first_half_is_squashed_and_the_second_opens() {
        let xs = Tensor::from_slice(&[0.3f64, -2., 1.5, 0.2]).reshape([1, 4, 1]);
        let ys = gate(&xs.to_kind(Kind::Double), None);
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
        let xs = Tensor::randn([2, 38, 3, 5], options) * 20.;
        xs.view(-1).narrow(0, 0, 2).copy_(&Tensor::from_slice(&[1e30f32, -1e30]));
        let added = Tensor::randn([2, 38], options) * 3.;
        let coefficients = (Tensor::arange(570, options) * 0.7).sin().reshape([2, 19, 3, 5]);
        let run =
            |of: fn(&Tensor, Option<&Tensor>) -> Tensor, xs: &Tensor, added: Option<&Tensor>| {
                let [xs, added] =
                    [Some(xs), added].map(|it| it.map(|it| it.detach().set_requires_grad(true)));
                let xs = xs.expect("there are inputs");
                let ys = of(&xs, added.as_ref());
                let loss = (ys.to_kind(Kind::Float) * &coefficients).sum(Kind::Float);
                let inputs: Vec<&Tensor> = std::iter::once(&xs).chain(&added).collect();
                let mut all = Tensor::run_backward(&[loss], &inputs, false, false);
                all.push(ys.detach());
                all
            };
        for added in [None, Some(&added)] {
            let wanted = run(plain_gate, &xs, added);
            for (found, wanted) in run(gate, &xs, added).iter().zip(&wanted) {
                assert!((found - wanted).abs().max().double_value(&[]) < 2e-6);
            }
            let [half, half_added] =
                [Some(&xs), added].map(|it| it.map(|it| it.to_kind(Kind::BFloat16)));
            let [wide, wide_added] =
                [&half, &half_added].map(|it| it.as_ref().map(|it| it.to_kind(Kind::Float)));
            let wanted = run(plain_gate, wide.as_ref().unwrap(), wide_added.as_ref());
            for (found, wanted) in
                run(gate, half.as_ref().unwrap(), half_added.as_ref()).iter().zip(&wanted)
            {
                let difference = (found - wanted).abs() / (wanted.abs() + 1.);
                assert!(difference.max().double_value(&[]) < 4e-3);
            }
        }
    }
}
