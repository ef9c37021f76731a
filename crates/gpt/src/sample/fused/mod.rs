//! The decoder without libtorch: weights as they were delivered, products of integers, one pass over the weights a token.
//!
//! The same function as [`crate::model`] up to rounding: activations are rounded to eight bits in groups where weights are
//! integers, keys and values to halves (to singles, if a matrix has them). A row's logits are the same bits whatever the
//! rows beside it, however its tokens were fed, and with any number of threads.

mod layer;
mod pass;
mod session;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;

use anyhow::{Context as _, Result};
use core_layers::{
    ConfigError,
    encoded::{Encoded, Encoding},
    kernels::{
        decode::{Norm, Numbers, Packed},
        exact::Variant,
    },
    training::Part as _,
};

use self::{
    layer::{Layer, norm},
    session::FusedSession,
};
use super::{Decode, Session};
use crate::{
    config::{DecoderConfig, Positions},
    weights::Weights,
};

/// What a [`FusedEngine`] may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FusedOptions {
    /// Threads of a session. One is never slow; more are faster on cores that nobody else uses.
    pub threads: usize,
    /// Tokens that a row can hold, if fewer than the model's context: memory for keys and values is set aside for them.
    pub context: Option<usize>,
    /// Instructions.
    pub variant: Variant,
}

impl FusedOptions {
    /// One thread, the model's context, and the best instructions or those that `CHAINRULE_SIMD` names.
    ///
    /// # Errors
    /// If `CHAINRULE_SIMD` names no instructions of this processor.
    pub fn detect() -> Result<Self, ConfigError> {
        Ok(Self { threads: 1, context: None, variant: Variant::detect()? })
    }
}

/// A decoder on packed weights.
#[derive(Debug)]
pub struct FusedEngine {
    config: DecoderConfig,
    options: FusedOptions,
    embedding: Encoded,
    position: Option<Encoded>,
    layers: Vec<Layer>,
    norm: Norm,
    head: Packed,
    frequencies: Option<Vec<f64>>,
    numbers: Numbers,
}

impl FusedEngine {
    /// Packs weights. Of these only the embedding is kept besides, where it was.
    ///
    /// # Errors
    /// If the configuration is wrong, the weights are another model's, or memory is short.
    pub fn new(config: &DecoderConfig, weights: &Weights, options: FusedOptions) -> Result<Self> {
        config.validate()?;
        weights.ensure_fit(config)?;
        let threads = i64::try_from(options.threads).unwrap_or(i64::MAX);
        ConfigError::ensure((1..=1024).contains(&threads), "threads", threads, "1 to 1024")?;
        if let Some(context) = options.context {
            let fits = (1..=config.context).contains(&i64::try_from(context).unwrap_or(i64::MAX));
            let rule = format!("1 to the model's context of {}", config.context);
            ConfigError::ensure(fits, "context", context, &rule)?;
        }
        let names = layer::matrices(config);
        let matrices: Vec<&Encoded> = names.iter().map(|name| weights.of(name)).collect();
        let is_single = matrices.iter().any(|it| it.encoding() == Encoding::F32);
        let mut packed = Packed::all(&matrices, options.threads)
            .context("not enough memory for the weights")?
            .into_iter();
        let layers = (0..config.layers)
            .map(|index| Layer::new(config, weights, index, &mut packed))
            .collect();
        let head = packed.next().context("the head is the last matrix")?;
        Ok(Self {
            embedding: weights.of("embedding.weight").clone(),
            position: (config.positions == Positions::Learned)
                .then(|| weights.of("position.weight").clone()),
            layers,
            norm: norm(config, weights, "norm"),
            head,
            frequencies: config.frequencies(),
            numbers: if is_single { Numbers::F32 } else { Numbers::F16 },
            options,
            config: config.clone(),
        })
    }

    /// The configuration that it was built from.
    pub const fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Bytes of weights that are read for every token.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(Layer::bytes).sum::<usize>() + self.head.bytes()
    }
}

impl Decode for FusedEngine {
    fn vocabulary(&self) -> usize {
        self.config.vocabulary as usize
    }

    fn context(&self) -> usize {
        self.options.context.unwrap_or(self.config.context as usize)
    }

    fn session<'a>(&'a self, rows: usize) -> Box<dyn Session + 'a> {
        Box::new(FusedSession::new(self, rows))
    }
}
