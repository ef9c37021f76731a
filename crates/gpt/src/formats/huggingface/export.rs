//! A model as a folder that transformers opens.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use anyhow::{Context as _, Result};
use core_layers::{
    ConfigError,
    checkpoint::write_atomic,
    encoded::{Encoded, Encoding},
    run,
};
use safetensors::Dtype;
use serde_json::{Value, json};

use super::{
    config::Kind,
    names::{FUSED, PARTS, transposed},
    surroundings::{self, pretty},
};
use crate::{
    config::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling},
    formats::{
        Delivered,
        safetensors::{Entry, rows_as, write},
    },
    weights::is_vector,
};

/// Writes a model to a folder, its weights in one plain encoding; none takes that in which all are, else f32, so that
/// nothing is lost. What else lies in the folder stays.
///
/// # Errors
/// [`ConfigError`] for a decoder that transformers has no class for, or an encoding that is not plain; or a folder that
/// cannot be written to.
pub fn export(model: &Delivered, folder: &Path, encoding: Option<Encoding>) -> Result<()> {
    let kind = kind(&model.config)?;
    let encoding = encoding.unwrap_or_else(|| common(model));
    let dtype = match encoding {
        Encoding::F32 => Dtype::F32,
        Encoding::F16 => Dtype::F16,
        Encoding::Bf16 => Dtype::BF16,
        other => {
            return Err(ConfigError::one_of("--encoding", other, &["f32", "f16", "bf16"]).into());
        }
    };
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut entries = BTreeMap::new();
    for (name, parts) in parts(model, kind) {
        let theirs = kind.theirs(&name).expect("a name for every weight of the class");
        let entry = match (is_vector(&name), kind.is_transposed(&name)) {
            (true, _) => vector(parts, encoding, dtype),
            (_, false) => matrix(parts[0], encoding, dtype),
            (_, true) => turned(parts, encoding, dtype),
        };
        entries.insert(theirs, entry);
    }
    let metadata = BTreeMap::from([("format".into(), "pt".into())]);
    write(&folder.join(run::MODEL), &metadata, &entries)?;
    for (name, text) in surroundings::files(model) {
        write_atomic(&folder.join(name), text.as_bytes())?;
    }
    let config = config(kind, model, encoding);
    write_atomic(&folder.join(super::CONFIG), pretty(&config).as_bytes())?;
    Ok(())
}

/// The plain encoding in which all weights are, or f32.
fn common(model: &Delivered) -> Encoding {
    let mut all = model.weights.0.values().map(Encoded::encoding);
    let first = all.next().filter(|it| matches!(it, Encoding::F16 | Encoding::Bf16));
    first.filter(|&first| all.all(|it| it == first)).unwrap_or(Encoding::F32)
}

/// The tensors of a class, under our names, each of one weight or of three.
fn parts(model: &Delivered, kind: Kind) -> Vec<(String, Vec<&Encoded>)> {
    let mut all = Vec::new();
    for (name, matrix) in &model.weights.0 {
        let part = PARTS.into_iter().find_map(|it| {
            let (before, end) = name.split_once(&format!("attention.{it}."))?;
            Some((it, before, end))
        });
        match part.filter(|_| kind == Kind::Gpt2) {
            None => all.push((name.clone(), vec![matrix])),
            Some(("query", before, end)) => {
                let parts =
                    PARTS.map(|it| model.weights.of(&format!("{before}attention.{it}.{end}")));
                all.push((format!("{before}{FUSED}.{end}"), parts.to_vec()));
            }
            Some(_) => {} // with its query
        }
    }
    all
}

/// Vectors side by side.
fn vector(parts: Vec<&Encoded>, encoding: Encoding, dtype: Dtype) -> Entry<'_> {
    let shape = vec![parts.iter().map(|it| it.columns()).sum()];
    let fill =
        move |out: &mut dyn Write| parts.iter().try_for_each(|it| rows_as(it, encoding, out));
    Entry { dtype, shape, fill: Box::new(fill) }
}

fn matrix(matrix: &Encoded, encoding: Encoding, dtype: Dtype) -> Entry<'_> {
    let shape = vec![matrix.rows(), matrix.columns()];
    Entry { dtype, shape, fill: Box::new(move |out| rows_as(matrix, encoding, out)) }
}

