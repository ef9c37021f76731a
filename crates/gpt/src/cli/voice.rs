//! A model that is ready to write.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use core_layers::{
    ConfigError,
    checkpoint::Weights,
    device::{physical_cores, set_threads},
};

use crate::{
    formats::{self, Delivered},
    sample::{self, Decode, Draft, EngineChoice, GenerationConfig, Writer},
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
    /// Threads; 0 takes the physical cores.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A smaller model of the same tokens that proposes what MODEL accepts or not: faster, and no other text.
    #[arg(long, value_name = "MODEL")]
    draft: Option<PathBuf>,
    /// Tokens that it proposes at a time.
    #[arg(long, value_name = "K", default_value_t = 4, requires = "draft")]
    draft_tokens: usize,
}

/// A model that was opened, with its engine.
pub(super) type Opened = (Delivered, Box<dyn Decode>);

impl VoiceArgs {
    /// Opens the model, and hands it on as a voice.
    pub(super) fn with_voice(&self, work: impl FnOnce(&Voice<'_>) -> Result<()>) -> Result<()> {
        set_threads(self.threads())?;
        let (delivered, engine) = self.open(&self.model)?;
        let draft = self.draft.as_deref().map(|path| self.open(path)).transpose()?;
        if let (Some((other, _)), Some(path)) = (&draft, &self.draft) {
            let same = other.tokenizer == delivered.tokenizer;
            let rule = "a model that cuts text as MODEL does";
            ConfigError::ensure(same, "--draft", path.display(), rule)?;
        }
        let draft = draft
            .as_ref()
            .map(|(_, engine)| Draft { engine: &**engine, tokens: self.draft_tokens });
        work(&Voice::new(&delivered, &*engine, draft))
    }

    fn open(&self, path: &Path) -> Result<Opened> {
        let delivered = formats::open(path, self.weights)?;
        let engine = sample::engine(&delivered, self.engine, self.threads())?;
        Ok((delivered, engine))
    }

    fn threads(&self) -> usize {
        if self.threads == 0 { physical_cores() } else { self.threads }
    }
}

/// A model that is ready to write.
pub(super) struct Voice<'a> {
    pub(super) name: &'a str,
    pub(super) engine: &'a dyn Decode,
    pub(super) draft: Option<Draft<'a>>,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) ends: Vec<u32>,
    /// The token before the first, and whether it stands before prompts too.
    pub(super) start: (u32, bool),
    pub(super) chat_template: Option<&'a str>,
}

impl<'a> Voice<'a> {
    /// What was delivered, with an engine of it.
    pub(super) fn new(
        delivered: &'a Delivered,
        engine: &'a dyn Decode,
        draft: Option<Draft<'a>>,
    ) -> Self {
        let mut ends = delivered.stops.clone();
        ends.push(delivered.tokenizer.end_of_text());
        Self {
            name: &delivered.name,
            engine,
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
