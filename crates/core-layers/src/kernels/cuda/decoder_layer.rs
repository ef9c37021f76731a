//! `csrc/cuda/decoder_layer.cu`: a layer of a decoder for one token a row, on a GPU. Inference only.
//! Letters: R rows, D width, H heads, K key and value heads, E width of a head, F feed-forward.
//!
//! `h' = h + output(attention(norm(h)))`, then `h' + down(act(norm(h')))`: h `[R, 1, D]`, matrices `[out, in]`, the cache's
//! keys and values `[C, K, N, E]`, all of T.
//!
//! Five launches, or six where attention is cut: norm, queries, keys and values, turned and written to the cache; attention
//! (one or two); output and residual; norm, up, gate and activation; down and residual. The operations of libtorch that they
//! replace are about twenty-five. Each weight is read once, `D (H + 2 K) E + H E D + 3 D F` numbers a layer with a gate and
//! `D F` less without, for two operations a row, rows filled up to 1, 2, 4 or 8; attention has its own page,
//! `decode_attention.rs`. Other traffic is `R (6 D + 2 H E + 2 K E + 2 F)` numbers. Each block reads the inputs and norms
//! them anew, from the cache, 528 blocks at most a launch.
//!
//! A row of inputs is read from shared memory, as f32, for two rows of weights: as many bytes as the weights have in a
//! type of 2 bytes, half as many in f32. So with one or two rows memory should bind, beside what launches cost; with the 8 rows
//! that it takes at most, shared memory may. Not run on a GPU.
//!
//! CUDA graphs: `at::cuda::CUDAGraph` lies in `libtorch_cuda`, which is not linked, and torch-sys does not bind it. Its parts
//! are within reach, the driver's stream capture on a stream of `VirtualGuardImpl::getNewStream` (the default one cannot be
//! captured) and `beginAllocateToPool` by a virtual call on c10's allocator, but the header of that one asks for CUDA's own
//! headers, which a CPU build does not have. Not tried, as nothing here would show that it works.

use tch::{Kind, Tensor};

use super::{Arg, DECODER_LAYER, Element, Gpu, MOST_SHARED, Shape, decode_attention, element};
use crate::{
    kernels::{
        ffi::TorchError,
        step::{Activation, Layer, Map, Place},
    },
    norm::Norm,
    rope::Turn,
};

/// Rows that one launch takes.
const MOST_ROWS: i64 = 8;
/// Bytes of shared memory beside the inputs.
const SCRATCH: u32 = 256;
/// Threads of a block, and blocks enough to fill a GPU: each makes its inputs once and then goes through the weights.
const BLOCK: u32 = 128;
const MOST_BLOCKS: i64 = 528;

/// Whether [`layer`] takes a layer of this kind and size; what does not fit together is none of its business.
pub(crate) fn takes(xs: &Tensor, layer: &Layer<'_>, place: &Place<'_>) -> bool {
    let rows = xs.size()[0];
    let width = |map: &Map<'_>| map.ws.size().get(1).copied().unwrap_or(0);
    let widest = [&layer.query, &layer.output, &layer.down].map(width).into_iter().max();
    let head = place.keys.size().last().copied().unwrap_or(0);
    Element::of(xs.kind()).is_some()
        && (1..=MOST_ROWS).contains(&rows)
        && shared(rows, widest.unwrap_or(0)) <= MOST_SHARED as i64
        && (1..=decode_attention::WIDEST).contains(&head)
        && !xs.requires_grad()
}

/// Bytes of inputs `[R, width]` in shared memory; rows are 1, 2, 4 or 8.
fn shared(rows: i64, width: i64) -> i64 {
    4 * width * rows.max(1).cast_unsigned().next_power_of_two().cast_signed()
}

/// The layer's output for inputs `[R, 1, D]`; writes to the cache of `place`.
///
/// # Errors
/// When shapes, kinds or devices do not fit, or a kernel cannot run.
///
/// # Shape
/// `[R, 1, D]`.
pub(crate) fn layer(
    gpu: &'static dyn Gpu,
    xs: &Tensor,
    layer: &Layer<'_>,
    place: &Place<'_>,
) -> Result<Tensor, TorchError> {
    let sizes = ensure_fits(xs, layer, place)?;
    tch::no_grad(|| {
        let of = Of { gpu, sizes };
        let xs = xs.contiguous();
        let queries = of.project(&xs, layer, place)?;
        let (keys, values) = (place.keys, place.values);
        let found = decode_attention::attend(gpu, &queries, keys, values, &place.seen)?;
        let xs = of.add_product(&found, &layer.output, &xs)?;
        let inner = of.activate(&xs, layer)?;
        of.add_product(&inner, &layer.down, &xs)
    })
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    element: Element,
    rows: i64,
    width: i64,
    heads: i64,
    kv_heads: i64,
    head: i64,
    inner: i64,
}

