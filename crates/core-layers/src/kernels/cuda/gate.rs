//! `csrc/cuda/gate.cu`: the gated activation unit on a GPU. Letters: N examples, C channels, S places.
//!
//! `y = tanh(a) sigmoid(b)` of the halves a and b of `x + condition`: x `[N, 2 C, S]`, condition `[N, 2 C]` or none, y
//! `[N, C, S]`, all of T.
//!
//! One pass reads 2 C S numbers an example, and 2 C of the condition, and writes C S; its gradient reads 3 C S and 2 C and
//! writes 2 C S and 2 C. That takes 8 operations a number of y, and 17 in the gradient, a tanh and an exponential among them,
//! so memory should bind, if the three divisions of 64-bit indices that the forward pass does for each number do not. Not run
//! on a GPU.

use tch::Tensor;

use super::{Arg, GATE, Gpu, Shape, element};
use crate::kernels::{ffi::TorchError, gradient::with_gradient};

/// `tanh(a) sigmoid(b)` of the halves of `xs + condition`, for `xs` `[N, 2 C, ..]` and a condition `[N, 2 C]`.
///
/// # Errors
/// When shapes, kinds or devices do not fit, or the kernel cannot run.
///
/// # Shape
/// `[N, C, ..]`.
pub(crate) fn gate(
    gpu: &'static dyn Gpu,
    xs: &Tensor,
    condition: Option<&Tensor>,
) -> Result<Tensor, TorchError> {
    let element = element(xs)?;
    let mut size = xs.size();
    let fits = size.len() >= 2
        && size[1] % 2 == 0
        && condition.is_none_or(|it| {
            it.size() == size[..2] && it.kind() == xs.kind() && it.device() == xs.device()
        });
    if !fits {
        return Err(TorchError(format!("no gate of {xs:?} and {condition:?}")));
    }
    size[1] /= 2;
    let (channels, places) = (size[1], size[2..].iter().product::<i64>());
    let (flat, added, ys) = tch::no_grad(|| {
        let added = condition.map(Tensor::contiguous);
        (xs.contiguous(), added, Tensor::empty(&size, (xs.kind(), xs.device())))
    });
    let count = ys.numel() as i64;
    if count > 0 {
        let arguments = [
            Arg::Tensor(&flat),
            Arg::maybe(added.as_ref()),
            Arg::Tensor(&ys),
            Arg::Int(channels),
            Arg::Int(places),
            Arg::Int(count),
        ];
        // SAFETY: the arguments of `gate`; N C S numbers of ys, twice as many of xs and 2 N C of the condition, in order.
        unsafe {
            gpu.launch(&GATE, element, "gate", Shape::of_numbers(count), &arguments)?;
        }
    }
    let backward = move |saved: &[Tensor], grads: &[Tensor]| {
        let (xs, added) = (&saved[0], saved.get(1));
        let (dys, dxs) = (grads[0].to_kind(xs.kind()).contiguous(), xs.empty_like());
        let dcondition = added.map(Tensor::zeros_like);
        if count > 0 {
            let rows = count / places;
            let arguments = [
                Arg::Tensor(xs),
                Arg::maybe(added),
                Arg::Tensor(&dys),
                Arg::Tensor(&dxs),
                Arg::maybe(dcondition.as_ref()),
                Arg::Int(channels),
                Arg::Int(places),
                Arg::Int(rows),
            ];
            // SAFETY: as above, with dys like ys, dxs like xs and dcondition like the condition; N C rows.
            unsafe {
                gpu.launch(&GATE, element, "gate_gradient", Shape::of_rows(rows), &arguments)?;
            };
        }
        Ok(std::iter::once(Some(dxs)).chain(dcondition.map(Some)).collect())
    };
    let inputs: Vec<&Tensor> = std::iter::once(xs).chain(condition).collect();
    let saved: Vec<&Tensor> = std::iter::once(&flat).chain(added.as_ref()).collect();
    let [ys] = with_gradient(&inputs, &saved, [ys], backward)?;
    Ok(ys)
}
