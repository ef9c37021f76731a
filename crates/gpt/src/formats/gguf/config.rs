//! Metadata to the configuration of a decoder.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::training::Part as _;

use super::{cursor::shown, read::Gguf, tensors, value::Value};
use crate::config::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling};

/// Keys of an architecture that are read, or that change nothing.
const KNOWN: [&str; 22] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.causal",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
];

/// Metadata, asked for by key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a BTreeMap<&'a str, Value<'a>>);

impl<'a> Fields<'a> {
    /// A value that `take` takes, or none where there is no such key.
    fn of<T>(
        self,
        key: &str,
        rule: &str,
        take: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(&value) = self.0.get(key) else { return Ok(None) };
        Ok(Some(take(value).with_context(|| format!("{key} is {value}, but must be {rule}"))?))
    }

    pub(super) fn text(self, key: &str) -> Result<Option<&'a str>> {
        self.of(key, "a text", |it| if let Value::Text(text) = it { Some(text) } else { None })
    }

    pub(super) fn bool(self, key: &str) -> Result<Option<bool>> {
        self.of(key, "true or false", |it| if let Value::Bool(x) = it { Some(x) } else { None })
    }

    pub(super) fn token(self, key: &str) -> Result<Option<u32>> {
        let token = |it| if let Value::Whole(x) = it { u32::try_from(x).ok() } else { None };
        self.of(key, "the number of a token", token)
    }

    pub(super) fn entries<T>(
        self,
        key: &str,
        entry: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        value.entries(entry).with_context(|| key.to_owned()).map(Some)
    }

    fn number(self, key: &str) -> Result<Option<f64>> {
        self.of(key, "a number", |it| match it {
            Value::Float(x) => Some(x),
            Value::Whole(x) => Some(x as f64),
            _ => None,
        })
    }

    /// A size; where each layer has its own, they must be equal.
    fn size(self, key: &str) -> Result<Option<i64>> {
        let whole = |it| if let Value::Whole(x) = it { i64::try_from(x).ok() } else { None };
        if !matches!(self.0.get(key), Some(Value::Array { .. })) {
            return self.of(key, "a whole number", whole);
        }
        let all = self.entries(key, whole)?.unwrap_or_default();
        let first = all.first().copied();
        ensure!(
            all.iter().all(|&it| Some(it) == first),
            "{key} differs from layer to layer, but must not"
        );
        Ok(first)
    }
}

/// The decoder that a file holds.
pub(super) fn read(gguf: &Gguf<'_>) -> Result<DecoderConfig> {
    let fields = Fields(&gguf.metadata);
    let architecture =
        fields.text("general.architecture")?.context("general.architecture is missing")?;
    let is_llama = match architecture {
        "llama" => true,
        "gpt2" => false,
        other => bail!("general.architecture is {}, but must be one of llama, gpt2", shown(other)),
    };
    for (key, value) in fields.0 {
        let own = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.'));
        let is_known = own.is_none_or(|key| KNOWN.contains(&key));
        ensure!(
            is_known,
            "{} is {value}, but must be left out: nobody here knows what it changes",
            shown(key)
        );
    }
    let key = |key: &str| format!("{architecture}.{key}");
    let size = |name: &str| fields.size(&key(name));
    let needed = |name: &str| size(name)?.with_context(|| format!("{} is missing", key(name)));
    let experts = size("expert_count")?.unwrap_or(0);
    ensure!(
        experts == 0,
        "{} is {experts}, but must be 0: mixtures are not known",
        key("expert_count")
    );
    let causal = fields.bool(&key("attention.causal"))?;
    ensure!(causal != Some(false), "{} is false, but must be true", key("attention.causal"));

    let d_model = needed("embedding_length")?;
    let heads = needed("attention.head_count")?;
    let of_heads = d_model.checked_div(heads).unwrap_or(0);
    let d_head = size("attention.key_length")?.unwrap_or(of_heads);
    let d_value = size("attention.value_length")?.unwrap_or(of_heads);
    ensure!(
        d_head == d_value,
        "{} is {d_value}, but must be that of keys, {d_head}",
        key("attention.value_length")
    );
    let epsilon = key(if is_llama {
        "attention.layer_norm_rms_epsilon"
    } else {
        "attention.layer_norm_epsilon"
    });
    let embedding = gguf.tensors.get(tensors::EMBEDDING);
    let embedding =
        embedding.with_context(|| format!("tensor {:?} is missing", tensors::EMBEDDING))?;
    let vocabulary = embedding.rows() as i64;
    let said = size("vocab_size")?.unwrap_or(vocabulary);
    ensure!(
        said == vocabulary,
        "{} is {said}, but the embedding has {vocabulary} rows",
        key("vocab_size")
    );
    let context = needed("context_length")?;
    let config = DecoderConfig {
        vocabulary,
        context,
        layers: needed("block_count")?,
        d_model,
        heads,
        kv_heads: size("attention.head_count_kv")?.unwrap_or(heads),
        d_head,
        d_ff: needed("feed_forward_length")?,
        norm: if is_llama { Norm::RmsNorm } else { Norm::LayerNorm },
        norm_epsilon: shortest(
            fields.number(&epsilon)?.with_context(|| format!("{epsilon} is missing"))?,
        ),
        positions: if is_llama { rope(gguf, &key, d_head)? } else { Positions::Learned },
        feed_forward: if is_llama { FeedForward::SwiGlu } else { FeedForward::GeluTanh },
        attention: Attention::Dense,
        biases: gguf.tensors.keys().any(|name| name.ends_with("attn_output.bias")),
        tied: !gguf.tensors.contains_key(tensors::HEAD),
        dropout: 0.,
        initial_std: 0.02,
        start: super::text::start(fields, vocabulary)?,
    };
    config.validate()?;
    Ok(config)
}

