//! The gated activation unit.

use tch::Tensor;

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
pub fn gate(xs: &Tensor) -> Tensor {
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
}
