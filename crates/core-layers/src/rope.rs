//! Rotary position embedding (Su et al., "RoFormer", 2021, <https://arxiv.org/abs/2104.09864>).
//! Letters: B examples, H heads, T positions, E width of a head.

use tch::{Device, Kind, Tensor};

use crate::kernels::cuda;

/// Turns pairs of a head's channels by angles proportional to the position.
///
/// Channel i is paired with channel `i + E/2` ("`rotate_half`"): at position p, with `a = p frequency[i]`,
/// `y_i = x_i cos a - x_{i + E/2} sin a` and `y_{i + E/2} = x_{i + E/2} cos a + x_i sin a`. So the product of a turned
/// query and a turned key depends on the distance of their positions only.
#[derive(Debug)]
pub struct Rotations {
    frequencies: Tensor, // [E / 2], f64
}

impl Rotations {
    /// Those of the given frequencies, radians a position, one a pair.
    pub fn new(frequencies: &[f64], device: Device) -> Self {
        Self { frequencies: Tensor::from_slice(frequencies).to_device(device) }
    }

    /// The angles of positions `[T]`, or of a row's own ones `[B, T]`; computed in f64.
    pub fn at(&self, positions: &Tensor) -> Turn {
        let angles = positions.to_kind(Kind::Double).unsqueeze(-1) * &self.frequencies; // [.., T, E/2]
        let angles = if angles.dim() == 3 { angles.unsqueeze(1) } else { angles }; // [B, 1, T, E/2]
        Turn { cos: angles.cos().to_kind(Kind::Float), sin: angles.sin().to_kind(Kind::Float) }
    }
}

/// Cosines and sines of some positions.
#[derive(Debug)]
pub struct Turn {
    cos: Tensor, // [T, E/2] or [B, 1, T, E/2]
    sin: Tensor,
}

impl Turn {
    /// Cosines and sines `[T, E/2]`, where all rows share them.
    pub(crate) fn tables(&self) -> Option<[&Tensor; 2]> {
        (self.cos.dim() == 2).then_some([&self.cos, &self.sin])
    }

    /// Cosines and sines, f32, E/2 of each position.
    pub(crate) fn both(&self) -> [&Tensor; 2] {
        [&self.cos, &self.sin]
    }

    /// Turns queries or keys; in f32 at least, and back to their kind.
    ///
    /// # Shape
    /// `[B, H, T, E]` to the same.
    pub fn forward(&self, xs: &Tensor) -> Tensor {
        if let [_, heads, _, _] = xs.size()[..]
            && let Some(ys) = self.of_first(&xs.transpose(1, 2), heads)
        {
            return ys.transpose(1, 2);
        }
        self.plain(xs)
    }

    /// Turns the first `turned` heads of each position and keeps the others, in one pass; none where no GPU does it.
    ///
    /// # Shape
    /// `[B, T, N, E]` to the same.
    pub(crate) fn of_first(&self, xs: &Tensor, turned: i64) -> Option<Tensor> {
        let gpu = cuda::of(xs.device()).filter(|_| cuda::Element::of(xs.kind()).is_some())?;
        let half = *self.cos.size().last()?;
        let tables = [&self.cos, &self.sin].map(|it| it.reshape([-1, half]));
        let ys = cuda::rope::turn(gpu, xs, tables.each_ref(), turned);
        Some(ys.unwrap_or_else(|error| panic!("a turn: {error}")))
    }

    /// The definition of [`Turn::forward`].
    fn plain(&self, xs: &Tensor) -> Tensor {
        let halves = xs.chunk(2, -1);
        let turned = [
            &halves[0] * &self.cos - &halves[1] * &self.sin,
            &halves[1] * &self.cos + &halves[0] * &self.sin,
        ];
        Tensor::cat(&turned, -1).to_kind(xs.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: i64 = 8;

    fn rotations() -> Rotations {
        Rotations::new(&[1., 0.3, 0.05, 0.001], Device::Cpu)
    }

    fn turned(xs: &Tensor, position: i64) -> Tensor {
        rotations().at(&Tensor::from_slice(&[position])).forward(xs)
    }

    fn random() -> Tensor {
        Tensor::randn([2, 3, 1, HEAD], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn nothing_turns_at_position_zero() {
        let xs = random();
        assert_eq!(turned(&xs, 0), xs);
        assert_ne!(turned(&xs, 1), xs);
    }

    #[test]
    fn products_depend_on_the_distance_only() {
        let (qs, ks) = (random(), random());
        let score =
            |i, j| (turned(&qs, i) * turned(&ks, j)).sum_dim_intlist(-1, false, Kind::Float);
        for (i, j) in [(3, 1), (40, 7), (900, 899)] {
            let shifted = score(i + 101, j + 101);
            assert!((score(i, j) - shifted).abs().max().double_value(&[]) < 1e-4, "{i}, {j}");
        }
        assert!((score(3, 1) - score(3, 2)).abs().max().double_value(&[]) > 1e-2);
    }

    #[test]
    fn halves_are_paired_and_turn_together() {
        let xs = Tensor::zeros([1, 1, 1, HEAD], (Kind::Float, Device::Cpu));
        let _ = xs.narrow(3, 1, 1).fill_(1.); // channel 1 goes with channel 5
        let ys = turned(&xs, 2);
        assert!((ys.double_value(&[0, 0, 0, 1]) - 0.6f64.cos()).abs() < 1e-6);
        assert!((ys.double_value(&[0, 0, 0, 5]) - 0.6f64.sin()).abs() < 1e-6);
    }

    #[test]
    fn rows_have_positions_of_their_own() {
        let xs = random();
        let both = rotations().at(&Tensor::from_slice(&[5i64, 9]).view([2, 1])).forward(&xs);
        assert_eq!(both.get(0), turned(&xs, 5).get(0));
        assert_eq!(both.get(1), turned(&xs, 9).get(1));
    }
}