fn ensure_fits(xs: &Tensor, layer: &Layer<'_>, place: &Place<'_>) -> Result<Sizes, TorchError> {
    let refusal = |what: &str| TorchError(format!("no layer of {xs:?}: {what} does not fit"));
    let Ok((rows, 1, width)) = xs.size3() else { return Err(refusal("its shape")) };
    let element = element(xs)?;
    let is_like = |it: &Tensor, sizes: &[i64]| {
        it.size() == sizes
            && it.kind() == xs.kind()
            && it.device() == xs.device()
            && it.is_contiguous()
    };
    let ([heads, kv_heads], Ok((cache_rows, _, room, head))) = (layer.heads, place.keys.size4())
    else {
        return Err(refusal("the cache"));
    };
    let inner = layer.up.ws.size()[0];
    if !takes(xs, layer, place) {
        return Err(refusal("its size"));
    }
    let gate = match layer.activation {
        Activation::SwiGlu { gate } => gate,
        Activation::Gelu | Activation::GeluTanh => layer.up,
    };
    for (what, map, sizes) in [
        ("query", layer.query, [heads * head, width]),
        ("key", layer.key, [kv_heads * head, width]),
        ("value", layer.value, [kv_heads * head, width]),
        ("output", layer.output, [width, heads * head]),
        ("gate", gate, [inner, width]),
        ("up", layer.up, [inner, width]),
        ("down", layer.down, [width, inner]),
    ] {
        if !is_like(map.ws, &sizes) || !map.bs.is_none_or(|it| is_like(it, &sizes[..1])) {
            return Err(refusal(what));
        }
    }
    for norm in [layer.attention_norm, layer.feed_forward_norm] {
        if ![Some(norm.weight()), norm.bias()].into_iter().flatten().all(|it| is_like(it, &[width]))
        {
            return Err(refusal("a norm"));
        }
    }
    let index = |it: &Tensor| {
        it.size() == [rows]
            && it.kind() == Kind::Int64
            && it.device() == xs.device()
            && it.is_contiguous()
    };
    let is_placed = [place.keys, place.values]
        .iter()
        .all(|it| is_like(it, &[cache_rows, kv_heads, room, head]))
        && index(place.positions)
        && place.seen.rows.is_none_or(index);
    if !is_placed {
        return Err(refusal("the cache"));
    }
    let angles = |turn: &Turn| {
        turn.both().iter().all(|it| {
            it.numel() as i64 * 2 == rows * head && it.is_contiguous() && it.device() == xs.device()
        })
    };
    if !place.turn.is_none_or(angles) {
        return Err(refusal("an angle"));
    }
    Ok(Sizes { element, rows, width, heads, kv_heads, head, inner })
}

/// Launches of one layer.
#[derive(Debug, Clone, Copy)]
struct Of {
    gpu: &'static dyn Gpu,
    sizes: Sizes,
}

impl Of {
    /// A warp for each of `items`, and room for inputs `[R, width]`.
    fn shape(self, items: i64, width: i64) -> Shape {
        let warps = i64::from(BLOCK / 32);
        let blocks = ((items + warps - 1) / warps).clamp(1, MOST_BLOCKS);
        let shared = shared(self.sizes.rows, width) as u32 + SCRATCH;
        Shape { grid: [blocks as u32, 1, 1], block: [BLOCK, 1, 1], shared }
    }

