//! A layer of a decoder for one token a row, fused on a GPU: `h' = h + output(attention(norm(h)))`, `h' + down(act(norm(h')))`.
//! Letters: R rows, D width, H heads, K key and value heads, E width of a head, F feed-forward, C rows and N room of a cache.
//!
//! The kernel, and a count of its bytes and operations: `kernels/cuda/decoder_layer.rs`.

use tch::{Device, Tensor};

use super::cuda;
use crate::{attention::Seen, norm::Norm, rope::Turn};

/// A linear map, `W x + b`.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a> {
    /// `[out, in]`.
    pub ws: &'a Tensor,
    /// `[out]`.
    pub bs: Option<&'a Tensor>,
}

/// What stands between the matrices of the feed-forward network.
#[derive(Debug, Clone, Copy)]
pub enum Activation<'a> {
    /// `silu(gate(x)) * up(x)`.
    SwiGlu {
        /// D to F.
        gate: Map<'a>,
    },
    /// With the error function.
    Gelu,
    /// By tanh.
    GeluTanh,
}

/// The weights of a layer, all of one kind on one device.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Before attention.
    pub attention_norm: &'a Norm,
    /// D to H E.
    pub query: Map<'a>,
    /// D to K E.
    pub key: Map<'a>,
    /// D to K E.
    pub value: Map<'a>,
    /// H E to D.
    pub output: Map<'a>,
    /// Before the feed-forward network.
    pub feed_forward_norm: &'a Norm,
    /// D to F.
    pub up: Map<'a>,
    /// Behind `up`.
    pub activation: Activation<'a>,
    /// F to D.
    pub down: Map<'a>,
    /// H and K.
    pub heads: [i64; 2],
}

/// The cache of a layer, and where the tokens of a step stand in it.
#[derive(Debug)]
pub struct Place<'a> {
    /// `[C, K, N, E]`.
    pub keys: &'a Tensor,
    /// `[C, K, N, E]`.
    pub values: &'a Tensor,
    /// Where each row's token is written, `[R]`, int64.
    pub positions: &'a Tensor,
    /// What its query sees, its own position included.
    pub seen: Seen<'a>,
    /// The angles of `positions`, `[R, 1]`, where positions are rotations.
    pub turn: Option<&'a Turn>,
}

/// Whether kernels run on `device`, so that [`layer`] may take what it is asked.
pub fn is_there(device: Device) -> bool {
    cuda::of(device).is_some()
}

/// The layer's output for inputs `xs`, whose keys and values it keeps; none where no kernel takes it, and then nothing is
/// written. The libtorch operations of a layer are its definition; here sums stay f32 up to the next tensor. There is no
/// gradient, so this is for a session's steps.
///
/// # Shape
/// `[R, 1, D]` to the same.
///
/// # Panics
/// If shapes, kinds or devices do not fit.
pub fn layer(xs: &Tensor, layer: &Layer<'_>, place: &Place<'_>) -> Option<Tensor> {
    let gpu = cuda::of(xs.device())?;
    if !cuda::decoder_layer::takes(xs, layer, place) {
        return None;
    }
    let made = cuda::decoder_layer::layer(gpu, xs, layer, place);
    Some(made.unwrap_or_else(|error| panic!("a layer: {error}")))
}
