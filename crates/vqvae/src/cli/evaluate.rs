//! `evaluate`: how well images come back, and how probable their codes are.

use anyhow::Result;
use clap::Args;
use core_layers::{
    cli::{ModelArgs, with_error},
    dataset::Split,
    likelihood::{Likelihood, Tally},
    run::Ticker,
};
use ndarray::Array4;
use pixelcnn::{
    data::{self, Images},
    evaluate::nats,
};
use serde_json::{Value, json};
use tch::Device;

use super::{load, print_json};
use crate::{
    config::Reconstruction,
    data::level_images,
    evaluate::{Usage, encode, mean, reconstruct},
    trained::TrainedPipeline,
};

/// Flags of `evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vqvae evaluate runs/vq --split test --json")]
pub struct EvaluateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Which images of the run's data.
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
    /// Only the first of them; 0 takes all.
    #[arg(long, default_value_t = 0)]
    limit: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// One level's codes and what its prior says of them.
struct Level {
    usage: Usage,
    /// Nats of an image's codes of this level, on the split and on as many training images.
    prior: Option<[Likelihood; 2]>,
}

/// Runs `evaluate`.
pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    let (trained, device) = load(&args.model)?;
    let dataset = data::load(&trained.pipeline.data)?;
    let config = trained.autoencoder.model.config();
    let images = first(dataset.split(args.split), args.limit);
    let learnt = first(&dataset.train, images.len());
    let _autocast = args.model.precision.autocast(device);
    let ticker = Ticker::new("evaluate", images.len() + learnt.len(), args.quiet);
    let done = reconstruct(&trained.autoencoder.model, &images, device, &mut |n| ticker.tick(n));
    let learnt_codes = encode(&trained.autoencoder.model, &learnt, device, &mut |n| ticker.tick(n));
    let usages = done.usage(config);
    let normalised_error = mean(&done.squared_errors) / trained.autoencoder.model.variance();
    let mut total = done.tally(config);
    let mut levels = Vec::new();
    for (level, usage) in usages.into_iter().enumerate() {
        let prior = (!trained.priors.is_empty()).then(|| {
            let held_out = prior_nats(&trained, level, &done.codes, &images, device);
            let on_train = prior_nats(&trained, level, &learnt_codes, &learnt, device);
            let mut sum = Tally::default();
            sum.add(total.examples().iter().zip(held_out.examples()).map(|(a, b)| a + b));
            total = sum;
            let places = (usage.size.0 * usage.size.1 * config.quantiser.codebooks) as usize;
            [held_out, on_train].map(|tally| tally.likelihood(places))
        });
        levels.push(Level { usage, prior });
    }
    let bound = Likelihood { bound: "upper", ..total.likelihood(config.dims() as usize) };
    let has_bound = config.reconstruction == Reconstruction::Softmax && !trained.priors.is_empty();
    let about = &trained.autoencoder.about;
    if args.json {
        let mut value = json!({
            "model": "vqvae",
            "dataset": about.dataset,
            "protocol": about.protocol,
            "split": args.split.name(),
            "examples": images.len(),
            "dims": config.dims(),
            "weights": weights(&trained),
            "reconstruction": mean(&done.losses),
            "reconstruction_unit": config.reconstruction.unit(),
            "normalised_error": normalised_error,
            "psnr_db": done.psnr(),
            "levels": levels.iter().map(|it| it.to_json(config.quantiser.codes)).collect::<Vec<_>>(),
        });
        if has_bound {
            value["nats"] = json!(bound.nats);
            value["nats_se"] = json!(bound.nats_se);
            value["bits_per_dim"] = json!(bound.bits_per_dim);
            value["bound"] = json!(bound.bound);
        }
        print_json(&value);
        return Ok(());
    }
    println!(
        "{} {} images of {} ({})",
        images.len(),
        args.split.name(),
        about.dataset,
        about.protocol
    );
    println!(
        "  reconstruction       {:.4} {}, {:.2} dB, squared error {normalised_error:.4} of the variance",
        mean(&done.losses),
        config.reconstruction.unit(),
        done.psnr()
    );
    for level in &levels {
        println!("{level}");
    }
    if has_bound {
        println!(
            "  bound                {} bits/dim, decoder and priors together",
            with_error(bound.bits_per_dim, bound.bits_per_dim_se, 4)
        );
    }
    Ok(())
}

/// The weights that were taken: `raw` or `ema`, or both where the autoencoder has no averages and its priors do.
fn weights(trained: &TrainedPipeline) -> String {
    let first = trained.autoencoder.weights.name();
    match trained.priors.iter().map(|it| it.weights.name()).find(|&it| it != first) {
        Some(other) => format!("{first} (autoencoder), {other} (priors)"),
        None => first.into(),
    }
}

/// The first `limit` images; 0 takes all.
fn first(images: &Images, limit: usize) -> Images {
    let count = if limit == 0 { images.len() } else { limit.min(images.len()) };
    images.select(&(0..count).collect::<Vec<_>>())
}

/// Nats of each image's codes of one level under its prior, told its class and the codes above.
fn prior_nats(
    trained: &TrainedPipeline,
    level: usize,
    codes: &[Array4<u16>],
    images: &Images,
    device: Device,
) -> Tally {
    let above = codes.get(level + 1).map(|codes| (codes, trained.vectors(level + 1)));
    let images = level_images(&codes[level], images.labels.clone(), above);
    nats(&trained.priors[level].model, &images, device, &mut |_| {})
}

impl Level {
    fn to_json(&self, codes: i64) -> Value {
        let Usage { size, used, perplexity, .. } = &self.usage;
        let mut value =
            json!({"size": size, "codes": codes, "used": used, "perplexity": perplexity});
        if let Some([held_out, on_train]) = &self.prior {
            value["prior_nats_per_code"] = json!(held_out.nats / held_out.dims as f64);
            value["prior_nats_per_code_se"] =
                json!(held_out.nats_se.map(|it| it / held_out.dims as f64));
            value["train_prior_nats_per_code"] = json!(on_train.nats / on_train.dims as f64);
        }
        value
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Usage { size: (h, w), used, perplexity, .. } = &self.usage;
        let name = format!("{h} x {w} codes");
        write!(f, "  {name:<20} {:.0} % used, perplexity {perplexity:.1}", 100. * used)?;
        if let Some([held_out, on_train]) = &self.prior {
            let per_code = |it: &Likelihood| it.nats / it.dims as f64;
            write!(
                f,
                "; prior {} nats/code, {:.3} on training images",
                with_error(
                    per_code(held_out),
                    held_out.nats_se.map(|it| it / held_out.dims as f64),
                    3
                ),
                per_code(on_train)
            )?;
        }
        Ok(())
    }
}
