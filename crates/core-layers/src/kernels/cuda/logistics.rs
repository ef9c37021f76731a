//! `csrc/cuda/logistics.cu`: mixtures of discretised logistics on a GPU. Letters: P positions, M components, L levels.
//!
//! `log p = log sum_m w_m (sigma(a_m) - sigma(b_m))` with w the softmax of the logits and
//! `a, b = (v +- 1 / (L - 1) - mean_m) e^-log_scale_m` the edges of the level v, scaled to -1..=1; the first level has no lower
//! edge, the last no upper one. `csrc/cpu/logistics.cpp` says how that is computed. Logits, means and log-scales are
//! `[P, M]` of T, symbols `[P]` in int64, `log p` `[P]` in f32.
//!
//! The forward pass reads 3 P M parameters, and 8 P bytes of symbols, and writes 4 P bytes; the gradient reads and writes
//! 3 P M, over the parameters where it may, reads 12 P bytes more, and computes the forward pass anew. Nothing else of the size
//! P M is ever in memory, where the formula in libtorch operations has some thirty such tensors. About 120 operations a
//! component and pass, seven exponentials and logarithms among them, for the 12 bytes (f32) of its parameters: arithmetic and
//! memory should bind about alike. Not run on a GPU.

use tch::{Kind, Tensor};

use super::{Arg, Gpu, LOGISTICS, Shape, element};
use crate::{
    kernels::{
        ffi::TorchError,
        gradient::{room_for, with_gradient},
        logistics::are_alike,
    },
    likelihood::Logistics,
};

/// Most components: four rows of them for each thread of a warp fit the 48 KiB of shared memory that a block has unasked.
const MOST_COMPONENTS: i64 = 95;

/// Whether [`log_prob`] can take mixtures and symbols: of a kind that kernels know.
pub(crate) fn takes(mixtures: &Logistics, symbols: &Tensor) -> bool {
    element(&mixtures.means).is_ok()
        && are_alike(mixtures, symbols)
        && components(mixtures) <= MOST_COMPONENTS
}

fn components(mixtures: &Logistics) -> i64 {
    mixtures.means.size().last().copied().unwrap_or(0)
}

/// `log p` of symbols `[...]` under mixtures of parameters `[..., M]`, in float32.
///
/// # Errors
/// When [`takes`] is false, or the kernel cannot run.
pub(crate) fn log_prob(
    gpu: &'static dyn Gpu,
    mixtures: &Logistics,
    symbols: &Tensor,
) -> Result<Tensor, TorchError> {
    if !takes(mixtures, symbols) {
        return Err(TorchError(format!("symbols {symbols:?} of {mixtures:?}")));
    }
    let element = element(&mixtures.means)?;
    let parameters = [&mixtures.logits, &mixtures.means, &mixtures.log_scales];
    let (flat, symbols, ys) = tch::no_grad(|| {
        let ys = Tensor::empty(symbols.size(), (Kind::Float, symbols.device()));
        (parameters.map(Tensor::contiguous), symbols.contiguous(), ys)
    });
    let (positions, components) = (ys.numel() as i64, components(mixtures));
    let numbers = [positions, components, mixtures.levels].map(Arg::Int);
    let shape = shape(positions, components);
    let saved = [&flat[0], &flat[1], &flat[2], &symbols];
    if positions > 0 {
        let arguments = [&saved.map(Arg::Tensor)[..], &[Arg::Tensor(&ys)], &numbers].concat();
        // SAFETY: the arguments of `logistics`; P M numbers of each parameter, P symbols, which are no indices, and P
        // outputs, in order; shared memory for four rows a thread.
        unsafe {
            gpu.launch(&LOGISTICS, element, "logistics", shape, &arguments)?;
        }
    }
    let numbers = [positions, components, mixtures.levels];
    let backward = move |saved: &[Tensor], grads: &[Tensor]| {
        let dys = grads[0].to_kind(Kind::Float).contiguous();
        let found = saved[..3].iter().map(room_for).collect::<Result<Vec<_>, _>>()?;
        if positions > 0 {
            let tensors = saved.iter().chain([&dys]).chain(&found).map(Arg::Tensor);
            let arguments: Vec<Arg<'_>> = tensors.chain(numbers.map(Arg::Int)).collect();
            // SAFETY: as above, with dys like ys and a gradient like each parameter, or the parameter itself, which the
            // kernel allows.
            unsafe {
                gpu.launch(&LOGISTICS, element, "logistics_gradient", shape, &arguments)?;
            }
        }
        Ok(found.into_iter().map(Some).collect())
    };
    let [ys] = with_gradient(&parameters, &saved, [ys.shallow_clone()], backward)?;
    Ok(ys)
}

/// A thread for each position, in blocks whose rows fit their shared memory.
fn shape(positions: i64, components: i64) -> Shape {
    const SHARED: i64 = 48 << 10;
    let of_thread = 4 * 4 * (components | 1);
    let threads = (SHARED / of_thread / 32 * 32).clamp(32, 128);
    let blocks = (positions + threads - 1) / threads;
    Shape {
        block: [threads as u32, 1, 1],
        shared: (threads * of_thread) as u32,
        ..Shape::of_rows(blocks)
    }
}
