//! Names of tensors in transformers' classes, and what has to be done to them.
//!
//! GPT-2's linear maps are `Conv1D`, whose weights are `[inputs, outputs]`; its queries, keys and values are one map.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use core_layers::encoded::{Bytes, Encoded};

use super::config::Kind;
use crate::{
    config::DecoderConfig,
    formats::{safetensors::Raw, shown},
    weights::Weights,
};

/// Our names of tables and of parts of a layer, and theirs.
type Names = &'static [(&'static str, &'static str)];

const GPT2_TABLES: Names =
    &[("embedding", "wte"), ("position", "wpe"), ("norm", "ln_f"), ("head", "lm_head")];
const GPT2_LAYER: Names = &[
    ("attention_norm", "ln_1"),
    (FUSED, "attn.c_attn"),
    ("attention.output", "attn.c_proj"),
    ("feed_forward_norm", "ln_2"),
    ("feed_forward.up", "mlp.c_fc"),
    ("feed_forward.down", "mlp.c_proj"),
];
const LLAMA_TABLES: Names = &[("embedding", "embed_tokens"), ("norm", "norm"), ("head", "lm_head")];
const LLAMA_LAYER: Names = &[
    ("attention_norm", "input_layernorm"),
    ("attention.query", "self_attn.q_proj"),
    ("attention.key", "self_attn.k_proj"),
    ("attention.value", "self_attn.v_proj"),
    ("attention.output", "self_attn.o_proj"),
    ("feed_forward_norm", "post_attention_layernorm"),
    ("feed_forward.gate", "mlp.gate_proj"),
    ("feed_forward.up", "mlp.up_proj"),
    ("feed_forward.down", "mlp.down_proj"),
];

/// What queries, keys and values in one map are called on the way.
pub(super) const FUSED: &str = "attention.fused";
/// Its parts, in the order of their rows.
pub(super) const PARTS: [&str; 3] = ["query", "key", "value"];

impl Kind {
    const fn tables(self) -> Names {
        match self {
            Self::Gpt2 => GPT2_TABLES,
            Self::Llama => LLAMA_TABLES,
        }
    }

    const fn layer(self) -> Names {
        match self {
            Self::Gpt2 => GPT2_LAYER,
            Self::Llama => LLAMA_LAYER,
        }
    }

    /// What stands before all names but the head's.
    const fn body(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.",
            Self::Llama => "model.",
        }
    }

    /// What stands before the number of a layer.
    const fn layers(self) -> &'static str {
        match self {
            Self::Gpt2 => "h.",
            Self::Llama => "layers.",
        }
    }

    /// Our name of a tensor; without the model's part of it as well, as GPT-2's first files have it.
    fn ours(self, name: &str) -> Option<String> {
        let name = name.strip_prefix(self.body()).unwrap_or(name);
        let (stem, end) = name.rsplit_once('.')?;
        let find = |names: Names, stem: &str| names.iter().find(|it| it.1 == stem).map(|it| it.0);
        if let Some(table) = find(self.tables(), stem) {
            return Some(format!("{table}.{end}"));
        }
        let (layer, part) = stem.strip_prefix(self.layers())?.split_once('.')?;
        Some(format!("layers.{layer}.{}.{end}", find(self.layer(), part)?))
    }

    /// Their name of one of our tensors.
    pub(super) fn theirs(self, name: &str) -> Option<String> {
        let (stem, end) = name.rsplit_once('.')?;
        let find = |names: Names, stem: &str| names.iter().find(|it| it.0 == stem).map(|it| it.1);
        if stem == "head" {
            return Some(format!("lm_head.{end}"));
        }
        let body = self.body();
        if let Some(table) = find(self.tables(), stem) {
            return Some(format!("{body}{table}.{end}"));
        }
        let (layer, part) = stem.strip_prefix("layers.")?.split_once('.')?;
        Some(format!("{body}{}{layer}.{}.{end}", self.layers(), find(self.layer(), part)?))
    }

    /// Whether a tensor of ours lies transposed in a file.
    pub(super) fn is_transposed(self, name: &str) -> bool {
        let is_map = name.starts_with("layers.") && !name.contains("norm.");
        self == Self::Gpt2 && is_map && name.ends_with(".weight")
    }
}

