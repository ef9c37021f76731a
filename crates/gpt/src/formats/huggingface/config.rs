//! `config.json` to the configuration of a decoder.

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::training::Part as _;
use serde_json::{Map, Value};

use super::fields::{Fields, refusal};
use crate::config::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling};

/// Which of transformers' classes a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gpt2,
    Llama,
}

impl Kind {
    /// The name of the class.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT2LMHeadModel",
            Self::Llama => "LlamaForCausalLM",
        }
    }

    /// `model_type`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
        }
    }
}

/// Fields that change nothing here: how a model is stored, called, trained or drawn from.
const HARMLESS: [&str; 35] = [
    "_name_or_path",
    "_num_labels",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "bos_token_id",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "id2label",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "model_type",
    "n_ctx",
    "name_or_path",
    "pad_token_id",
    "predict_special_tokens",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

/// The decoder that a `config.json` describes.
pub(super) fn read(object: &Map<String, Value>) -> Result<(Kind, DecoderConfig)> {
    let fields = Fields::new(object);
    let kind = kind(object)?;
    let config = match kind {
        Kind::Gpt2 => gpt2(&fields)?,
        Kind::Llama => llama(&fields)?,
    };
    fields.ensure_no_more(&HARMLESS)?;
    config.validate()?;
    Ok((kind, config))
}

fn kind(object: &Map<String, Value>) -> Result<Kind> {
    let class = object.get("architectures").and_then(|it| it.get(0));
    let (field, said) = match (class, object.get("model_type")) {
        (Some(class), _) => ("architectures[0]", class),
        (None, Some(name)) => ("model_type", name),
        (None, None) => bail!("architectures and model_type are missing: no model of transformers"),
    };
    for kind in [Kind::Gpt2, Kind::Llama] {
        if said == kind.class() || (class.is_none() && said == kind.name()) {
            return Ok(kind);
        }
    }
    bail!("{}", refusal(field, said, "one of GPT2LMHeadModel, LlamaForCausalLM"))
}

/// The token before a text: the start token, else the end token where it is only one, else 0. Numbers beyond the
/// vocabulary count as not given, since transformers writes GPT-2's own into every `config.json`.
fn start(fields: &Fields<'_>, vocabulary: i64) -> u32 {
    let token = |name| {
        let value = fields.value(name)?;
        let token = value.as_i64().filter(|it| (0..vocabulary).contains(it))?;
        u32::try_from(token).ok()
    };
    token("bos_token_id").or_else(|| token("eos_token_id")).unwrap_or(0)
}

fn gpt2(fields: &Fields<'_>) -> Result<DecoderConfig> {
    let (d_model, heads) = (fields.needed("n_embd")?, fields.needed("n_head")?);
    ensure!(
        heads > 0 && d_model % heads == 0,
        "n_head is {heads}, but must be a divisor of n_embd, {d_model}"
    );
    fields.must_be("scale_attn_weights", true)?;
    fields.must_be("scale_attn_by_inverse_layer_idx", false)?;
    fields.must_be("add_cross_attention", false)?;
    fields.flag("reorder_and_upcast_attn")?; // f32 it is here anyway
    let vocabulary = fields.needed("vocab_size")?;
    let feed_forward = match fields.text("activation_function")?.unwrap_or("gelu_new") {
        "gelu_new" | "gelu_pytorch_tanh" => FeedForward::GeluTanh,
        "gelu" => FeedForward::Gelu,
        other => bail!(
            "activation_function is {other:?}, but must be one of gelu_new, gelu_pytorch_tanh, gelu"
        ),
    };
    let context = fields.whole("n_positions")?.map_or_else(|| fields.needed("n_ctx"), Ok)?;
    let inner = fields.whole("n_inner")?.or_else(|| d_model.checked_mul(4));
    Ok(DecoderConfig {
        vocabulary,
        context,
        layers: fields.needed("n_layer")?,
        d_model,
        heads,
        kv_heads: heads,
        d_head: d_model / heads,
        d_ff: inner.context("n_embd is too large")?,
        norm: Norm::LayerNorm,
        norm_epsilon: fields.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        positions: Positions::Learned,
        feed_forward,
        attention: Attention::Dense,
        biases: true,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        dropout: fields.number("resid_pdrop")?.unwrap_or(0.1),
        initial_std: fields.number("initializer_range")?.filter(|&it| it > 0.).unwrap_or(0.02),
        start: start(fields, vocabulary),
    })
}

fn llama(fields: &Fields<'_>) -> Result<DecoderConfig> {
    let (d_model, heads) = (fields.needed("hidden_size")?, fields.needed("num_attention_heads")?);
    let of_heads =
        d_model.checked_div(heads).context("num_attention_heads is 0, but must be at least 1")?;
    let act = fields.text("hidden_act")?.unwrap_or("silu");
    ensure!(matches!(act, "silu" | "swish"), "hidden_act is {act:?}, but must be silu");
    fields.must_be("rope_interleaved", false)?;
    let biases = fields.flag("attention_bias")?.unwrap_or(false);
    let others = fields.flag("mlp_bias")?.unwrap_or(false);
    ensure!(biases == others, "mlp_bias is {others}, but must be what attention_bias is, {biases}");
    let vocabulary = fields.needed("vocab_size")?;
    Ok(DecoderConfig {
        vocabulary,
        context: fields.whole("max_position_embeddings")?.unwrap_or(2048),
        layers: fields.needed("num_hidden_layers")?,
        d_model,
        heads,
        kv_heads: fields.whole("num_key_value_heads")?.unwrap_or(heads),
        d_head: fields.whole("head_dim")?.unwrap_or(of_heads),
        d_ff: fields.needed("intermediate_size")?,
        norm: Norm::RmsNorm,
        norm_epsilon: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        positions: rope(fields)?,
        feed_forward: FeedForward::SwiGlu,
        attention: Attention::Dense,
        biases,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        dropout: 0.,
        initial_std: fields.number("initializer_range")?.filter(|&it| it > 0.).unwrap_or(0.02),
        start: start(fields, vocabulary),
    })
}

/// Rotary positions: `rope_parameters` of transformers 5, or `rope_theta` and `rope_scaling` of those before.
fn rope(fields: &Fields<'_>) -> Result<Positions> {
    let outer = fields.number("rope_theta")?;
    let original = fields.whole("original_max_position_embeddings")?;
    let (new, old) = (fields.object("rope_parameters")?, fields.object("rope_scaling")?);
    let Some(object) = new.or(old) else {
        return Ok(Positions::Rope { theta: outer.unwrap_or(10_000.), scaling: Scaling::None });
    };
    let name = if new.is_some() { "rope_parameters" } else { "rope_scaling" };
    let (theta, scaling) =
        scaling(&Fields::new(object), original).with_context(|| name.to_owned())?;
    Ok(Positions::Rope { theta: theta.or(outer).unwrap_or(10_000.), scaling })
}

fn scaling(fields: &Fields<'_>, original: Option<i64>) -> Result<(Option<f64>, Scaling)> {
    let theta = fields.number("rope_theta")?;
    let kinds = (fields.text("rope_type")?, fields.text("type")?);
    let number = |name: &str| fields.number(name)?.with_context(|| format!("{name} is missing"));
    let context = fields.whole("original_max_position_embeddings")?.or(original);
    let whole = fields.number("partial_rotary_factor")?.unwrap_or(1.);
    ensure!(whole == 1., "partial_rotary_factor is {whole}, but must be 1");
    let scaling = match kinds.0.or(kinds.1).unwrap_or("default") {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: number("factor")? },
        "llama3" => Scaling::Llama3 {
            factor: number("factor")?,
            low_frequency_factor: number("low_freq_factor")?,
            high_frequency_factor: number("high_freq_factor")?,
            original_context: context.context("original_max_position_embeddings is missing")?,
        },
        other => bail!("rope_type is {other:?}, but must be one of default, linear, llama3"),
    };
    fields.ensure_no_more(&[])?;
    Ok((theta, scaling))
}
