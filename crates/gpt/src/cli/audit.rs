//! `audit`: whether a model keeps the laws that its probabilities rest on.

use anyhow::{Context as _, Result};
use clap::Args;
use core_layers::{
    ConfigError,
    audit::{self, Law},
    autocast::Precision,
    cli::ModelArgs,
    encoded::Encoding,
};
use serde_json::json;
use tch::{Kind, Tensor, no_grad};

use super::print_json;
use crate::{
    formats,
    model::{Decoder, TextContext, Texts},
    sample::{Decode, ExactEngine, FusedEngine, FusedOptions, TorchEngine},
    weights::{Weights, is_vector},
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
        fused_agrees(&texts, weights, args.model.threads(), seed)?,
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
    let engine = TorchEngine::new(texts.model, texts.tokens).with_chunk(5);
    Law {
        name: "kept keys give the full pass",
        figure: Distance::of(texts, &engine, seed).greatest,
        limit: 1e-3,
        detail: format!("greatest difference of logits, {ROWS} texts of unequal length"),
    }
}

/// So does the fused engine, up to what it rounds: nothing where a matrix has singles, keys and values to halves else, and
/// activations to eight bits where weights are blocks of integers.
fn fused_agrees(texts: &Texts<'_>, weights: &Weights, threads: usize, seed: u64) -> Result<Law> {
    let options = FusedOptions { threads, context: Some(texts.tokens), ..FusedOptions::detect()? };
    let engine = FusedEngine::new(texts.model.config(), weights, options)?;
    let (limit, what) = match rounding(weights) {
        Rounding::Singles => (1e-4, "nothing"),
        Rounding::Halves => (1e-2, "keys and values"),
        Rounding::Integers => (1e-1, "activations"),
    };
    Ok(Law {
        name: "the fused engine gives it too",
        figure: Distance::of(texts, &engine, seed).relative,
        limit,
        detail: format!("rms difference over that of logits; {what} rounded beyond f32"),
    })
}

/// What the fused engine rounds most coarsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rounding {
    Singles,
    Halves,
    Integers,
}

/// Matrices decide; vectors are always singles.
fn rounding(weights: &Weights) -> Rounding {
    let matrices = weights.0.iter().filter(|(name, _)| !is_vector(name));
    let of = |encoding| match encoding {
        Encoding::F32 => Rounding::Singles,
        Encoding::F16 | Encoding::Bf16 => Rounding::Halves,
        _ => Rounding::Integers,
    };
    matrices.map(|(_, it)| of(it.encoding())).max().unwrap_or(Rounding::Singles)
}

/// How far an engine's logits are from the full pass's.
struct Distance {
    /// The greatest difference.
    greatest: f64,
    /// Root mean square of the differences over that of the logits, each less its mean over the vocabulary.
    relative: f64,
}

impl Distance {
    fn of(texts: &Texts<'_>, engine: &dyn Decode, seed: u64) -> Self {
        let tokens = texts.tokens;
        let layout = core_layers::Autoregressive::layout(texts);
        let symbols = audit::random_symbols(&layout, ROWS, seed);
        let xs = audit::symbol_tensor(&symbols);
        let full = no_grad(|| texts.model.forward(&xs, false)).to_kind(Kind::Float);
        let full = full.to_device(tch::Device::Cpu); // [ROWS, T, V]
        let mut session = engine.session(ROWS);
        let mut logits = Vec::new();
        let (mut greatest, mut squares) = (0f64, [0f64; 2]);
        let mut see = |row: usize, first: usize, logits: &[f32]| {
            let found = Tensor::from_slice(logits).view([-1, engine.vocabulary() as i64]);
            let wanted = full.get(row as i64).narrow(0, first as i64, found.size()[0]);
            let centred = |xs: &Tensor| xs - xs.mean_dim([-1i64].as_slice(), true, Kind::Float);
            let square = |xs: &Tensor| xs.square().sum(Kind::Double).double_value(&[]);
            let difference = (&found - &wanted).abs().max().double_value(&[]);
            greatest = greater(greatest, difference);
            squares[0] += square(&centred(&(found - &wanted)));
            squares[1] += square(&centred(&wanted));
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
        Self { greatest, relative: (squares[0] / squares[1]).sqrt() }
    }
}

/// The greater of two, and no number where one of them is none, which `f64::max` would forget.
fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use core_layers::encoded::Encoded;
    use tch::Device;

    use super::*;
    use crate::{
        config::DecoderConfig,
        model::tests::{families, random},
        weights::quantise,
    };

    #[test]
    fn a_difference_that_is_no_number_is_not_forgotten() {
        let of = |differences: [f64; 3]| differences.into_iter().fold(0., greater);
        assert_eq!(of([1., 3., 2.]), 3.);
        for at in 0..3 {
            let mut differences = [1., 3., 2.];
            differences[at] = f64::NAN;
            let law = Law { name: "", figure: of(differences), limit: 9., detail: String::new() };
            assert!(!law.holds(), "{at}");
        }
    }

    #[test]
    fn sessions_of_every_family_agree_and_a_lost_position_is_seen() {
        for (family, config) in families() {
            let (_vs, model) = random(&config);
            let law = sessions_agree(&Texts { model: &model, tokens: 16 }, 1);
            assert!(law.holds() && law.figure > 0., "{family}: {law:?}");
        }
    }

    #[test]
    fn the_fused_engine_is_held_to_what_it_rounds_and_a_changed_weight_is_seen() -> Result<()> {
        for (family, config) in families() {
            let (_vs, model) = random(&config);
            let texts = Texts { model: &model, tokens: 16 };
            let mut weights = model.weights();
            let law = fused_agrees(&texts, &weights, 1, 1)?;
            assert!(law.holds() && law.figure > 0. && law.limit == 1e-4, "{family}: {law:?}");
            let name = "layers.1.attention.key.weight";
            let changed = weights.of(name).to_f32().iter().map(|it| 1.1 * it).collect::<Vec<_>>();
            let (rows, columns) = (weights.of(name).rows(), weights.of(name).columns());
            weights.0.insert(name.into(), Encoded::from_f32(rows, columns, &changed));
            let law = fused_agrees(&texts, &weights, 1, 1)?;
            assert!(!law.holds(), "{family}: {law:?}");
        }
        Ok(())
    }

    #[test]
    fn blocks_of_integers_are_granted_more_and_give_what_they_decode_to() -> Result<()> {
        let config = DecoderConfig { d_model: 64, d_ff: 64, d_head: 32, ..families()[0].1.clone() };
        let (_vs, model) = random(&config);
        let weights = quantise(&model.weights(), Encoding::Int8)?;
        let model = Decoder::load(&config, &weights, Device::Cpu)?; // decoded
        let law = fused_agrees(&Texts { model: &model, tokens: 16 }, &weights, 2, 1)?;
        assert!(law.holds() && law.figure > 1e-4 && law.limit == 1e-1, "{law:?}");
        Ok(())
    }
}
