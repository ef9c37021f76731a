//! `evaluate`: how probable a text is.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use core_layers::{
    ConfigError,
    cli::{ModelArgs, counted, with_error},
    dataset::Split,
    overrides::Overrides,
    run::Ticker,
    training::Architecture as _,
};
use serde_json::json;
use tch::Device;

use super::{
    engine::{self, EngineArgs},
    print_json,
};
use crate::{
    config::DecoderConfig,
    data::{self, DataConfig},
    evaluate::{self, Documents, Engine, Predictor, Score},
    formats,
    text::Tokenizer,
    trained::{self, About, Trained},
};

/// The longest context that is taken unless a flag asks for more: beyond, passes grow slow.
const CONTEXT: usize = 2048;

/// Flags of `evaluate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt evaluate runs/book --split test\n  gpt evaluate model.gguf letters.txt --stride 512 --json\n  gpt evaluate small-int4.safetensors letters.txt --engine fused"
)]
pub struct EvaluateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Files, each a text; without, the data that the model was trained on, or that --data names.
    files: Vec<PathBuf>,
    /// Which split of the data.
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
    #[command(flatten)]
    data: Overrides<DataConfig>,
    /// Tokens that are read at once, at most the model's context; 0 takes that, up to 2048.
    #[arg(long, default_value_t = 0)]
    context: usize,
    /// Tokens of each window but the first that count: the rest is what they see; 0 takes the context, so windows lie side
    /// by side.
    #[arg(long, default_value_t = 0)]
    stride: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// What scores.
struct Measured {
    name: String,
    tokenizer: Tokenizer,
    about: Option<About>,
    /// `ema`, `raw` or `delivered`.
    weights: &'static str,
    /// Tokens that the model sees at the most.
    most: usize,
    predictor: Box<dyn Predictor>,
}

/// What is scored.
struct Subject {
    name: String,
    split: &'static str,
    protocol: String,
    documents: Box<dyn Documents>,
    /// Bytes, where they are not those of the tokens.
    bytes: Option<usize>,
}

/// Runs `evaluate`.
pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    let device = args.model.open()?;
    let measured = args.open(device)?;
    let (context, stride) = args.window(measured.most)?;
    let subject = args.subject(&measured)?;
    let lengths = subject.documents.lengths();
    let windows = evaluate::windows(&lengths, context, stride);
    let ticker = Ticker::new("evaluate", lengths.iter().sum(), args.quiet || args.json);
    let autocast = args.model.precision.autocast(device);
    let mut score = evaluate::score(
        &*measured.predictor,
        &measured.tokenizer,
        &*subject.documents,
        &windows,
        &mut |count| ticker.tick(count),
    );
    drop((ticker, autocast));
    score.bytes = subject.bytes.unwrap_or(score.bytes);
    let Score { likelihood, example, tokens, bytes } = &score;
    let step = measured.about.as_ref().map(|about| about.step);
    if args.json {
        let mut json = serde_json::to_value(likelihood)?;
        let more = json!({
            "model": DecoderConfig::NAME,
            "name": measured.name,
            "engine": args.engine.name(),
            "dataset": subject.name,
            "protocol": subject.protocol,
            "split": subject.split,
            "example": example,
            "tokens": tokens,
            "bytes": bytes,
            "nats_per_token": score.nats_per_token(),
            "nats_per_token_se": score.nats_per_token_se(),
            "perplexity": score.perplexity(),
            "bits_per_byte": score.bits_per_byte(),
            "context": context,
            "stride": stride,
            "weights": measured.weights,
            "step": step,
        });
        if let (Some(json), Some(more)) = (json.as_object_mut(), more.as_object()) {
            json.extend(more.clone());
        }
        print_json(&json);
        return Ok(());
    }
    println!(
        "{} nats per token, perplexity {:.3}",
        with_error(score.nats_per_token(), score.nats_per_token_se(), 4),
        score.perplexity()
    );
    println!("{:.4} bits per byte", score.bits_per_byte());
    println!(
        "over {}, {tokens} tokens, {bytes} bytes of {} ({}); context {context}, stride {stride}",
        counted(likelihood.examples, example),
        subject.name,
        subject.split
    );
    let step = step.map_or_else(String::new, |step| format!(" of step {step}"));
    let engine = args.engine.name();
    println!("{} weights{step}, {engine} engine; {}", measured.weights, subject.protocol);
    Ok(())
}

