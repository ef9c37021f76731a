//! `fidelity`: rejection sampling by a classifier (1906.00446, section 4.4): what fidelity costs in diversity.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use core_layers::{
    ConfigError,
    checkpoint::Weights,
    cli::{ModelArgs, ensure_png},
    plot::{Chart, Series},
    run::{MODEL, Ticker},
    sampling::{Draws, SamplingConfig},
    training::Trained,
};
use ndarray::{Array4, ArrayView3, Axis};
use pixelcnn::{
    data::{self, DataConfig, Images},
    sample::Drawing,
};
use serde_json::{Value, json};
use tch::Device;

use super::{load_with_priors, print_json};
use crate::{
    evaluate::{image_batch, mean},
    model::Classifier,
    sample::{Request, decode, draw_codes},
    train::judge,
    trained::TrainedPipeline,
};

/// The folder of the classifier that rejects, in that of a run.
pub(super) const REJECTOR: &str = "classifier";
/// The folder of the one that judges: of other weights and batches, so that a fault of the first is no merit here.
pub(super) const JUDGE: &str = "judge";
/// Shares of the samples that are kept, the likeliest of their class.
const KEPT: [f64; 6] = [1., 0.8, 0.6, 0.4, 0.2, 0.1];

/// A classifier with its weights.
pub(super) type TrainedClassifier = Trained<Classifier, DataConfig>;

/// The classifier in a folder of a run.
pub(super) fn classifier(
    run: &std::path::Path,
    name: &str,
    device: Device,
) -> Result<TrainedClassifier> {
    ensure!(
        run.join(name).join(MODEL).is_file(),
        "{0}: has no {name} yet; go on with `vqvae train --resume {0} --stage classifier`",
        run.display()
    );
    TrainedClassifier::load(&run.join(name), Weights::Ema, device)
}

/// Log-probability of each image's own class.
pub(super) fn log_probs(classifier: &Classifier, images: &Images, device: Device) -> Vec<f64> {
    let labels = images.labels.as_deref().unwrap_or_default();
    let all: Vec<usize> = (0..images.len()).collect();
    let mut found = Vec::new();
    for rows in all.chunks(256) {
        let all = tch::no_grad(|| classifier.log_probs(&image_batch(images, rows, device), false));
        found.extend(
            rows.iter().zip(0..).map(|(&row, i)| all.double_value(&[i, i64::from(labels[row])])),
        );
    }
    found
}

/// The `keep(class)` first of each class when sorted by falling log-probability, in their own order.
fn likeliest_of_each(labels: &[u32], log_probs: &[f64], keep: impl Fn(u32) -> usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| log_probs[b].total_cmp(&log_probs[a]));
    let mut taken = std::collections::BTreeMap::<u32, usize>::new();
    let mut kept: Vec<usize> = order
        .into_iter()
        .filter(|&row| {
            let count = taken.entry(labels[row]).or_default();
            *count += 1;
            *count <= keep(labels[row])
        })
        .collect();
    kept.sort_unstable();
    kept
}

/// Flags of `fidelity`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vqvae train --resume runs/vq --stage classifier\n  vqvae fidelity runs/vq --each 50 --out fidelity.png"
)]
pub struct FidelityArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Samples of each class.
    #[arg(long, default_value_t = 50)]
    each: usize,
    #[command(flatten)]
    config: SamplingConfig,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A PNG of the curve.
    #[arg(long, value_name = "PNG")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// One point of the curve.
struct Point {
    kept: f64,
    accuracy: f64,
    diversity: f64,
}

/// Runs `fidelity`.
pub(super) fn run(args: &FidelityArgs) -> Result<()> {
    ConfigError::ensure((10..=4096).contains(&args.each), "--each", args.each, "10 to 4096")?;
    args.config.validate()?;
    args.out.iter().try_for_each(|path| ensure_png("--out", path))?;
    let (trained, device) = load_with_priors(&args.model)?;
    let classes = trained.classes().len();
    ensure!(classes > 0, "the priors are told no class: there is nothing to be faithful to");
    let rejector = classifier(&args.model.model, REJECTOR, device)?;
    let judged_by = classifier(&args.model.model, JUDGE, device)?;
    let samples = draw(args, &trained, device, classes)?;
    let scores = log_probs(&rejector.model, &samples, device);
    let labels = samples.labels.clone().unwrap_or_default();
    let top = (trained.autoencoder.model.config().levels - 1) as f64;
    let point = |images: &Images, kept: f64| Point {
        kept,
        accuracy: judge(&judged_by.model, images, device).1,
        diversity: diversity(images, top),
    };
    let points: Vec<Point> = KEPT
        .iter()
        .map(|&kept| {
            let count = (args.each as f64 * kept).round() as usize;
            let rows = likeliest_of_each(&labels, &scores, |_| count.max(2));
            point(&samples.select(&rows), kept)
        })
        .collect();
    let real = point(&data::load(&trained.pipeline.data)?.test, 1.);
    if let Some(path) = &args.out {
        plot(path, &points, &real)?;
    }
    let to_json =
        |it: &Point| json!({"kept": it.kept, "accuracy": it.accuracy, "diversity": it.diversity});
    if args.json {
        let curve: Vec<Value> = points.iter().map(to_json).collect();
        print_json(
            &json!({"samples": samples.len(), "curve": curve, "test_images": to_json(&real)}),
        );
        return Ok(());
    }
    println!(
        "{} samples of each of {classes} classes, judged by a classifier of its own",
        args.each
    );
    println!("  kept     of its class   distance of two of a class");
    for Point { kept, accuracy, diversity } in &points {
        println!("  {:>3.0} %    {:>6.1} %       {diversity:.4}", 100. * kept, 100. * accuracy);
    }
    println!("  test images {:>4.1} %      {:.4}", 100. * real.accuracy, real.diversity);
    if let Some(path) = &args.out {
        println!("{}", path.display());
    }
    Ok(())
}