/// The number that was meant by one that was stored in single precision: 1e-5, not 9.999999747378752e-6.
fn shortest(x: f64) -> f64 {
    let single = x as f32;
    if f64::from(single) == x { single.to_string().parse().unwrap_or(x) } else { x }
}

/// Rotations: their base, and how they are stretched.
fn rope(gguf: &Gguf<'_>, key: &impl Fn(&str) -> String, d_head: i64) -> Result<Positions> {
    let fields = Fields(&gguf.metadata);
    let turned = fields.size(&key("rope.dimension_count"))?.unwrap_or(d_head);
    let name = key("rope.dimension_count");
    ensure!(turned == d_head, "{name} is {turned}, but must be the width of a head, {d_head}");
    let theta = shortest(fields.number(&key("rope.freq_base"))?.unwrap_or(10_000.));
    let factor =
        fields.number(&key("rope.scaling.factor"))?.or(fields.number(&key("rope.scale_linear"))?);
    let kind = key("rope.scaling.type");
    let scaling = match (fields.text(&kind)?, factor) {
        (None | Some("none"), None) | (Some("none"), _) | (None, Some(1.)) => Scaling::None,
        (None | Some("linear"), Some(factor)) => Scaling::Linear { factor: shortest(factor) },
        (Some("linear"), None) => bail!("{} is missing", key("rope.scaling.factor")),
        (Some(other), _) => bail!("{kind} is {}, but must be one of none, linear", shown(other)),
    };
    let Some(factors) = gguf.tensors.get(tensors::FACTORS) else {
        return Ok(Positions::Rope { theta, scaling });
    };
    ensure!(
        scaling == Scaling::None,
        "tensor {:?} and {kind} exclude each other",
        tensors::FACTORS
    );
    let scaling = llama3(&factors.to_f32(), theta, d_head)?;
    Ok(Positions::Rope { theta, scaling })
}

/// The scaling of LLaMA 3.1 and later that these divisors of frequencies are the outcome of.
fn llama3(factors: &[f32], theta: f64, d_head: i64) -> Result<Scaling> {
    let name = tensors::FACTORS;
    let pairs = d_head / 2;
    ensure!(
        factors.len() as i64 == pairs,
        "tensor {name:?} has {} values, but must have {pairs}",
        factors.len()
    );
    if factors.iter().all(|&it| it == 1.) {
        return Ok(Scaling::None);
    }
    let scaling = Scaling::Llama3 {
        factor: f64::from(factors.iter().copied().fold(1., f32::max)),
        low_frequency_factor: 1.,
        high_frequency_factor: 4.,
        original_context: 8192,
    };
    for (pair, &found) in factors.iter().enumerate() {
        let frequency = theta.powf(-2. * pair as f64 / d_head as f64);
        let wanted = frequency / scaling.of(frequency);
        ensure!(
            (f64::from(found) - wanted).abs() <= 1e-3 * wanted,
            "tensor {name:?} is {found} at {pair}, but must be {wanted:.4} as in LLaMA 3.1: other divisors are not known"
        );
    }
    Ok(scaling)
}
