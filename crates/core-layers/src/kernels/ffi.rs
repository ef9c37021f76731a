//! Safe wrappers of the C++ shim in `csrc/`: shapes are checked here, C++ exceptions arrive as [`TorchError`].

use std::ffi::{CStr, c_char, c_double, c_int};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::exact::Variant;

unsafe extern "C" {
    fn cl_last_error() -> *const c_char;
    fn cl_autocast_set(
        device: c_int,
        on: c_int,
        dtype: c_int,
        previous_on: *mut c_int,
        previous_dtype: *mut c_int,
    ) -> c_int;
    fn cl_autocast_nest(up: c_int) -> c_int;
    fn cl_set_simd(most: c_int);
    fn cl_keep_memory();
    fn cl_fused_adamw(
        params: *const *const C_tensor,
        grads: *const *const C_tensor,
        means: *const *const C_tensor,
        squares: *const *const C_tensor,
        steps: *const *const C_tensor,
        count: c_int,
        hyper: *const c_double,
    ) -> c_int;
    fn cl_clip_grad_norm(
        grads: *const *const C_tensor,
        count: c_int,
        limit: c_double,
        norm: *mut c_double,
    ) -> c_int;
    fn cl_lerp(
        averages: *const *const C_tensor,
        values: *const *const C_tensor,
        count: c_int,
        weight: c_double,
    ) -> c_int;
    fn cl_nade_logits(
        xs: *const C_tensor,
        ws: *const C_tensor,
        bs: *const C_tensor,
        vs: *const C_tensor,
        logits: *mut *mut C_tensor,
    ) -> c_int;
    fn cl_conv_sum(
        xs: *const *const C_tensor,
        ws: *const *const C_tensor,
        count: c_int,
        bias: *const C_tensor,
        geometry: *const i64,
        out: *mut *mut C_tensor,
    ) -> c_int;
    fn cl_gate(pre: *const C_tensor, condition: *const C_tensor, out: *mut *mut C_tensor) -> c_int;
}

/// What libtorch said when it refused, its first line only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("libtorch: {0}")]
pub(crate) struct TorchError(pub(super) String);

/// Turns a status of the shim into a result.
pub(super) fn check(status: c_int) -> Result<(), TorchError> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the shim returns a NUL-terminated string of this thread, alive until this thread's next failing call.
    let message = unsafe { CStr::from_ptr(cl_last_error()) }.to_string_lossy();
    Err(TorchError(message.lines().next().unwrap_or("unknown error").to_owned()))
}

fn handles(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// Refuses lists that the shim would read past the end of, or element by element in different orders.
fn ensure_alike(what: &str, tensors: &[Tensor], like: &[Tensor]) -> Result<(), TorchError> {
    if tensors.len() != like.len() {
        return Err(TorchError(format!("{} {what} for {} tensors", tensors.len(), like.len())));
    }
    for (i, (x, y)) in tensors.iter().zip(like).enumerate() {
        if x.size() != y.size() || x.kind() != y.kind() || x.device() != y.device() {
            return Err(TorchError(format!("{what}[{i}] is {x:?}, but its tensor is {y:?}")));
        }
        if !same_memory_order(x, y) {
            return Err(TorchError(format!("{what}[{i}] lies in memory unlike its tensor")));
        }
    }
    Ok(())
}

/// Whether equal offsets in memory mean equal indices.
///
/// # Shape
/// Two tensors of one shape.
pub(crate) fn same_memory_order(x: &Tensor, y: &Tensor) -> bool {
    (x.is_contiguous() && y.is_contiguous()) || x.stride() == y.stride()
}

/// The numbers of an [`fused_adamw`] step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWNumbers {
    pub(crate) rate: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) weight_decay: f64,
    pub(crate) epsilon: f64,
}

/// Everything that a step of `AdamW` reads and writes, in lists of one order.
#[derive(Debug, Default)]
pub(crate) struct AdamWTensors {
    pub(crate) params: Vec<Tensor>,
    pub(crate) grads: Vec<Tensor>,
    pub(crate) means: Vec<Tensor>,
    pub(crate) squares: Vec<Tensor>,
    pub(crate) steps: Vec<Tensor>,
}

/// One step of `AdamW` on all parameters at once; `steps` already count this one.
///
/// # Errors
/// When the lists do not match in number, shape, kind, device or order in memory, or libtorch refuses.
pub(crate) fn fused_adamw(tensors: &AdamWTensors, numbers: AdamWNumbers) -> Result<(), TorchError> {
    let AdamWTensors { params, grads, means, squares, steps } = tensors;
    for (what, list) in [("gradients", grads), ("means", means), ("squares", squares)] {
        ensure_alike(what, list, params)?;
    }
    if steps.len() != params.len()
        || steps.iter().any(|step| step.numel() != 1 || step.kind() != Kind::Float)
    {
        return Err(TorchError("each parameter needs one step count of kind Float".into()));
    }
    if params.is_empty() {
        return Ok(()); // libtorch cannot tell whose kernel an empty list wants
    }
    let AdamWNumbers { rate, beta1, beta2, weight_decay, epsilon } = numbers;
    let hyper = [rate, beta1, beta2, weight_decay, epsilon];
    // SAFETY: every list holds `params.len()` live tensors, alike as checked above; `hyper` holds the five numbers read.
    check(unsafe {
        cl_fused_adamw(
            handles(params).as_ptr(),
            handles(grads).as_ptr(),
            handles(means).as_ptr(),
            handles(squares).as_ptr(),
            handles(steps).as_ptr(),
            params.len() as c_int,
            hyper.as_ptr(),
        )
    })
}

