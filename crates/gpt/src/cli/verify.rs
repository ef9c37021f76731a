//! `verify`: whether a model gives what another program says it gives, layer by layer.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use core_layers::{ConfigError, cli::ModelArgs};
use serde_json::json;

use super::print_json;
use crate::{
    formats,
    model::Decoder,
    verify::{Reference, agreements, suspect},
};

/// Flags of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt verify runs/book --against logits.safetensors\n\nThe file holds tokens [B, T], logits [B, T, V] and, where layers are to be compared, hidden.0 (embeddings)\nto hidden.L (behind the last norm), [B, T, D] each."
)]
pub struct VerifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What another program computed.
    #[arg(long, value_name = "SAFETENSORS")]
    against: PathBuf,
    /// Greatest difference of logits that counts as agreement.
    #[arg(long, default_value_t = 1e-4)]
    tolerance: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `verify`: an error where they differ.
pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    let tolerance = args.tolerance;
    let holds = tolerance > 0. && tolerance.is_finite();
    ConfigError::ensure(holds, "--tolerance", tolerance, "a positive number")?;
    let device = args.model.open()?;
    let delivered = formats::open(&args.model.model, args.model.weights)?;
    let (config, weights) = (&delivered.config, &delivered.weights);
    let against = args.against.display();
    let reference = Reference::open(&args.against, config)?;
    let model = Decoder::load(config, weights, device)
        .with_context(|| args.model.model.display().to_string())?;
    let guard = args.model.precision.autocast(device);
    let layers = agreements(&model, &reference);
    drop(guard);
    drop(model);
    let agrees = layers.last().is_some_and(|it| it.greatest_difference <= tolerance); // NaN does not
    let differs = !agrees;
    let found =
        if differs { suspect(config, weights, &reference, tolerance, device)? } else { None };
    if args.json {
        print_json(&json!({
            "model": "gpt",
            "layers": layers,
            "tolerance": tolerance,
            "agrees": !differs,
            "suspect": found,
        }));
    } else {
        println!("{:<12} {:>20} {:>12}", "layer", "greatest difference", "KL, nats");
        for it in &layers {
            println!("{:<12} {:>20.3e} {:>12.3e}", it.layer, it.greatest_difference, it.kl_nats);
        }
    }
    let differs_by = layers.last().map_or(f64::NAN, |it| it.greatest_difference);
    match (differs, found) {
        (false, _) => Ok(()),
        (true, Some(it)) => bail!(
            "{against}: logits differ by {differs_by:.1e}; likely wrong: {}, without which they differ by {:.1e}",
            it.what,
            it.greatest_difference
        ),
        (true, None) => {
            bail!("{against}: logits differ by {differs_by:.1e}, for no reason that is known")
        }
    }
}
