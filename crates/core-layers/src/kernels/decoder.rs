//! What a decoder's layers do between matrix products: `csrc/cpu/{attention,feed_forward}.cpp` behind safe functions.
//! Letters: B examples, T positions, H query heads, K key and value heads, E width of a head.
//!
//! Attention: `y_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(E)) v_j` of a joint projection `[B, T, (H + 2 K) E]` in
//! bfloat16, to `[B, T, H E]`; `csrc/cpu/attention_heads.h` has the gradients. It reads `2 (H + 2 K) E` bytes a position and
//! writes `2 H E + 4 H`; the gradient reads `2 (H + 2 K) E + 2 H E + 4 H` and writes `2 (H + 2 K) E`. A key head's keys and
//! values are packed once, `4 T E` bytes, and read for every 48 queries from the cache where they fit; the gradient packs
//! `6 T E` bytes and keeps `8 T E` of sums. Two products forward are `2 E T^2` operations a head and example, since half of all
//! pairs are seen, and five backward are `5 E T^2`; pairs are taken in blocks of 48 queries and 16 positions, so somewhat
//! more are computed. A pair takes an exponential more, about 30 operations a pass. Arithmetic should bind.
//!
//! Activations: `gelu(x) = x sigmoid(2 u)` with `u = sqrt(2 / pi) (x + 0.044715 x^3)` and `swiglu(a, b) = a sigmoid(a) b`, of
//! any shape. For each number of the output, of 4 bytes, or 2 in bfloat16, gelu reads 1 and writes 1 and its gradient reads 2
//! and writes 1; swiglu reads 2 and writes 1 and its gradient reads 3 and writes 2. That takes 34 and 43, or 30 and 36,
//! operations, of which an exponential is 23: arithmetic should bind where vectors are narrow, memory where they are wide and
//! many cores share it.

use std::{ffi::c_int, ptr};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::ffi::{TorchError, check, takes_kind};

unsafe extern "C" {
    fn cl_attention_is_there() -> c_int;
    fn cl_attention(
        joint: *const C_tensor,
        cos: *const C_tensor,
        sin: *const C_tensor,
        heads: i64,
        kv_heads: i64,
        out: *mut *mut C_tensor,
    ) -> c_int;
    fn cl_gelu(xs: *const C_tensor, out: *mut *mut C_tensor) -> c_int;
    fn cl_swiglu(gate: *const C_tensor, up: *const C_tensor, out: *mut *mut C_tensor) -> c_int;
}

/// Whether [`attention`] can take a joint projection `[B, T, (H + 2 K) E]`: bfloat16, on a CPU that multiplies pairs of
/// it, heads as wide as a multiple of 16, unless kernels are off.
pub(crate) fn takes_attention(joint: &Tensor, heads: [i64; 2]) -> bool {
    let all = heads[0] + 2 * heads[1];
    super::are_on()
        && joint.device() == Device::Cpu
        && joint.kind() == Kind::BFloat16
        && joint.dim() == 3
        && joint.numel() > 0
        && heads[1] >= 1
        && heads[0] >= 1
        && heads[0] % heads[1] == 0
        && joint.size()[2] % (16 * all) == 0
        // SAFETY: no arguments; it reads what the processor says of itself.
        && unsafe { cl_attention_is_there() } != 0
}

/// Causal self-attention of a joint projection, its queries and keys turned by cosines and sines `[T, E/2]`.
///
/// # Errors
/// When [`takes_attention`] is false, the tables do not fit, or libtorch refuses.
///
/// # Shape
/// `[B, T, (H + 2 K) E]` to `[B, T, H E]`.
pub(crate) fn attention(
    joint: &Tensor,
    turn: Option<[&Tensor; 2]>,
    heads: [i64; 2],
) -> Result<Tensor, TorchError> {
    let fits = takes_attention(joint, heads) && {
        let width = joint.size()[2] / (heads[0] + 2 * heads[1]);
        let table = [joint.size()[1], width / 2];
        let alike = |xs: &&Tensor| {
            xs.size() == table && xs.kind() == Kind::Float && xs.device() == Device::Cpu
        };
        turn.iter().flatten().all(alike)
    };
    if !fits {
        return Err(TorchError(format!("no attention of {joint:?} with {heads:?} heads")));
    }
    let none = Tensor::empty([0], (Kind::Float, Device::Cpu));
    let [cos, sin] = turn.unwrap_or([&none; 2]).map(Tensor::as_ptr);
    let mut out = ptr::null_mut();
    // SAFETY: live tensors whose kinds, devices and shapes were checked; tables without numbers say that nothing is
    // turned. `from_ptr` takes the tensor that the shim made.
    unsafe {
        check(cl_attention(joint.as_ptr(), cos, sin, heads[0], heads[1], &raw mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// Whether [`gelu`] and [`swiglu`] can take `xs`.
pub(crate) fn takes_activation(xs: &Tensor) -> bool {
    takes_kind(xs)
}

/// GELU by its approximation with tanh.
///
/// # Errors
/// When [`takes_activation`] is false, or libtorch refuses.
pub(crate) fn gelu(xs: &Tensor) -> Result<Tensor, TorchError> {
    if !takes_activation(xs) {
        return Err(TorchError(format!("no gelu of {xs:?}")));
    }
    let mut out = ptr::null_mut();
    // SAFETY: a live tensor whose kind and device were checked; `from_ptr` takes the tensor that the shim made.
    unsafe {
        check(cl_gelu(xs.as_ptr(), &raw mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// `silu(gate) * up`.
///
/// # Errors
/// When [`takes_activation`] is false, the two differ in shape or kind, or libtorch refuses.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor, TorchError> {
    let alike = gate.size() == up.size() && gate.kind() == up.kind();
    if !takes_activation(gate) || !takes_activation(up) || !alike {
        return Err(TorchError(format!("no swiglu of {gate:?} and {up:?}")));
    }
    let mut out = ptr::null_mut();
    // SAFETY: live tensors of one kind and shape, checked; `from_ptr` takes the tensor that the shim made.
    unsafe {
        check(cl_swiglu(gate.as_ptr(), up.as_ptr(), &raw mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}
