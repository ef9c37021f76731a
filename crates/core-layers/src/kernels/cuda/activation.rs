//! `csrc/cuda/activation.cu`: `gelu(x)` by its approximation with tanh, and `silu(gate) * up`, on a GPU, of any shape.
//!
//! `gelu(x) = x sigmoid(2 u)` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`; `swiglu(a, b) = a sigmoid(a) b`.
//!
//! For each number of the output a pass reads 1 number (gelu) or 2 (swiglu) and writes 1; a gradient reads 2 or 3 and writes
//! 1 or 2. That takes 10 or 6 operations a number, and 19 or 12 in the gradient, an exponential and a division among them:
//! memory should bind. Not run on a GPU.

use tch::Tensor;

use super::{ACTIVATION, Arg, Element, Gpu, Shape, element};
use crate::kernels::{ffi::TorchError, gradient::with_gradient};

/// A launch over `count` numbers, four a thread; the arguments are tensors of as many, before the count.
///
/// # Safety
/// The tensors are those of the kernel's declaration, in order and of `element`.
unsafe fn launch(
    gpu: &'static dyn Gpu,
    element: Element,
    name: &str,
    tensors: &[&Tensor],
) -> Result<(), TorchError> {
    let count = tensors[0].numel() as i64;
    if count == 0 {
        return Ok(());
    }
    let mut arguments: Vec<Arg<'_>> = tensors.iter().map(|it| Arg::Tensor(it)).collect();
    arguments.push(Arg::Int(count));
    let shape = Shape::of_numbers((count + 3) / 4);
    // SAFETY: as the caller promises; nothing is touched beyond `count` numbers.
    unsafe { gpu.launch(&ACTIVATION, element, name, shape, &arguments) }
}

/// GELU by its approximation with tanh.
///
/// # Errors
/// When the kind is none of kernels, or the kernel cannot run.
pub(crate) fn gelu(gpu: &'static dyn Gpu, xs: &Tensor) -> Result<Tensor, TorchError> {
    let element = element(xs)?;
    let (flat, ys) = tch::no_grad(|| {
        let flat = xs.contiguous();
        let ys = Tensor::empty(xs.size(), (xs.kind(), xs.device()));
        (flat, ys)
    });
    // SAFETY: the arguments of `gelu`: as many numbers of either.
    unsafe { launch(gpu, element, "gelu", &[&flat, &ys])? };
    let backward = move |saved: &[Tensor], grads: &[Tensor]| {
        let xs = &saved[0];
        let (dys, dxs) = (grads[0].to_kind(xs.kind()).contiguous(), xs.empty_like());
        // SAFETY: the arguments of `gelu_gradient`, all like xs.
        unsafe { launch(gpu, element, "gelu_gradient", &[xs, &dys, &dxs])? };
        Ok(vec![Some(dxs)])
    };
    let [ys] = with_gradient(&[xs], &[&flat], [ys], backward)?;
    Ok(ys)
}

/// `silu(gate) * up`.
///
/// # Errors
/// When shapes, kinds or devices do not fit, or the kernel cannot run.
pub(crate) fn swiglu(
    gpu: &'static dyn Gpu,
    gate: &Tensor,
    up: &Tensor,
) -> Result<Tensor, TorchError> {
    let element = element(gate)?;
    let is_like = |it: &Tensor| (it.size(), it.kind(), it.device());
    if is_like(gate) != is_like(up) {
        return Err(TorchError(format!("no swiglu of {gate:?} and {up:?}")));
    }
    let (gates, ups, ys) = tch::no_grad(|| {
        let ys = Tensor::empty(gate.size(), (gate.kind(), gate.device()));
        (gate.contiguous(), up.contiguous(), ys)
    });
    // SAFETY: the arguments of `swiglu`: as many numbers of each.
    unsafe { launch(gpu, element, "swiglu", &[&gates, &ups, &ys])? };
    let backward = move |saved: &[Tensor], grads: &[Tensor]| {
        let (gates, ups) = (&saved[0], &saved[1]);
        let dys = grads[0].to_kind(gates.kind()).contiguous();
        let [dgates, dups] = [gates.empty_like(), ups.empty_like()];
        // SAFETY: the arguments of `swiglu_gradient`, all like the gates.
        unsafe {
            launch(gpu, element, "swiglu_gradient", &[gates, ups, &dys, &dgates, &dups])?;
        };
        Ok(vec![Some(dgates), Some(dups)])
    };
    let [ys] = with_gradient(&[gate, up], &[&gates, &ups], [ys], backward)?;
    Ok(ys)
}