/// Scales `grads` in place so that their joint Euclidean norm is at most `limit`; returns the norm before.
///
/// # Errors
/// When libtorch refuses, for example tensors on different devices.
pub(crate) fn clip_grad_norm(grads: &[Tensor], limit: f64) -> Result<f64, TorchError> {
    if grads.is_empty() {
        return Ok(0.0);
    }
    let mut norm = 0.0;
    // SAFETY: the list holds `grads.len()` live tensors, `norm` outlives the call.
    check(unsafe {
        cl_clip_grad_norm(handles(grads).as_ptr(), grads.len() as c_int, limit, &raw mut norm)
    })?;
    Ok(norm)
}

/// `average += weight * (value - average)` in place, pair by pair.
///
/// # Errors
/// When the lists differ in length, or libtorch refuses.
pub(crate) fn lerp(averages: &[Tensor], values: &[Tensor], weight: f64) -> Result<(), TorchError> {
    ensure_alike("averages", averages, values)?;
    if averages.is_empty() {
        return Ok(());
    }
    // SAFETY: both lists hold `averages.len()` live tensors, alike as checked above.
    check(unsafe {
        cl_lerp(
            handles(averages).as_ptr(),
            handles(values).as_ptr(),
            averages.len() as c_int,
            weight,
        )
    })
}

/// One summand of [`conv_sum`].
#[derive(Debug)]
pub(crate) struct Summand<'a> {
    /// `[B, C, H, W]`.
    pub(crate) xs: &'a Tensor,
    /// `[O, C, R, S]`.
    pub(crate) ws: Tensor,
    /// The tap of the window that reads the output's own pixel, row and column; it may lie outside the window.
    pub(crate) centre: [i64; 2],
    /// Pixels between two taps.
    pub(crate) dilation: i64,
}

/// Whether the native loops can take `xs`: float32 or bfloat16 on the CPU, unless kernels are off.
pub(crate) fn takes_kind(xs: &Tensor) -> bool {
    super::are_on()
        && xs.device() == Device::Cpu
        && matches!(xs.kind(), Kind::Float | Kind::BFloat16)
}

/// Whether [`conv_sum`] and [`gate`] can take `xs`: images of a kind that [`takes_kind`].
pub(crate) fn takes(xs: &Tensor) -> bool {
    takes_kind(xs) && xs.dim() == 4
}

