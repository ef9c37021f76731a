//! What learns: a decoder from its first weights, one that has learnt before, or adapters on it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use core_layers::{
    checkpoint::Checkpoint,
    run::{LAST, RunFolder},
    training::{TrainConfig, TrainState, reseed},
};
use tch::{Device, Tensor, nn};

use super::Adapters;
use crate::{
    config::{DecoderConfig, LoraConfig, Run},
    data::{self, DataConfig, Dataset},
    evaluate::Batch,
    model::Decoder,
    text::Tokenizer,
    trained::{self, About},
    weights::Weights,
};

/// What a run starts from, where that is not the seed alone.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Weights that have learnt before; they must be of the run's model.
    pub weights: Option<Weights>,
    /// How text is cut; without it, as the data's configuration says.
    pub tokenizer: Option<Tokenizer>,
    /// How it is prompted, as metadata says it: what it learns now changes neither stops nor chat template.
    pub prompt: Option<String>,
    /// Adapters, where only these are trained.
    pub lora: Option<LoraConfig>,
}

impl Origin {
    /// What `folder` goes on from: tokenizer, prompt and adapters of its last save, else `given`, else nothing.
    pub(super) fn of(folder: &RunFolder, given: Option<&Self>) -> Result<Self> {
        let path = folder.file(LAST);
        if !path.exists() {
            return Ok(given.cloned().unwrap_or_default());
        }
        let metadata = Checkpoint::load(&path)?.metadata;
        let lora = metadata.get(trained::LORA).map(|json| serde_json::from_str(json));
        let lora = lora.transpose().with_context(|| format!("{}: its adapters", path.display()))?;
        let tokenizer = metadata.get(trained::TOKENIZER).map(|json| Tokenizer::from_json(json));
        let tokenizer = tokenizer
            .transpose()
            .map_err(|error| anyhow!("{}: its tokenizer {error:#}", path.display()))?;
        Ok(Self { weights: None, tokenizer, prompt: metadata.get(trained::PROMPT).cloned(), lora })
    }

    /// The text that a configuration names, cut by the tokenizer that is there already, if one is.
    pub(super) fn dataset(&self, config: &DataConfig) -> Result<Dataset> {
        match &self.tokenizer {
            None => data::load(config),
            Some(tokenizer) => {
                let auto = DataConfig { tokenizer: "auto".into(), ..config.clone() };
                data::load_for(&auto, Some(tokenizer))
            }
        }
    }
}

/// A decoder between two steps.
#[derive(Debug)]
pub(super) struct Learner {
    vs: nn::VarStore,
    decoder: Decoder,
    adapters: Option<Adapters>,
    best: Option<f64>, // bits a byte
}

impl Learner {
    /// Before the first step.
    pub(super) fn new(run: &Run, origin: &Origin, device: Device) -> Result<Self> {
        tch::manual_seed(run.train.seed as i64);
        let mut vs = nn::VarStore::new(device);
        let decoder = Decoder::new(&vs.root(), &run.model)?;
        if let Some(weights) = &origin.weights {
            decoder.copy_from(weights)?;
        }
        let adapters = match &origin.lora {
            Some(lora) => {
                vs.freeze();
                Some(Adapters::new(&decoder, lora)?)
            }
            None => None,
        };
        Ok(Self { vs, decoder, adapters, best: None })
    }

    /// What it carries from step to step.
    pub(super) fn state<'r>(
        &self,
        folder: &'r RunFolder,
        about: About,
    ) -> TrainState<'r, DecoderConfig, DataConfig> {
        match &self.adapters {
            None => TrainState::new(folder, &self.vs, about),
            Some(it) => TrainState::adapting(folder, it.parameters(), it.base(), about),
        }
    }

    /// Adds the gradients of a batch, windows of `time + 1` tokens; returns its mean loss in nats a token, in which a z-loss
    /// does not count.
    ///
    /// Each part is weighted by its predictions, so that however many parts there are the gradient is that of the whole.
    pub(super) fn backward(
        &mut self,
        config: &TrainConfig,
        tokens: &[i64],
        time: usize,
        step: u64,
    ) -> f64 {
        let device = self.decoder.device();
        let windows = tokens.len() / (time + 1);
        let part = windows.div_ceil(config.micro_batches) * (time + 1);
        let mut loss = 0.;
        for (index, tokens) in tokens.chunks(part).enumerate() {
            reseed(config.seed, step, index);
            if let Some(adapters) = &self.adapters {
                adapters.apply(&mut self.decoder);
            }
            let batch = Batch::of(tokens, time, device);
            let autocast = config.precision.autocast(device);
            let means = batch.sums(&self.decoder, true).map(|it| it / (windows * time) as f64);
            drop(autocast);
            let [nats, squares] = means;
            if config.z_loss > 0. {
                (&nats + squares * config.z_loss).backward();
            } else {
                nats.backward();
            }
            loss += nats.double_value(&[]);
        }
        loss
    }

    /// Takes in the last step and keeps no graph: before the decoder is used for anything but a step.
    pub(super) fn rest(&mut self) {
        if let Some(adapters) = &self.adapters {
            tch::no_grad(|| adapters.apply(&mut self.decoder));
        }
    }

    /// The decoder, as it was when it last rested.
    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Whether adapters are trained, not the weights.
    pub(super) fn adapts(&self) -> bool {
        self.adapters.is_some()
    }

    /// The weights to use, by name.
    pub(super) fn weights(&self) -> BTreeMap<String, Tensor> {
        let all = self.decoder.tensors().into_iter();
        all.map(|(name, weight)| (name, weight.detach())).collect()
    }

    /// Remembers the least bits a byte in validation.
    pub(super) fn found(&mut self, bits_per_byte: f64) {
        self.best = Some(bits_per_byte);
    }

    /// The same in words, behind others.
    pub(super) fn best(&self) -> String {
        self.best.map_or_else(String::new, |bits| format!(" (valid {bits:.3})"))
    }
}
