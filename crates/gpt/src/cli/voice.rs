//! A model that is ready to write.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Result;
use clap::{Args, ValueEnum as _};
use core_layers::{
    ConfigError,
    checkpoint::Weights,
    device::{DeviceChoice, physical_cores, set_threads},
};
use tch::Device;

use crate::{
    formats::{self, Delivered},
    sample::{self, Decode, Draft, EngineChoice, EngineOptions, GenerationConfig, Writer},
    text::Tokenizer,
};

/// Which model writes, and by what.
#[derive(Debug, Args)]
pub(super) struct VoiceArgs {
    /// A run folder, a checkpoint, a Hugging Face folder or a .gguf.
    model: PathBuf,
    /// Which of its weights, where it has several.
    #[arg(long, value_enum, default_value_t = Weights::Ema)]
    weights: Weights,
    /// What computes.
    #[arg(long, value_enum, default_value_t = EngineChoice::Fused)]
    engine: EngineChoice,
    /// Where libtorch computes; the other engines are the CPU's.
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// Threads; 0 takes the physical cores.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Tokens that a text can hold, its prompt included [default: what the model sees].
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// A smaller model of the same tokens that proposes what MODEL accepts or not: faster, and no other text.
    #[arg(long, value_name = "MODEL")]
    draft: Option<PathBuf>,
    /// Tokens that it proposes at a time.
    #[arg(long, value_name = "K", default_value_t = 4, requires = "draft")]
    draft_tokens: usize,
}

/// A model that was opened, with its engine.
type Opened = (Delivered, Box<dyn Decode>);

impl VoiceArgs {
    /// Opens the model, and hands it on as a voice.
    pub(super) fn with_voice(&self, work: impl FnOnce(&Voice<'_>) -> Result<()>) -> Result<()> {
        set_threads(self.threads())?;
        let start = Instant::now();
        let (delivered, engine) = self.open(&self.model, self.context)?;
        let draft = self.draft.as_deref().map(|path| self.open(path, None)).transpose()?;
        if let (Some((other, _)), Some(path)) = (&draft, &self.draft) {
            let same = other.tokenizer == delivered.tokenizer;
            let rule = "a model that cuts text as MODEL does";
            ConfigError::ensure(same, "--draft", path.display(), rule)?;
        }
        let draft = draft
            .as_ref()
            .map(|(_, engine)| Draft { engine: &**engine, tokens: self.draft_tokens });
        let name = self.engine.to_possible_value().map(|it| it.get_name().to_owned());
        work(&Voice {
            engine_name: name.unwrap_or_default(),
            load_seconds: start.elapsed().as_secs_f64(),
            ..Voice::new(&delivered, &*engine, draft)
        })
    }

    fn threads(&self) -> usize {
        if self.threads == 0 { physical_cores() } else { self.threads }
    }

    fn device(&self) -> Result<Device> {
        let heeds = self.engine == EngineChoice::Torch || self.device == DeviceChoice::Cpu;
        ConfigError::ensure(heeds, "--device", self.device, "left out without --engine torch")?;
        Ok(self.device.open()?)
    }

    fn open(&self, path: &Path, context: Option<usize>) -> Result<Opened> {
        let delivered = formats::open(path, self.weights)?;
        delivered.ensure_text()?;
        let options = EngineOptions { threads: self.threads(), device: self.device()?, context };
        let engine = sample::engine(&delivered, self.engine, options)?;
        Ok((delivered, engine))
    }
}

/// A model that is ready to write.
pub(super) struct Voice<'a> {
    pub(super) name: &'a str,
    pub(super) engine: &'a dyn Decode,
    pub(super) engine_name: String,
    /// From nothing to a model that can be asked.
    pub(super) load_seconds: f64,
    pub(super) draft: Option<Draft<'a>>,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) ends: Vec<u32>,
    /// The token before the first, and whether it stands before prompts too.
    pub(super) start: (u32, bool),
    pub(super) chat_template: Option<&'a str>,
}

impl<'a> Voice<'a> {
    /// What was delivered, with an engine of it.
    fn new(delivered: &'a Delivered, engine: &'a dyn Decode, draft: Option<Draft<'a>>) -> Self {
        let mut ends = delivered.stops.clone();
        ends.push(delivered.tokenizer.end_of_text());
        Self {
            name: &delivered.name,
            engine,
            engine_name: String::new(),
            load_seconds: 0.,
            draft,
            tokenizer: &delivered.tokenizer,
            ends,
            start: (delivered.config.start, delivered.starts),
            chat_template: delivered.chat_template.as_deref(),
        }
    }

    /// The tokens of a prompt: the start token where the model was taught so, and where there is nothing else.
    pub(super) fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.try_encode(text)?;
        let (start, stands) = self.start;
        if stands || tokens.is_empty() {
            tokens.insert(0, start);
        }
        Ok(tokens)
    }

    /// What writes by a configuration.
    pub(super) fn writer(&'a self, config: &'a GenerationConfig) -> Writer<'a> {
        Writer {
            engine: self.engine,
            draft: self.draft,
            tokenizer: self.tokenizer,
            ends: &self.ends,
            config,
            explain: false,
        }
    }
}