/// The sum of one or two convolutions and a bias `[O]`, in bfloat16 under autocast or for bfloat16 inputs. The head of
/// `csrc/cpu/conv.cpp` has the formula, and counts bytes and operations.
///
/// # Errors
/// When shapes do not fit, the tensors are not on the CPU, or libtorch refuses.
///
/// # Shape
/// `[B, O, H, W]`, channels last.
pub(crate) fn conv_sum(summands: &[Summand<'_>], bias: &Tensor) -> Result<Tensor, TorchError> {
    let Some(first) = summands.first().filter(|_| summands.len() <= 2) else {
        return Err(TorchError(format!("{} summands, not one or two", summands.len())));
    };
    for Summand { xs, ws, dilation, .. } in summands {
        let (image, like, window) = (xs.size(), first.xs.size(), ws.size());
        let fits = takes(xs)
            && ws.device() == Device::Cpu
            && window.len() == 4
            && [window[0]] == *bias.size()
            && window[1] == image[1]
            && (image[0], &image[2..]) == (like[0], &like[2..])
            && *dilation >= 1;
        if !fits {
            return Err(TorchError(format!(
                "windows {window:?} of images {image:?}, dilated {dilation}"
            )));
        }
    }
    let geometry: Vec<i64> =
        summands.iter().flat_map(|it| [it.centre[0], it.centre[1], it.dilation]).collect();
    let xs: Vec<_> = summands.iter().map(|it| it.xs.as_ptr()).collect();
    let ws: Vec<_> = summands.iter().map(|it| it.ws.as_ptr()).collect();
    let mut out = std::ptr::null_mut();
    // SAFETY: as many live tensors and triples as the count says, whose shapes fit as checked above; the shim reads no
    // pixel outside the images. `from_ptr` takes the tensor that the shim made.
    unsafe {
        check(cl_conv_sum(
            xs.as_ptr(),
            ws.as_ptr(),
            summands.len() as c_int,
            bias.as_ptr(),
            geometry.as_ptr(),
            &raw mut out,
        ))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// `tanh(a) sigmoid(b)` of the first and the second half of the channels, `[B, 2 C, H, W]` to `[B, C, H, W]`, an example's
/// condition `[B, 2 C]` added first. The head of `csrc/cpu/gate.cpp` counts bytes and operations.
///
/// # Errors
/// When [`takes`] is false, the channels are odd, the condition does not fit, or libtorch refuses.
pub(crate) fn gate(pre: &Tensor, condition: Option<&Tensor>) -> Result<Tensor, TorchError> {
    let fits =
        |it: &Tensor| it.kind() == pre.kind() && takes_kind(it) && it.size() == pre.size()[..2];
    if !takes(pre) || pre.size()[1] % 2 == 1 || !condition.is_none_or(fits) {
        return Err(TorchError(format!("no gate of {pre:?} and {condition:?}")));
    }
    let condition = condition.map_or(std::ptr::null(), Tensor::as_ptr);
    let mut out = std::ptr::null_mut();
    // SAFETY: live tensors, or null, whose kinds and shapes were checked; `from_ptr` takes the tensor that the shim made.
    unsafe {
        check(cl_gate(pre.as_ptr(), condition, &raw mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// Autocast of one device type: whether it is on, and to which scalar type (libtorch's number).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AutocastState {
    pub(crate) on: bool,
    pub(crate) dtype: c_int,
}

/// Sets autocast of a device type (0 CPU, 1 CUDA) on this thread; returns what it was.
///
/// # Errors
/// When libtorch has no autocast for the device type.
pub(crate) fn autocast_set(
    device_type: c_int,
    state: AutocastState,
) -> Result<AutocastState, TorchError> {
    let (mut on, mut dtype) = (0, 0);
    // SAFETY: both out-pointers outlive the call; the state is thread-local in libtorch.
    check(unsafe {
        cl_autocast_set(
            device_type,
            c_int::from(state.on),
            state.dtype,
            &raw mut on,
            &raw mut dtype,
        )
    })?;
    Ok(AutocastState { on: on != 0, dtype })
}

/// Enters (`up`) or leaves a region whose weight casts are cached; leaving the outermost forgets them.
///
/// # Errors
/// When libtorch refuses; it has no reason to.
pub(crate) fn autocast_nest(up: bool) -> Result<(), TorchError> {
    // SAFETY: no pointers; the counter is thread-local in libtorch.
    check(unsafe { cl_autocast_nest(c_int::from(up)) })
}

/// Makes the allocator keep freed memory (glibc's; no effect on others).
pub(crate) fn keep_memory() {
    // SAFETY: no arguments; it only changes two numbers of the allocator.
    unsafe { cl_keep_memory() }
}

/// Makes the loops of `csrc/cpu` use the instructions of `variant`, or fewer where this processor has no more.
pub(crate) fn set_simd(variant: Variant) {
    let most = match variant {
        Variant::Portable => 0,
        Variant::Avx2 => 1,
        Variant::Avx512 => 2,
    };
    // SAFETY: a number, of which the shim takes the least with what the processor has.
    unsafe { cl_set_simd(most) }
}

/// The kernel behind [`super::nade::logits`].
///
/// # Errors
/// When a tensor is not f32 on the CPU, or the shapes do not match.
pub(crate) fn nade_logits(
    xs: &Tensor,
    ws: &Tensor,
    bs: &Tensor,
    vs: &Tensor,
) -> Result<Tensor, TorchError> {
    let mut logits = std::ptr::null_mut();
    // SAFETY: four live tensors, which the shim checks before it reads them; `logits` outlives the call and, when that
    // succeeds, holds a tensor that nobody else owns.
    unsafe {
        check(cl_nade_logits(xs.as_ptr(), ws.as_ptr(), bs.as_ptr(), vs.as_ptr(), &raw mut logits))?;
        Ok(Tensor::from_ptr(logits))
    }
}

#[cfg(test)]
mod tests {
    use tch::kind::FLOAT_CPU;

    use super::*;

    #[test]
    fn a_refusal_of_libtorch_is_one_line() {
        let mixed = [Tensor::ones([2], FLOAT_CPU), Tensor::ones([2], (Kind::Int64, Device::Cpu))];
        let message = clip_grad_norm(&mixed, 1.0).unwrap_err().to_string();
        assert!(message.starts_with("libtorch: ") && message.lines().count() == 1, "{message}");
    }

    #[test]
    fn lists_that_do_not_match_are_refused_before_libtorch_reads_them() {
        let (short, long) = (Tensor::ones([2], FLOAT_CPU), Tensor::ones([3], FLOAT_CPU));
        assert!(lerp(&[short], &[long], 0.5).is_err());
        let plain = Tensor::ones([2, 3], FLOAT_CPU);
        let turned = Tensor::ones([3, 2], FLOAT_CPU).transpose(0, 1);
        let message = lerp(&[plain], &[turned], 0.5).unwrap_err().to_string();
        assert!(message.contains("memory"), "{message}");
    }
}
