//! `csrc/cuda/decode_attention.cu`: attention of one query a row over a cache, on a GPU. Inference only.
//! Letters: R rows, C rows of the cache, N its room, H heads, K key and value heads, E width of a head, T positions seen.
//!
//! `softmax(q k^T / sqrt(E)) v`, cut along the sequence into parts of 64 positions (flash-decoding): each leaves a maximum, a
//! sum and a weighted sum of values, E + 2 numbers in f32 a head, which a second launch adds in their order; up to 64
//! positions take one launch. Shapes: q `[R, H, 1, E]`, keys and values `[C, K, N, E]`, y like q, all of T.
//!
//! Keys and values are read once for up to four queries that share them, `2 T K E` numbers a row, and once more, from the
//! cache, for each further four; parts take `4 H (E + 2)` bytes each, written and read again. That is `5 T H E` operations a
//! row, since sums are rescaled at every position. Beside them a score costs its warp a sum over lanes, two exponentials and
//! what belongs to them: more than 20 instructions, where products and sums are `3 E / 32`. With one query a key head memory
//! should bind, with four the instructions may. How a row is cut does not depend on other rows, so that it has the same bits
//! beside them as alone. Not run on a GPU.

use tch::{Kind, Tensor};

use super::{Arg, DECODE_ATTENTION, Gpu, Shape, THREADS, element};
use crate::{attention::Seen, kernels::ffi::TorchError};

/// Positions of a part, heads and threads of a block, and the widest head: `SPAN`, `HEADS`, `32 WARPS` and `32 WIDEST` of the
/// source.
const SPAN: i64 = 64;
const HEADS: i64 = 4;
const BLOCK: u32 = 128;
pub(crate) const WIDEST: i64 = 256;

/// What the queries `[R, H, 1, E]` find of keys and values `[C, K, N, E]`.
///
/// # Errors
/// When shapes, kinds or devices do not fit, heads are wider than [`WIDEST`], or the kernel cannot run.
///
/// # Shape
/// `[R, H, 1, E]`.
pub(crate) fn attend(
    gpu: &'static dyn Gpu,
    qs: &Tensor,
    ks: &Tensor,
    vs: &Tensor,
    seen: &Seen<'_>,
) -> Result<Tensor, TorchError> {
    let refusal = || TorchError(format!("no attention of {qs:?} over {ks:?} and {vs:?}, {seen:?}"));
    let (Ok((rows, heads, queries, width)), Ok((cache_rows, kv_heads, room, _))) =
        (qs.size4(), ks.size4())
    else {
        return Err(refusal());
    };
    let place = |it: &Tensor, sizes: &[i64]| {
        it.size() == sizes && it.kind() == Kind::Int64 && it.device() == qs.device()
    };
    let cache = |it: &Tensor| {
        it.kind() == qs.kind()
            && it.device() == qs.device()
            && it.is_contiguous()
            && it.size() == [cache_rows, kv_heads, room, width]
    };
    let parts = (seen.longest.clamp(0, room) + SPAN - 1) / SPAN;
    let fits = queries == 1
        && (1..=WIDEST).contains(&width)
        && kv_heads > 0
        && heads % kv_heads == 0
        && cache(ks)
        && cache(vs)
        && place(seen.spans, &[rows, 2])
        && seen.rows.map_or(rows <= cache_rows, |it| place(it, &[rows]) && cache_rows > 0)
        && parts <= i64::from(u16::MAX);
    if !fits {
        return Err(refusal());
    }
    let element = element(qs)?;
    tch::no_grad(|| {
        let (qs, spans) = (qs.contiguous(), seen.spans.contiguous());
        let of = seen.rows.map(Tensor::contiguous);
        let ys = qs.empty_like();
        if ys.numel() == 0 {
            return Ok(ys);
        }
        let parts = parts.max(1);
        let options = (Kind::Float, qs.device());
        let partial = (parts > 1).then(|| Tensor::empty([rows, heads, parts, width + 2], options));
        let arguments = [
            Arg::Tensor(&qs),
            Arg::Tensor(ks),
            Arg::Tensor(vs),
            Arg::maybe(of.as_ref()),
            Arg::Tensor(&spans),
            Arg::Tensor(&ys),
            Arg::maybe(partial.as_ref()),
            Arg::Int(heads),
            Arg::Int(kv_heads),
            Arg::Int(cache_rows),
            Arg::Int(room),
            Arg::Int(width),
            Arg::Float((1. / (width as f64).sqrt()) as f32),
        ];
        let groups = (heads / kv_heads + HEADS - 1) / HEADS;
        let grid = [(rows * kv_heads * groups) as u32, parts as u32, 1];
        let shape = Shape { grid, block: [BLOCK, 1, 1], shared: 0 };
        // SAFETY: the arguments of `attend`; R H E numbers of qs and ys, two numbers a row of spans, one of rows, C K N E of
        // keys and values, R H parts (E + 2) of the parts where there are several, in order; the kernel keeps rows and
        // spans that the tensors name inside the cache.
        unsafe {
            gpu.launch(&DECODE_ATTENTION, element, "attend", shape, &arguments)?;
        }
        if let Some(partial) = &partial {
            let count = rows * heads;
            let arguments = [
                Arg::Tensor(partial),
                Arg::Tensor(&ys),
                Arg::Int(parts),
                Arg::Int(width),
                Arg::Int(count),
            ];
            let warps = i64::from(THREADS / 32);
            let grid = [((count + warps - 1) / warps) as u32, 1, 1];
            let shape = Shape { grid, ..Shape::of_rows(1) };
            // SAFETY: the arguments of `combine`; the parts were written by `attend`, R H E numbers of ys.
            unsafe {
                gpu.launch(&DECODE_ATTENTION, element, "combine", shape, &arguments)?;
            };
        }
        Ok(ys)
    })
}