impl EvaluateArgs {
    /// The model, by the engine that was asked for.
    fn open(&self, device: Device) -> Result<Measured> {
        let path = &self.model.model;
        let Some(choice) = self.engine.other(&self.model)? else {
            let Trained { name, decoder, tokenizer, about, weights } =
                Trained::open(path, self.model.weights, device)?;
            let most = decoder.config().context as usize;
            let predictor = Box::new(decoder);
            return Ok(Measured { name, tokenizer, about, weights, most, predictor });
        };
        let delivered = formats::open(path, self.model.weights)?;
        delivered.ensure_text()?;
        let (about, weights) = match trained::about_at(path, self.model.weights)? {
            Some((about, weights)) => (Some(about), weights),
            None => (None, "delivered"),
        };
        let most = delivered.config.context as usize;
        let held = self.window(most)?.0;
        let (engine, threads) = engine::open(choice, &delivered, self.model.threads(), held)?;
        let predictor = Box::new(Engine { engine, start: delivered.config.start, threads });
        let (name, tokenizer) = (delivered.name, delivered.tokenizer);
        Ok(Measured { name, tokenizer, about, weights, most, predictor })
    }

    /// Context and stride of a model that sees `most` tokens.
    fn window(&self, most: usize) -> Result<(usize, usize), ConfigError> {
        let context = if self.context == 0 { most.min(CONTEXT) } else { self.context };
        let rule = format!("from 1 to {most}, the model's context");
        ConfigError::ensure((1..=most).contains(&context), "--context", context, &rule)?;
        let stride = if self.stride == 0 { context } else { self.stride };
        let rule = format!("from 1 to {context}, the context");
        ConfigError::ensure((1..=context).contains(&stride), "--stride", stride, &rule)?;
        Ok((context, stride))
    }

    /// The files, or a split of the data.
    fn subject(&self, measured: &Measured) -> Result<Subject> {
        if self.files.is_empty() {
            return self.split(measured);
        }
        let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
        let texts: Vec<Vec<u8>> = self.files.iter().map(read).collect::<Result<_>>()?;
        let encode = |(path, text): (&PathBuf, &Vec<u8>)| {
            encode(&measured.tokenizer, text).with_context(|| path.display().to_string())
        };
        let documents: Vec<Vec<u32>> =
            self.files.iter().zip(&texts).map(encode).collect::<Result<_>>()?;
        let names: Vec<String> = self.files.iter().map(|path| path.display().to_string()).collect();
        let bytes: usize = texts.iter().map(Vec::len).sum();
        ConfigError::ensure(bytes > 0, "FILE", names.join(", "), "a text of one byte at least")?;
        Ok(Subject {
            name: names.join(", "),
            split: "file",
            protocol: "each file is a text, its end not counted".into(),
            documents: Box::new(documents),
            bytes: Some(bytes),
        })
    }

    fn split(&self, measured: &Measured) -> Result<Subject> {
        let given = self.data.apply(DataConfig::default())?;
        let own = measured.about.as_ref().map(|about| about.run.data.clone());
        if own.is_none() && given == DataConfig::default() {
            let rule = "given, since the model does not say what it was trained on";
            return Err(ConfigError::new("FILE", "missing", rule).into());
        }
        let config = self.data.apply(own.unwrap_or_default())?;
        let config = DataConfig { tokenizer: "auto".into(), ..config };
        let dataset = data::load_for(&config, Some(&measured.tokenizer))?;
        dataset.ensure_split(self.split)?;
        Ok(Subject {
            split: self.split.name(),
            documents: Box::new(dataset.split(self.split).clone()),
            name: dataset.name,
            protocol: dataset.protocol,
            bytes: None,
        })
    }
}

/// The tokens of a text, or of bytes that are none where the tokenizer takes them.
fn encode(tokenizer: &Tokenizer, text: &[u8]) -> Result<Vec<u32>> {
    match std::str::from_utf8(text) {
        Ok(text) => tokenizer.try_encode(text),
        Err(_) => tokenizer.encode_bytes(text),
    }
}