fn draw(
    args: &FidelityArgs,
    trained: &TrainedPipeline,
    device: Device,
    classes: usize,
) -> Result<Images> {
    let labels: Vec<u32> =
        (0..classes as u32).flat_map(|class| std::iter::repeat_n(class, args.each)).collect();
    let count = labels.len();
    let ticker = Ticker::new(
        "draw",
        count * trained.autoencoder.model.config().codes() as usize,
        args.quiet,
    );
    let (threads, precision) = (args.model.threads(), args.model.precision);
    let drawing = Drawing { sampler: None, device, threads, precision };
    let draws = Draws { config: args.config, seed: args.seed, known: 0 };
    let request = Request { count, labels: Some(labels.clone()), given: None };
    let codes = draw_codes(trained, &request, &drawing, draws, &|n| ticker.tick(n))?;
    Ok(Images::new(decode(trained, &codes), Some(labels)))
}

/// Root mean square difference of two images of one class, levels spread over `[0, 1]`: the mean over pairs and classes.
fn diversity(images: &Images, top: f64) -> f64 {
    let labels = images.labels.as_deref().unwrap_or_default();
    let mut of_classes = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (row, &label) in labels.iter().enumerate() {
        of_classes.entry(label).or_default().push(row);
    }
    let mut distances = Vec::new();
    for rows in of_classes.values() {
        // neighbours in a ring: as many pairs as images
        for (i, &row) in rows.iter().enumerate() {
            let other = rows[(i + 1) % rows.len()];
            if other != row {
                let at = |row| images.levels.index_axis(Axis(0), row);
                distances.push(distance(at(row), at(other)) / top);
            }
        }
    }
    mean(&distances)
}

fn distance(a: ArrayView3<'_, u16>, b: ArrayView3<'_, u16>) -> f64 {
    let square = |(&a, &b): (&u16, &u16)| (f64::from(a) - f64::from(b)).powi(2);
    (a.iter().zip(b.iter()).map(square).sum::<f64>() / a.len() as f64).sqrt()
}

fn plot(path: &std::path::Path, points: &[Point], real: &Point) -> Result<()> {
    let mut curve: Vec<(f64, f64)> =
        points.iter().map(|it| (it.diversity, 100. * it.accuracy)).collect();
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    let chart = Chart {
        title: "Rejection by a classifier: all samples down to the likeliest tenth",
        x_label: "root mean square distance of two samples of a class",
        y_label: "of their class, per cent",
        ..Chart::default()
    };
    let series = [
        Series { name: "samples".into(), points: curve },
        Series { name: "test images".into(), points: vec![(real.diversity, 100. * real.accuracy)] },
    ];
    chart.draw(path, &series)
}

/// Of the images `tried`, as many of each class as are `wanted`: the likeliest by a classifier.
pub(super) fn reject(
    rejector: &TrainedClassifier,
    images: Array4<u16>,
    tried: &[u32],
    wanted: &[u32],
    device: Device,
) -> Array4<u16> {
    let images = Images::new(images, Some(tried.to_vec()));
    let scores = log_probs(&rejector.model, &images, device);
    let count = |label: u32| wanted.iter().filter(|&&it| it == label).count();
    images.select(&likeliest_of_each(tried, &scores, count)).levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_of_each_class_are_kept_in_their_order() {
        let labels = [0, 1, 0, 1, 0, 1];
        let log_probs = [-3., -1., -1., -2., -2., -9.];
        let kept = |count: fn(u32) -> usize| likeliest_of_each(&labels, &log_probs, count);
        assert_eq!(kept(|_| 2), [1, 2, 3, 4]);
        assert_eq!(kept(|class| class as usize), [1]);
    }
}
