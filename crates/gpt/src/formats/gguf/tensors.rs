//! Tensors of a GGUF to weights under our names.

use anyhow::{Context as _, Result, ensure};
use core_layers::encoded::{Bytes, Encoded};

use super::read::Gguf;
use crate::{
    config::{DecoderConfig, Positions},
    weights::Weights,
};

pub(super) const EMBEDDING: &str = "token_embd.weight";
pub(super) const HEAD: &str = "output.weight";
/// Divisors of rotary frequencies; they become part of the configuration.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// The weights, checked to fit. Those of rotary queries and keys are copied: their rows are put in order.
pub(super) fn weights(gguf: &Gguf<'_>, config: &DecoderConfig) -> Result<Weights> {
    let mut weights = Weights::default();
    for (&name, tensor) in &gguf.tensors {
        if name == FACTORS {
            continue;
        }
        if let Some((layer, end)) = fused(name) {
            for (part, tensor) in
                split(tensor, config).with_context(|| format!("tensor {name:?}"))?
            {
                weights.0.insert(format!("layers.{layer}.attention.{part}.{end}"), tensor);
            }
            continue;
        }
        let ours = ours(name);
        let turned = matches!(config.positions, Positions::Rope { .. });
        let tensor = match ours.as_deref().map(|it| it.rsplit('.').nth(1).unwrap_or_default()) {
            Some("query") if turned => paired_by_halves(tensor, config.heads),
            Some("key") if turned => paired_by_halves(tensor, config.kv_heads),
            _ => Some(tensor.clone()),
        };
        let tensor =
            tensor.with_context(|| format!("tensor {name:?} does not hold whole heads"))?;
        weights.0.insert(ours.unwrap_or_else(|| name.to_owned()), tensor);
    }
    weights.ensure_fit(config)?;
    Ok(weights)
}

/// Our name of a tensor.
fn ours(name: &str) -> Option<String> {
    let (stem, end) = name.rsplit_once('.')?;
    let table = match stem {
        "token_embd" => Some("embedding"),
        "position_embd" => Some("position"),
        "output_norm" => Some("norm"),
        "output" => Some("head"),
        _ => None,
    };
    if let Some(ours) = table {
        return Some(format!("{ours}.{end}"));
    }
    let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
    let part = match part {
        "attn_norm" => "attention_norm",
        "attn_q" => "attention.query",
        "attn_k" => "attention.key",
        "attn_v" => "attention.value",
        "attn_output" => "attention.output",
        "ffn_norm" => "feed_forward_norm",
        "ffn_gate" => "feed_forward.gate",
        "ffn_up" => "feed_forward.up",
        "ffn_down" => "feed_forward.down",
        _ => return None,
    };
    Some(format!("layers.{layer}.{part}.{end}"))
}

/// Layer and kind of a tensor that holds queries, keys and values.
fn fused(name: &str) -> Option<(&str, &str)> {
    let (layer, end) = name.strip_prefix("blk.")?.split_once(".attn_qkv.")?;
    Some((layer, end))
}

/// Queries, keys and values of one tensor, rows in this order.
fn split(tensor: &Encoded, config: &DecoderConfig) -> Result<[(&'static str, Encoded); 3]> {
    let (queries, keys) = (config.d_query() as usize, config.d_key() as usize);
    let is_bias = tensor.rows() == 1;
    let tensor =
        if is_bias { column(tensor).context("is no plain vector")? } else { tensor.clone() };
    let rows = queries + 2 * keys;
    ensure!(tensor.rows() == rows, "has {} rows, the configuration needs {rows}", tensor.rows());
    let part = |start: usize, len: usize| {
        let part = tensor.rows_at(start..start + len);
        if is_bias { row(&part) } else { part }
    };
    Ok([
        ("query", part(0, queries)),
        ("key", part(queries, keys)),
        ("value", part(queries + keys, keys)),
    ])
}

/// Rows in the order that pairs the halves of a head, of rows that pair neighbours: llama.cpp's converters of `llama`
/// turn `[H, 2, E/2]` into `[H, E/2, 2]`, and this turns it back. Blocks stay as they are.
pub(super) fn paired_by_halves(tensor: &Encoded, heads: i64) -> Option<Encoded> {
    let heads = usize::try_from(heads).ok()?;
    let is_bias = tensor.rows() == 1;
    let rows = if is_bias { column(tensor)? } else { tensor.clone() };
    let width = rows.rows() / heads;
    if width * heads != rows.rows() || width % 2 != 0 {
        return None;
    }
    let order: Vec<usize> = (0..rows.rows())
        .map(|row| {
            let (head, place) = (row / width, row % width);
            head * width + place % (width / 2) * 2 + place / (width / 2)
        })
        .collect();
    let ordered = rows.with_rows(&order);
    Some(if is_bias { row(&ordered) } else { ordered })
}

/// A vector of plain numbers as rows of one.
fn column(vector: &Encoded) -> Option<Encoded> {
    Encoded::new(vector.columns(), 1, vector.encoding(), Bytes::from(vector.bytes().to_vec()))
}

/// Rows of one as a vector.
fn row(column: &Encoded) -> Encoded {
    Encoded::new(1, column.rows(), column.encoding(), Bytes::from(column.bytes().to_vec()))
        .expect("as many plain numbers")
}
