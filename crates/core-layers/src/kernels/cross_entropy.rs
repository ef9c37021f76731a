//! Cross-entropy in one pass over the logits: `csrc/cpu/cross_entropy.cpp`. Letters: P positions, L levels.
//!
//! `y = x[symbol] - log Z` with `log Z = log sum_l e^x[l]`: logits x `[P, L]`, symbols, y and log Z `[P]`. With p the softmax,
//! `dx = (dz - dy) p`, and dy more at the symbol.
//!
//! The forward pass reads 4 bytes a logit, or 2 in bfloat16, and 8 a symbol, and writes 8 bytes a position; a row is read
//! twice, the second time from the cache where it fits. The gradient reads as much, and 12 bytes a position more, and writes
//! as much as it reads of logits, over them where nobody else reads them. About 28 operations a logit and pass, of which an
//! exponential is 23: arithmetic should bind where vectors are narrow, memory where they are wide and many cores share it.

use std::{ffi::c_int, ptr};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::ffi::{TorchError, check, takes_kind};

unsafe extern "C" {
    fn cl_cross_entropy(
        logits: *const C_tensor,
        symbols: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> c_int;
}

/// `log softmax(logits)[symbol]` and `log Z`, in float32, of float32 or bfloat16 logits `[..., L]` and int64 symbols `[...]`.
///
/// # Errors
/// When kinds, devices or shapes do not fit, a symbol is neither one of the L levels nor ignored, or libtorch refuses.
pub(crate) fn cross_entropy(logits: &Tensor, symbols: &Tensor) -> Result<[Tensor; 2], TorchError> {
    if !takes_kind(logits) || symbols.device() != Device::Cpu || !are_symbols_of(logits, symbols) {
        return Err(TorchError(format!("symbols {symbols:?} of logits {logits:?}")));
    }
    let mut out = [ptr::null_mut(); 2];
    // SAFETY: live tensors whose kinds and shapes were checked; symbols are checked before they index. `from_ptr` takes
    // the two tensors that the shim made.
    unsafe {
        check(cl_cross_entropy(logits.as_ptr(), symbols.as_ptr(), out.as_mut_ptr()))?;
        Ok(out.map(|it| Tensor::from_ptr(it)))
    }
}

/// Whether there is an int64 symbol for every position of the logits `[..., L]`.
pub(super) fn are_symbols_of(logits: &Tensor, symbols: &Tensor) -> bool {
    let (sizes, positions) = (logits.size(), symbols.size());
    symbols.kind() == Kind::Int64
        && sizes.split_last().is_some_and(|(&levels, rest)| levels > 0 && rest == positions)
}
