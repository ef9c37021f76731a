//! `csrc/cuda/rope.cu`: rotary positions on a GPU. Letters: B examples, T positions, N heads, E width of a head, M rows of
//! the tables.
//!
//! `y_i = x_i cos - x_j sin` and `y_j = x_j cos + x_i sin` for `j = i + E/2`: x and y `[B, T, N, E]`, cosines and sines
//! `[M, E/2]` in f32, with M either T or B T.
//!
//! One pass reads and writes B T N E numbers, and reads E floats of the tables for every head that is turned, M E of them
//! different, the others from caches; 7 operations a pair, so memory should bind. Not run on a GPU. Heads that are not turned
//! are copied: whoever made the projection keeps it. The gradient is the same pass, with the opposite angles.

use tch::{Kind, Tensor};

use super::{Arg, Element, Gpu, ROPE, Shape, element};
use crate::kernels::{ffi::TorchError, gradient::with_gradient};

/// Turns the first `turned` heads of every position of `xs` by cosines and sines `[M, E/2]`, f32: M is T, or B T where rows
/// have positions of their own.
///
/// # Errors
/// When shapes, kinds or devices do not fit, or the kernel cannot run.
///
/// # Shape
/// `[B, T, N, E]` to the same.
pub(crate) fn turn(
    gpu: &'static dyn Gpu,
    xs: &Tensor,
    [cos, sin]: [&Tensor; 2],
    turned: i64,
) -> Result<Tensor, TorchError> {
    let element = element(xs)?;
    let (size, table) = (xs.size(), cos.size());
    let fits = size.len() == 4
        && size[3] % 2 == 0
        && (0..=size[2]).contains(&turned)
        && table.len() == 2
        && table == sin.size()
        && table[1] == size[3] / 2
        && (table[0] == size[1] || table[0] == size[0] * size[1])
        && [cos, sin].iter().all(|it| it.kind() == Kind::Float && it.device() == xs.device());
    if !fits {
        return Err(TorchError(format!("no turn of {turned} heads of {xs:?} by {cos:?}")));
    }
    let turning = Turning { gpu, element, heads: size[2], turned, half: table[1] };
    let (flat, cos, sin) = tch::no_grad(|| (xs.contiguous(), cos.contiguous(), sin.contiguous()));
    let ys = tch::no_grad(|| turning.by(1., &flat, &cos, &sin))?;
    let backward = move |saved: &[Tensor], grads: &[Tensor]| {
        let dys = grads[0].to_kind(element.kind()).contiguous();
        Ok(vec![Some(turning.by(-1., &dys, &saved[0], &saved[1])?)])
    };
    let [ys] = with_gradient(&[xs], &[&cos, &sin], [ys], backward)?;
    Ok(ys)
}

/// What a turn and its gradient share.
#[derive(Debug, Clone, Copy)]
struct Turning {
    gpu: &'static dyn Gpu,
    element: Element,
    heads: i64,
    turned: i64,
    half: i64, // E/2
}

impl Turning {
    /// By the angles of the tables, or with `sign` -1 by the opposite ones; shapes were checked, and numbers lie in order.
    fn by(self, sign: f32, xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor, TorchError> {
        let ys = Tensor::empty(xs.size(), (xs.kind(), xs.device()));
        let rows: i64 = xs.size()[..3].iter().product();
        let count = rows * ((self.half + 3) / 4);
        if count > 0 {
            let arguments = [
                Arg::Tensor(xs),
                Arg::Tensor(cos),
                Arg::Tensor(sin),
                Arg::Tensor(&ys),
                Arg::Int(self.heads),
                Arg::Int(self.turned),
                Arg::Int(self.half),
                Arg::Int(cos.size()[0]),
                Arg::Int(count),
                Arg::Float(sign),
            ];
            // SAFETY: the arguments of `rope`: `rows` heads of E numbers in xs and ys, M rows of E/2 in the tables.
            unsafe {
                let shape = Shape::of_numbers(count);
                self.gpu.launch(&ROPE, self.element, "rope", shape, &arguments)?;
            }
        }
        Ok(ys)
    }
}