    /// Queries `[R, H, 1, E]`; keys and values go to the cache.
    fn project(
        self,
        xs: &Tensor,
        layer: &Layer<'_>,
        place: &Place<'_>,
    ) -> Result<Tensor, TorchError> {
        let Sizes { element, rows, width, heads, kv_heads, head, .. } = self.sizes;
        let queries = Tensor::empty([rows, heads, 1, head], (xs.kind(), xs.device()));
        let (norm, maps) = (layer.attention_norm, [layer.query, layer.key, layer.value]);
        let cache = place.keys.size();
        let mut arguments = entered(xs, norm);
        arguments.extend(maps.map(|it| Arg::Tensor(it.ws)));
        arguments.extend(maps.map(|it| Arg::maybe(it.bs)));
        arguments.extend(match place.turn.map(Turn::both) {
            Some(both) => both.map(Arg::Tensor),
            None => [Arg::Null; 2],
        });
        arguments.extend([&queries, place.keys, place.values].map(Arg::Tensor));
        arguments.extend([Arg::maybe(place.seen.rows), Arg::Tensor(place.positions)]);
        arguments.extend([rows, width, heads, kv_heads, head, cache[0], cache[2]].map(Arg::Int));
        arguments.push(is_wide(width, &maps));
        let shape = self.shape((heads + 2 * kv_heads) * ((head + 1) / 2), width);
        // SAFETY: the arguments of `project`, whose shapes, kinds and devices `ensure_fits` checked, in order in memory; rows
        // and positions outside of the cache are not written.
        unsafe {
            self.gpu.launch(&DECODER_LAYER, element, "project", shape, &arguments)?;
        }
        Ok(queries)
    }

    /// `residual + map(xs)`.
    fn add_product(
        self,
        xs: &Tensor,
        map: &Map<'_>,
        residual: &Tensor,
    ) -> Result<Tensor, TorchError> {
        let Sizes { element, rows, .. } = self.sizes;
        let (ys, (outs, width)) = (residual.empty_like(), map.ws.size2().expect("checked above"));
        let mut arguments = vec![Arg::Tensor(xs), Arg::Tensor(map.ws), Arg::maybe(map.bs)];
        arguments.extend([residual, &ys].map(Arg::Tensor));
        arguments.extend([rows, width, outs].map(Arg::Int));
        arguments.push(is_wide(width, &[*map]));
        let shape = self.shape((outs + 1) / 2, width);
        // SAFETY: the arguments of `add_product`; R `width` numbers of xs, R `outs` of residual and ys, in order.
        unsafe {
            self.gpu.launch(&DECODER_LAYER, element, "add_product", shape, &arguments)?;
        }
        Ok(ys)
    }

    /// `act(up(norm(xs)))`, `[R, F]`.
    fn activate(self, xs: &Tensor, layer: &Layer<'_>) -> Result<Tensor, TorchError> {
        let Sizes { element, rows, width, inner, .. } = self.sizes;
        let ys = Tensor::empty([rows, inner], (xs.kind(), xs.device()));
        let gate = match layer.activation {
            Activation::SwiGlu { gate } => Some(gate),
            Activation::Gelu | Activation::GeluTanh => None,
        };
        let mut arguments = entered(xs, layer.feed_forward_norm);
        for map in [gate, Some(layer.up)] {
            arguments.push(Arg::maybe(map.map(|it| it.ws)));
            arguments.push(Arg::maybe(map.and_then(|it| it.bs)));
        }
        arguments.push(Arg::Tensor(&ys));
        arguments.extend([rows, width, inner].map(Arg::Int));
        arguments.push(Arg::Int(i64::from(matches!(layer.activation, Activation::GeluTanh))));
        arguments.push(is_wide(width, &[gate.unwrap_or(layer.up), layer.up]));
        let shape = self.shape(if gate.is_some() { inner } else { (inner + 1) / 2 }, width);
        // SAFETY: the arguments of `activate`; R D numbers of xs, F D of each matrix, R F of ys, in order.
        unsafe {
            self.gpu.launch(&DECODER_LAYER, element, "activate", shape, &arguments)?;
        }
        Ok(ys)
    }
}

/// Inputs and the norm before them.
fn entered<'a>(xs: &'a Tensor, norm: &'a Norm) -> Vec<Arg<'a>> {
    let epsilon = Arg::Float(norm.epsilon() as f32);
    vec![Arg::Tensor(xs), Arg::Tensor(norm.weight()), Arg::maybe(norm.bias()), epsilon]
}

/// Whether all rows of these weights can be read 16 bytes at a time.
fn is_wide(width: i64, maps: &[Map<'_>]) -> Arg<'static> {
    let are = maps.iter().all(|it| {
        let bytes = width * it.ws.kind().elt_size_in_bytes() as i64;
        bytes % 16 == 0 && it.ws.data_ptr().addr() % 16 == 0
    });
    Arg::Int(i64::from(are))
}
