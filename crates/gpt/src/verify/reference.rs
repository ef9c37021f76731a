//! What another program computed: `tokens`, `logits` and hidden layers in a safetensors file.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::checkpoint::map_file;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Kind, Tensor};

use crate::config::DecoderConfig;

/// Tokens, and what another program makes of them.
#[derive(Debug)]
pub struct Reference {
    /// `[B, T]`.
    pub tokens: Tensor,
    /// `[B, T, V]`, f32.
    pub logits: Tensor,
    /// By layer, `[B, T, D]`, f32: 0 the embeddings, L behind the last norm.
    pub hidden: BTreeMap<usize, Tensor>,
}

impl Reference {
    /// Reads a file; what it holds must fit the model.
    ///
    /// # Errors
    /// One line that names file and tensor.
    pub fn open(path: &Path, config: &DecoderConfig) -> Result<Self> {
        let bytes = map_file(path)?;
        Self::parse(&bytes, config).with_context(|| path.display().to_string())
    }

    /// The same of a file's bytes.
    ///
    /// # Errors
    /// One line that names the tensor.
    pub fn parse(bytes: &[u8], config: &DecoderConfig) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).context("is no safetensors file")?;
        let of =
            |name: &str| file.tensor(name).with_context(|| format!("tensor {name:?} is missing"));
        let view = of("tokens")?;
        let [rows, time] = view.shape()[..] else {
            bail!("tensor \"tokens\" has shape {:?}, but must be [B, T]", view.shape());
        };
        let fits = rows >= 1 && (1..=config.context).contains(&(time as i64));
        ensure!(
            fits,
            "tensor \"tokens\" has shape [{rows}, {time}], but must be [at least 1, 1 to {}]",
            config.context
        );
        let tokens = tokens(&view, config.vocabulary)?.view([rows as i64, time as i64]);
        let floats = |name: &str, width: i64| {
            let view = of(name)?;
            let wanted = [rows, time, width as usize];
            let shape = view.shape();
            ensure!(shape == wanted, "tensor {name:?} has shape {shape:?}, but must be {wanted:?}");
            floats(name, &view)
        };
        let logits = floats("logits", config.vocabulary)?;
        let mut hidden = BTreeMap::new();
        for name in file.names() {
            let Some(layer) = name.strip_prefix("hidden.") else { continue };
            let layer = layer.parse().ok().filter(|&it: &usize| it as i64 <= config.layers);
            let layer = layer.with_context(|| {
                format!("tensor {name:?} is none of hidden.0 to hidden.{}", config.layers)
            })?;
            hidden.insert(layer, floats(name, config.d_model)?);
        }
        Ok(Self { tokens, logits, hidden })
    }
}

fn tokens(view: &TensorView<'_>, vocabulary: i64) -> Result<Tensor> {
    let data = view.data();
    let tokens: Vec<i64> = match view.dtype() {
        Dtype::I64 => {
            let (chunks, _) = data.as_chunks();
            chunks.iter().map(|&it| i64::from_le_bytes(it)).collect()
        }
        Dtype::I32 => {
            let (chunks, _) = data.as_chunks();
            chunks.iter().map(|&it| i64::from(i32::from_le_bytes(it))).collect()
        }
        other => bail!("tensor \"tokens\" holds {other}, but must hold I64 or I32"),
    };
    let foreign = tokens.iter().find(|token| !(0..vocabulary).contains(token));
    if let Some(token) = foreign {
        bail!("tensor \"tokens\": a token is {token}, but must be 0..={}", vocabulary - 1);
    }
    Ok(Tensor::from_slice(&tokens))
}

fn floats(name: &str, view: &TensorView<'_>) -> Result<Tensor> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F64 => Kind::Double,
        other => bail!("tensor {name:?} holds {other}, but must hold one of F32, F16, BF16, F64"),
    };
    let shape: Vec<i64> = view.shape().iter().map(|&axis| axis as i64).collect();
    let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
        .with_context(|| format!("tensor {name:?}"))?;
    Ok(tensor.to_kind(Kind::Float))
}
