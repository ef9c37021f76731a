//! `evaluate` and `classify`: numbers about a model on images.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use core_layers::{
    ConfigError, bayes,
    cli::{self, ModelArgs, counted, with_error},
    dataset::Split,
    likelihood::{Likelihood, Tally},
    overrides::Overrides,
    plot::heat_map,
    run::Ticker,
};
use serde_json::json;

use super::{load, print_json};
use crate::{
    data::{self, DataConfig, Dataset, Images},
    evaluate,
    trained::Trained,
};

/// The images that a command speaks of.
#[derive(Debug, Args)]
pub(super) struct ImagesArgs {
    #[command(flatten)]
    data: Overrides<DataConfig>,
    /// Which of its splits.
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
}

impl ImagesArgs {
    /// The images that the model was trained with, or those that the flags name, checked against the model.
    fn load(&self, trained: &Trained) -> Result<Dataset> {
        let config = self.data.apply(trained.about.run.data.clone())?;
        let dataset = data::load(&config)?;
        let images = dataset.split(self.split);
        ensure!(!images.is_empty(), "{}: has no {} images", dataset.name, self.split.name());
        evaluate::ensure_fits(
            trained.model.config(),
            images.levels.view(),
            dataset.num_levels,
            &dataset.name,
        )?;
        if trained.model.config().classes() > 0 {
            ensure!(
                images.labels.is_some(),
                "{}: has no labels, the model is conditioned on classes",
                dataset.name
            );
            let same = dataset.label_names == trained.about.label_names;
            ensure!(same, "{}: has other classes than the model was trained on", dataset.name);
        }
        Ok(dataset)
    }
}

/// Flags of `evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pixelcnn evaluate runs/digits --split test --json")]
pub struct EvaluateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    images: ImagesArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Average a MADE over the orders that it was trained for.
    #[arg(long)]
    average_orders: bool,
    /// List the K images with most nats.
    #[arg(long, value_name = "K", default_value_t = 0)]
    worst: usize,
    /// Draw the mean nats of each pixel as a PNG.
    #[arg(long, value_name = "PNG")]
    heat_map: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs `evaluate`.
pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    args.heat_map.iter().try_for_each(|path| cli::ensure_png("--heat-map", path))?;
    let (mut trained, device) = load(&args.model)?;
    let dataset = args.images.load(&trained)?;
    let images = dataset.split(args.images.split);
    let _autocast = args.model.precision.autocast(device);
    let ticker = Ticker::new("evaluate", images.len(), args.quiet || args.json);
    let tally = if args.average_orders {
        evaluate::nats_over_orders(&mut trained.model, images, device)
    } else {
        evaluate::nats(&trained.model, images, device, &mut |count| ticker.tick(count))
    };
    drop(ticker);
    let likelihood = tally.likelihood(images.dims());
    let worst = worst(&tally, images, args.worst);
    if let Some(path) = &args.heat_map {
        let image = trained.model.config().image();
        let (rows, columns) = (image.height as usize, image.width as usize);
        let nats = evaluate::nats_by_pixel(&trained.model, images, device);
        heat_map(path, "mean nats of each pixel", (rows, columns), &nats, None)?;
    }
    let conditional = trained.model.config().classes() > 0;
    if args.json {
        let mut json = serde_json::to_value(&likelihood)?;
        let more = json!({
            "model": trained.model.config().kind(),
            "dataset": dataset.name,
            "protocol": dataset.protocol,
            "split": args.images.split.name(),
            "example": "image",
            "given": if conditional { "class" } else { "nothing" },
            "orders": if args.average_orders { trained.model.num_orders() } else { 1 },
            "weights": trained.weights.name(),
            "step": trained.about.step,
            "entropy_nats": dataset.entropy_nats,
            "worst": worst.iter().map(|(image, nats)| json!({"image": image, "nats": nats})).collect::<Vec<_>>(),
        });
        if let (Some(json), Some(more)) = (json.as_object_mut(), more.as_object()) {
            json.extend(more.clone());
        }
        print_json(&json);
        return Ok(());
    }
    say(&likelihood, &dataset, args.images.split, conditional);
    println!(
        "{} weights of step {}; {}",
        trained.weights.name(),
        trained.about.step,
        dataset.protocol
    );
    for (image, nats) in worst {
        println!("{nats:10.2} nats  {image}");
    }
    Ok(())
}

fn say(likelihood: &Likelihood, dataset: &Dataset, split: Split, conditional: bool) {
    let Likelihood { examples, nats, nats_se, bits_per_dim, .. } = likelihood;
    let given = if conditional { ", each given its class" } else { "" };
    println!("{bits_per_dim:.4} bits per dimension");
    println!(
        "{} nats per image over {} of {}{given}",
        with_error(*nats, *nats_se, 2),
        counted(*examples, &format!("{} image", split.name())),
        dataset.name
    );
}

/// The images with most nats, by name or number.
fn worst(tally: &Tally, images: &Images, count: usize) -> Vec<(String, f64)> {
    let mut all: Vec<(usize, f64)> = tally.examples().iter().copied().enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let name = |index: usize| images.names.get(index).cloned().unwrap_or_else(|| index.to_string());
    all.into_iter().take(count).map(|(index, nats)| (name(index), nats)).collect()
}

/// Flags of `classify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pixelcnn classify runs/digits --split test")]
pub struct ClassifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    images: ImagesArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs `classify`.
pub(super) fn classify(args: &ClassifyArgs) -> Result<()> {
    let (trained, device) = load(&args.model)?;
    let classes = trained.model.config().classes();
    if classes == 0 {
        return Err(ConfigError::new(
            "model.classes",
            0,
            "above 0: only a class-conditional model classifies",
        )
        .into());
    }
    let dataset = args.images.load(&trained)?;
    let images = dataset.split(args.images.split);
    let labels = images.labels.as_deref().unwrap_or_default();
    let _autocast = args.model.precision.autocast(device);
    let ticker = Ticker::new("classify", images.len(), args.quiet || args.json);
    let nats =
        evaluate::nats_by_class(&trained.model, images, device, &mut |count| ticker.tick(count));
    drop(ticker);
    let classified = bayes::Classified::new(&nats, labels, classes as usize);
    let (accuracy, low, high) = classified.accuracy();
    let mut marginal = Tally::default();
    marginal.add(nats.iter().map(|nats| bayes::marginal(nats)));
    let marginal = marginal.likelihood(images.dims());
    if args.json {
        print_json(&json!({
            "model": trained.model.config().kind(),
            "dataset": dataset.name,
            "split": args.images.split.name(),
            "examples": images.len(),
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "class_nats": classified.label_nats,
            "marginal_nats": marginal.nats,
            "marginal_bits_per_dim": marginal.bits_per_dim,
            "confusion": classified.confusion,
            "label_names": dataset.label_names,
            "weights": trained.weights.name(),
        }));
        return Ok(());
    }
    println!(
        "accuracy {:.2} % ({:.2} to {:.2} % at 95 %), {} of {} by argmax p(y | x)",
        100. * accuracy,
        100. * low,
        100. * high,
        classified.right(),
        counted(images.len(), "image")
    );
    println!("{:.4} bits per dimension with the class unknown", marginal.bits_per_dim);
    println!("rows: the class; columns: what it was taken for");
    println!("{}", classified.table(&dataset.label_names));
    Ok(())
}
