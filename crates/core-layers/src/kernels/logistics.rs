//! Mixtures of discretised logistics in one pass: `csrc/cpu/logistics.cpp`. Letters: P positions, M components, L levels.
//!
//! `log p = log sum_m w_m (sigma(a_m) - sigma(b_m))` with w the softmax of the logits and
//! `a, b = (v +- 1 / (L - 1) - mean_m) e^-log_scale_m` the edges of the level v, scaled to -1..=1; the first level has no lower
//! edge, the last no upper one. Logits, means and log-scales are `[P, M]`, symbols and `log p` `[P]`; the source says how
//! that is computed.
//!
//! The forward pass reads 12 bytes a component and 8 a symbol and writes 4 a position, and 12 a component where a gradient is
//! wanted; the gradient reads 12 bytes a component and writes 12, over what it reads where nobody else does. About 250
//! operations a component forward, of which six exponentials are 140 and a logarithm 30, and 3 backward: arithmetic should
//! bind the forward pass, memory the gradient.

use std::{ffi::c_int, ptr};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::ffi::{TorchError, check};
use crate::likelihood::Logistics;

unsafe extern "C" {
    fn cl_logistics(
        logits: *const C_tensor,
        means: *const C_tensor,
        log_scales: *const C_tensor,
        symbols: *const C_tensor,
        levels: i64,
        out: *mut *mut C_tensor,
    ) -> c_int;
}

/// Most levels whose places single precision tells apart.
const MOST_LEVELS: i64 = 1 << 22;

/// Whether [`log_prob`] can take mixtures and symbols: float32 on the CPU, unless kernels are off.
pub(crate) fn takes(mixtures: &Logistics, symbols: &Tensor) -> bool {
    super::are_on()
        && are_alike(mixtures, symbols)
        && mixtures.means.kind() == Kind::Float
        && symbols.device() == Device::Cpu
}

/// Whether there is a mixture for every int64 symbol, all of its parameters of one shape, kind and device.
pub(super) fn are_alike(mixtures: &Logistics, symbols: &Tensor) -> bool {
    let Logistics { logits, means, log_scales, levels } = mixtures;
    let like = |it: &Tensor| {
        it.size() == means.size() && it.kind() == means.kind() && it.device() == symbols.device()
    };
    let sizes = means.size();
    (2..=MOST_LEVELS).contains(levels)
        && symbols.kind() == Kind::Int64
        && [logits, means, log_scales].into_iter().all(like)
        && sizes
            .split_last()
            .is_some_and(|(&components, rest)| components > 0 && rest == symbols.size())
}

/// `log p` of symbols `[...]` under mixtures of parameters `[..., M]`.
///
/// # Errors
/// When [`takes`] is false, or libtorch refuses.
pub(crate) fn log_prob(mixtures: &Logistics, symbols: &Tensor) -> Result<Tensor, TorchError> {
    if !takes(mixtures, symbols) {
        return Err(TorchError(format!("symbols {symbols:?} of {mixtures:?}")));
    }
    let Logistics { logits, means, log_scales, levels } = mixtures;
    let mut out = ptr::null_mut();
    // SAFETY: live tensors whose kinds and shapes were checked; a symbol is a number, not an index. `from_ptr` takes the
    // tensor that the shim made.
    unsafe {
        check(cl_logistics(
            logits.as_ptr(),
            means.as_ptr(),
            log_scales.as_ptr(),
            symbols.as_ptr(),
            *levels,
            &raw mut out,
        ))?;
        Ok(Tensor::from_ptr(out))
    }
}
