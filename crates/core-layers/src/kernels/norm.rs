//! Norms in one pass over memory: `csrc/cpu/norm.cpp`. Letters: R rows, D width.
//!
//! `y = (x - m) s w + b` with m the mean over D (0 without biases) and `s = 1 / sqrt(mean((x - m)^2) + epsilon)`: x and y
//! `[R, D]`, w and b `[D]`; the gradients stand in the source.
//!
//! The forward pass reads 4 bytes a number and writes 4, or 2 in bfloat16, and 8 bytes a row; the gradient reads 4 and 4 (or
//! 2) and writes 4, and sums the gradients of weights and biases in 16 parts of `8 D` bytes. A row is read two or three
//! times, from the cache but for the first. About 8 operations a number forward and 16 in the gradient: memory should bind.

use std::ffi::{c_double, c_int};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::ffi::{TorchError, check};

unsafe extern "C" {
    fn cl_norm(
        xs: *const C_tensor,
        ws: *const C_tensor,
        bs: *const C_tensor,
        epsilon: c_double,
        out: *mut *mut C_tensor,
    ) -> c_int;
}

/// Whether [`norm`] can take inputs `[.., D]`, weights and biases `[D]`: float32 on the CPU, unless
/// kernels are off.
pub(crate) fn takes(xs: &Tensor, ws: &Tensor, bs: Option<&Tensor>) -> bool {
    let is_float = |it: &Tensor| it.device() == Device::Cpu && it.kind() == Kind::Float;
    let width = xs.size().last().copied().unwrap_or(0);
    let is_vector = |it: &Tensor| is_float(it) && it.is_contiguous() && it.size() == [width];
    super::are_on() && is_float(xs) && width > 0 && is_vector(ws) && bs.is_none_or(is_vector)
}

/// A layer norm over the last axis, or without biases a root mean square norm; in bfloat16 under autocast.
///
/// # Errors
/// When [`takes`] is false, or libtorch refuses.
pub(crate) fn norm(
    xs: &Tensor,
    ws: &Tensor,
    bs: Option<&Tensor>,
    epsilon: f64,
) -> Result<Tensor, TorchError> {
    assert!(takes(xs, ws, bs), "inputs, weights and biases fit");
    let biases = bs.map_or(std::ptr::null(), Tensor::as_ptr);
    let mut out = std::ptr::null_mut();
    // SAFETY: live tensors, or null, whose kinds and shapes were checked; `from_ptr` takes the tensor that the shim made.
    unsafe {
        check(cl_norm(xs.as_ptr(), ws.as_ptr(), biases, epsilon, &raw mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}
