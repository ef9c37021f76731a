//! `audit`: whether a model keeps the laws that its probabilities rest on.

use anyhow::{Context as _, Result};
use clap::Args;
use core_layers::{
    ConfigError,
    audit::{self, Law},
    autocast::Precision,
    cli::ModelArgs,
};
use serde_json::json;
use tch::{Kind, Tensor, no_grad};

use super::print_json;
use crate::{
    formats,
    model::{Decoder, TextContext, Texts},
    sample::{Decode as _, ExactEngine, TorchEngine},
};

/// Texts that the laws are tried on at once.
const ROWS: usize = 3;

/// Flags of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt audit runs/book")]
pub struct AuditArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the texts that the laws are tried on, at most the context.
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Positions whose causality is proved, spread over a text; 0 takes all.
    #[arg(long, default_value_t = 16)]
    positions: usize,
    /// Seed of the texts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `audit`: an error where a law is broken.
pub(super) fn run(args: &AuditArgs) -> Result<()> {
    let precision = args.model.precision;
    ConfigError::ensure(
        precision == Precision::F32,
        "--precision",
        precision,
        "f32: an audit holds engines to the full pass",
    )?;
    ConfigError::ensure(args.tokens >= 2, "--tokens", args.tokens, "at least 2")?;
    let device = args.model.open()?;
    let path = &args.model.model;
    let delivered = formats::open(path, args.model.weights)?;
    let (config, weights) = (&delivered.config, &delivered.weights);
    let model =
        Decoder::load(config, weights, device).with_context(|| path.display().to_string())?;
    let tokens = args.tokens.min(config.context as usize);
    let texts = Texts { model: &model, tokens };
    let exact = ExactEngine::new(config, weights)?.with_length(tokens);
    let (context, seed) = (TextContext::full(ROWS), args.seed);
    let positions = if args.positions == 0 { usize::MAX } else { args.positions };
    let laws = [
        audit::causality(&texts, &context, positions, seed),
        audit::sums_to_one(&texts, &context, seed),
        sessions_agree(&texts, seed),
        audit::steppers_agree(&texts, &exact, &context, seed),
        audit::batch_invariance(&exact, &context, seed),
        audit::codec_round_trip(&exact, &context, seed)?,
    ];
    if args.json {
        print_json(&json!({"model": "gpt", "laws": audit::to_json(&laws)}));
    } else {
        for law in &laws {
            println!("{law}");
        }
    }
    audit::ensure_all_hold(&laws, path)
}

/// Texts of unequal length, read in chunks and then token by token, give the full pass's logits.
fn sessions_agree(texts: &Texts<'_>, seed: u64) -> Law {
    let (model, tokens) = (texts.model, texts.tokens);
    let symbols = audit::random_symbols(&core_layers::Autoregressive::layout(texts), ROWS, seed);
    let xs = audit::symbol_tensor(&symbols);
    let full = no_grad(|| model.forward(&xs, false)).to_kind(Kind::Float);
    let full = full.to_device(tch::Device::Cpu); // [ROWS, T, V]
    let engine = TorchEngine::new(model, tokens).with_chunk(5);
    let mut session = engine.session(ROWS);
    let mut logits = Vec::new();
    let mut worst = 0f64;
    let mut see = |row: usize, first: usize, logits: &[f32]| {
        let found = Tensor::from_slice(logits).view([-1, engine.vocabulary() as i64]);
        let wanted = full.get(row as i64).narrow(0, first as i64, found.size()[0]);
        let difference = (found - wanted).abs().max().double_value(&[]);
        worst = if difference.is_nan() { f64::NAN } else { worst.max(difference) };
    };
    for row in 0..ROWS {
        let read = (tokens * (row + 1) / (ROWS + 1)).max(1); // unequal
        let text: Vec<u32> = symbols.row(row).iter().take(read).copied().collect();
        session.feed(row, &text, read, &mut logits);
        see(row, 0, &logits);
    }
    loop {
        let rows: Vec<usize> = (0..ROWS).filter(|&row| session.len(row) < tokens).collect();
        if rows.is_empty() {
            break;
        }
        let next: Vec<u32> = rows.iter().map(|&row| symbols[[row, session.len(row)]]).collect();
        session.step(&rows, &next, &mut logits);
        for (&row, logits) in rows.iter().zip(logits.chunks(engine.vocabulary())) {
            see(row, session.len(row) - 1, logits);
        }
    }
    Law {
        name: "kept keys give the full pass",
        figure: worst,
        limit: 1e-3,
        detail: format!("greatest difference of logits, {ROWS} texts of unequal length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{families, random};

    #[test]
    fn sessions_of_every_family_agree_and_a_lost_position_is_seen() {
        for (family, config) in families() {
            let (_vs, model) = random(&config);
            let law = sessions_agree(&Texts { model: &model, tokens: 16 }, 1);
            assert!(law.holds() && law.figure > 0., "{family}: {law:?}");
        }
    }
}