/// Tensors that older versions saved and that say nothing: masks, and angles that the configuration gives.
fn is_buffer(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The weights of a folder, checked to fit.
pub(super) fn weights(
    kind: Kind,
    config: &DecoderConfig,
    tensors: BTreeMap<String, Raw>,
) -> Result<Weights> {
    let mut weights = Weights::default();
    for (name, raw) in tensors {
        if is_buffer(&name) {
            continue;
        }
        let placed = raw.matrix().and_then(|matrix| place(kind, config, &name, &matrix));
        for (ours, matrix) in placed.with_context(|| format!("tensor {}", shown(&name)))? {
            let other = weights.0.insert(ours, matrix);
            ensure!(other.is_none(), "tensor {} stands there under another name too", shown(&name));
        }
    }
    if config.tied
        && let Some(head) = weights.0.remove("head.weight")
    {
        let embedding = weights.0.entry("embedding.weight".into()).or_insert_with(|| head.clone());
        let is_same = embedding.bytes() == head.bytes();
        ensure!(
            is_same,
            "tensor \"lm_head.weight\" is not the embedding, but tie_word_embeddings is true"
        );
    }
    weights.ensure_fit(config)?;
    Ok(weights)
}

/// A tensor under our name, or its three parts; under its own where nobody knows it, to be refused by it.
fn place(
    kind: Kind,
    config: &DecoderConfig,
    name: &str,
    matrix: &Encoded,
) -> Result<Vec<(String, Encoded)>> {
    let ours = kind.ours(name).unwrap_or_else(|| name.to_owned());
    let matrix = if kind.is_transposed(&ours) { transposed(matrix) } else { matrix.clone() };
    let Some((before, end)) = ours.split_once(FUSED) else { return Ok(vec![(ours, matrix)]) };
    let width = config.d_model as usize;
    let is_bias = end == ".bias";
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let values = if is_bias { columns } else { rows };
    ensure!(
        Some(values) == width.checked_mul(3),
        "has {values} outputs, the configuration needs 3 x {width}"
    );
    let part = |i: usize| {
        if !is_bias {
            return matrix.rows_at(i * width..(i + 1) * width);
        }
        let bytes = matrix.bytes();
        let size = bytes.len() / 3;
        let bytes = Bytes::from(bytes[i * size..(i + 1) * size].to_vec());
        Encoded::new(1, width, matrix.encoding(), bytes).expect("a third of the vector")
    };
    let named = |(i, name): (usize, &str)| (format!("{before}attention.{name}{end}"), part(i));
    Ok(PARTS.into_iter().enumerate().map(named).collect())
}

/// `[columns, rows]` of plain numbers.
pub(super) fn transposed(matrix: &Encoded) -> Encoded {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let (_, size) = matrix.encoding().block();
    let bytes = if size == 2 {
        transpose::<2>(matrix.bytes(), rows, columns)
    } else {
        transpose::<4>(matrix.bytes(), rows, columns)
    };
    Encoded::new(columns, rows, matrix.encoding(), bytes.into()).expect("as many plain numbers")
}

/// Numbers of S bytes, tile by tile: neighbours are read and written together.
fn transpose<const S: usize>(from: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    const TILE: usize = 32;
    let mut to = vec![0; from.len()];
    let (from, out) = (from.as_chunks::<S>().0, to.as_chunks_mut::<S>().0);
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for column in left..(left + TILE).min(columns) {
                for row in top..(top + TILE).min(rows) {
                    out[column * rows + row] = from[row * columns + column];
                }
            }
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (kind, theirs, ours) in [
            (Kind::Gpt2, "transformer.wte.weight", "embedding.weight"),
            (Kind::Gpt2, "transformer.h.11.mlp.c_proj.bias", "layers.11.feed_forward.down.bias"),
            (Kind::Gpt2, "lm_head.weight", "head.weight"),
            (Kind::Llama, "model.norm.weight", "norm.weight"),
            (
                Kind::Llama,
                "model.layers.0.self_attn.k_proj.weight",
                "layers.0.attention.key.weight",
            ),
            (Kind::Llama, "lm_head.weight", "head.weight"),
        ] {
            assert_eq!(kind.ours(theirs).as_deref(), Some(ours));
            assert_eq!(kind.theirs(ours).as_deref(), Some(theirs));
        }
        assert_eq!(
            Kind::Gpt2.ours("h.0.ln_1.bias").as_deref(),
            Some("layers.0.attention_norm.bias")
        );
        assert_eq!(Kind::Gpt2.ours("h.0.ln_9.bias"), None);
    }

    #[test]
    fn transposing_moves_every_number() {
        for (rows, columns) in [(1, 5), (33, 65), (64, 31)] {
            let values: Vec<f32> = (0..rows * columns).map(|it| it as f32).collect();
            let matrix = Encoded::from_f32(rows, columns, &values);
            for matrix in [matrix.encode(core_layers::encoded::Encoding::Bf16).unwrap(), matrix] {
                let (from, to) = (matrix.to_f32(), transposed(&matrix));
                assert_eq!((to.rows(), to.columns()), (columns, rows));
                let to = to.to_f32();
                for row in 0..rows {
                    for column in 0..columns {
                        assert_eq!(to[column * rows + row], from[row * columns + column]);
                    }
                }
            }
        }
    }
}