/// Matrices above each other, transposed.
fn turned(parts: Vec<&Encoded>, encoding: Encoding, dtype: Dtype) -> Entry<'_> {
    let (rows, columns) = (parts.iter().map(|it| it.rows()).sum(), parts[0].columns());
    let fill = move |out: &mut dyn Write| {
        let values: Vec<f32> = parts.iter().flat_map(|it| it.to_f32()).collect();
        rows_as(&transposed(&Encoded::from_f32(rows, columns, &values)), encoding, out)
    };
    Entry { dtype, shape: vec![columns, rows], fill: Box::new(fill) }
}

/// The class that holds a decoder.
fn kind(config: &DecoderConfig) -> Result<Kind, ConfigError> {
    let rule = |rule: &str| format!("{rule}, since no class of transformers is otherwise");
    let refuse =
        |field: &str, value: Value, must: &str| Err(ConfigError::new(field, value, rule(must)));
    if config.attention != Attention::Dense {
        return refuse("model.attention", json!(config.attention), "dense");
    }
    if config.norm == Norm::RmsNorm {
        if config.positions == Positions::Learned {
            return refuse("model.positions", json!(config.positions), "rope beside rms_norm");
        }
        if config.feed_forward != FeedForward::SwiGlu {
            return refuse(
                "model.feed_forward",
                json!(config.feed_forward),
                "swi_glu beside rms_norm",
            );
        }
        return Ok(Kind::Llama);
    }
    if config.positions != Positions::Learned {
        return refuse("model.positions", json!(config.positions), "learned beside layer_norm");
    }
    if config.feed_forward == FeedForward::SwiGlu {
        return refuse("model.feed_forward", json!(config.feed_forward), "gelu beside layer_norm");
    }
    if !config.biases {
        return refuse("model.biases", json!(config.biases), "true beside layer_norm");
    }
    if config.kv_heads != config.heads {
        return refuse("model.kv_heads", json!(config.kv_heads), "model.heads beside layer_norm");
    }
    if config.d_query() != config.d_model {
        return refuse("model.d_head", json!(config.d_head), "d_model / heads beside layer_norm");
    }
    Ok(Kind::Gpt2)
}

/// `config.json`, in the fields that transformers 4 and 5 both read.
fn config(kind: Kind, model: &Delivered, encoding: Encoding) -> Value {
    let config = &model.config;
    let torch_dtype = match encoding {
        Encoding::F16 => "float16",
        Encoding::Bf16 => "bfloat16",
        _ => "float32",
    };
    let mut all = json!({
        "architectures": [kind.class()],
        "model_type": kind.name(),
        "torch_dtype": torch_dtype,
        "vocab_size": config.vocabulary,
        "tie_word_embeddings": config.tied,
        "initializer_range": config.initial_std,
        "bos_token_id": config.start,
        "eos_token_id": model.stops.first(),
        "use_cache": true,
    });
    let own = match kind {
        Kind::Gpt2 => json!({
            "n_positions": config.context,
            "n_layer": config.layers,
            "n_embd": config.d_model,
            "n_head": config.heads,
            "n_inner": config.d_ff,
            "activation_function": if config.feed_forward == FeedForward::Gelu { "gelu" } else { "gelu_new" },
            "layer_norm_epsilon": config.norm_epsilon,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
        }),
        Kind::Llama => {
            let (theta, scaling) = rope(config);
            json!({
                "max_position_embeddings": config.context,
                "num_hidden_layers": config.layers,
                "hidden_size": config.d_model,
                "num_attention_heads": config.heads,
                "num_key_value_heads": config.kv_heads,
                "head_dim": config.d_head,
                "intermediate_size": config.d_ff,
                "hidden_act": "silu",
                "rms_norm_eps": config.norm_epsilon,
                "attention_bias": config.biases,
                "mlp_bias": config.biases,
                "rope_theta": theta,
                "rope_scaling": scaling,
            })
        }
    };
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    all
}

/// `rope_theta` and `rope_scaling`.
fn rope(config: &DecoderConfig) -> (f64, Value) {
    let Positions::Rope { theta, scaling } = config.positions else {
        return (10_000., Value::Null);
    };
    let scaling = match scaling {
        Scaling::None => Value::Null,
        Scaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        Scaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_frequency_factor,
            "high_freq_factor": high_frequency_factor,
            "original_max_position_embeddings": original_context,
        }),
    };
    (theta, scaling)
}
