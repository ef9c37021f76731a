//! `csrc/cuda/cross_entropy.cu`: cross-entropy on a GPU. Letters: P positions, L levels.
//!
//! `y = x[symbol] - log Z` with `log Z = log sum_l e^x[l]`: logits x `[P, L]` of T, symbols `[P]` in int64, y and log Z `[P]`
//! in f32. With p the softmax, `dx = (dz - dy) p`, and dy more at the symbol.
//!
//! The forward pass reads P L logits once, and 8 P bytes of symbols, and writes 8 P bytes; the gradient reads and writes P L,
//! over the logits where it may, so that a step needs no second tensor of their size, and reads 20 P bytes more. About 5
//! operations a logit and pass, an exponential among them: memory should bind. Not run on a GPU.

use tch::{Kind, Tensor};

use super::{Arg, CROSS_ENTROPY, Gpu, Shape, THREADS, element};
use crate::kernels::{
    cross_entropy::are_symbols_of,
    ffi::TorchError,
    gradient::{room_for, with_gradient},
};

/// Most levels that a warp reads alone; of more, a block does.
const OF_A_WARP: i64 = 1024;

/// `log softmax(logits)[symbol]` and `log Z`, in float32, of logits `[..., L]` and int64 symbols `[...]`; NaN where a symbol is
/// neither a level nor ignored.
///
/// # Errors
/// When shapes, kinds or devices do not fit, or the kernel cannot run.
pub(crate) fn cross_entropy(
    gpu: &'static dyn Gpu,
    logits: &Tensor,
    symbols: &Tensor,
) -> Result<[Tensor; 2], TorchError> {
    let element = element(logits)?;
    if !are_symbols_of(logits, symbols) || symbols.device() != logits.device() {
        return Err(TorchError(format!("symbols {symbols:?} of logits {logits:?}")));
    }
    let rows = symbols.numel() as i64;
    let levels = logits.size().last().copied().unwrap_or(0);
    let (xs, symbols, ys, log_zs) = tch::no_grad(|| {
        let out = || Tensor::empty(symbols.size(), (Kind::Float, logits.device()));
        (logits.contiguous(), symbols.contiguous(), out(), out())
    });
    let shape = shape(levels, rows);
    if rows > 0 {
        let arguments = [
            Arg::Tensor(&xs),
            Arg::Tensor(&symbols),
            Arg::Tensor(&ys),
            Arg::Tensor(&log_zs),
            Arg::Int(levels),
            Arg::Int(rows),
        ];
        // SAFETY: the arguments of `cross_entropy`; P L logits, P symbols and twice P outputs, in order; a symbol that is no
        // level is never an index.
        unsafe {
            gpu.launch(&CROSS_ENTROPY, element, "cross_entropy", shape, &arguments)?;
        }
    }
    let backward = move |saved: &[Tensor], grads: &[Tensor]| {
        let (xs, symbols, log_zs) = (&saved[0], &saved[1], &saved[2]);
        let [dys, dzs] = [0, 1].map(|i| grads[i].to_kind(Kind::Float).contiguous());
        let dxs = room_for(xs)?;
        if rows > 0 {
            let arguments = [
                Arg::Tensor(xs),
                Arg::Tensor(symbols),
                Arg::Tensor(log_zs),
                Arg::Tensor(&dys),
                Arg::Tensor(&dzs),
                Arg::Tensor(&dxs),
                Arg::Int(levels),
                Arg::Int(rows),
            ];
            // SAFETY: as above, with dys and dzs like ys and dxs like xs, or xs itself, which the kernel allows.
            unsafe {
                gpu.launch(&CROSS_ENTROPY, element, "cross_entropy_gradient", shape, &arguments)?;
            }
        }
        Ok(vec![Some(dxs)])
    };
    with_gradient(
        &[logits],
        &[&xs, &symbols, &log_zs],
        [ys.shallow_clone(), log_zs.shallow_clone()],
        backward,
    )
}

/// A warp or a block for each row.
fn shape(levels: i64, rows: i64) -> Shape {
    if levels > OF_A_WARP {
        return Shape::of_rows(rows);
    }
    let of_block = THREADS / 32;
    let blocks = (rows + i64::from(of_block) - 1) / i64::from(of_block);
    Shape { block: [32, of_block, 1], ..Shape::of_rows(blocks) }
}
