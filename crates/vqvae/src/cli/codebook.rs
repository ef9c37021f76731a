//! `codebook`: the codebook's doctor.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use core_layers::{
    cli::{ModelArgs, ensure_png},
    dataset::Split,
    run::{METRICS, Ticker},
};
use ndarray::{Array4, Axis, concatenate};
use pixelcnn::data::{self, write_sheet};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::{load, print_json};
use crate::{
    data::Codes,
    evaluate::{Usage, encode, usage_of},
    sample::decode,
    trained::{AUTOENCODER, CODES, TrainedPipeline},
};

/// Flags of `codebook`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vqvae codebook runs/vq --out codes.png")]
pub struct CodebookArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Over which images usage is counted.
    #[arg(long, value_enum, default_value_t = Split::Train)]
    split: Split,
    /// A PNG of every code decoded: an image all of that code, those most used first.
    #[arg(long, value_name = "PNG")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs `codebook`.
pub(super) fn run(args: &CodebookArgs) -> Result<()> {
    args.out.iter().try_for_each(|path| ensure_png("--out", path))?;
    let (trained, device) = load(&args.model)?;
    let config = trained.autoencoder.model.config();
    let images = data::load(&trained.pipeline.data)?.split(args.split).clone();
    let ticker = Ticker::new("encode", images.len(), args.quiet);
    let codes = encode(&trained.autoencoder.model, &images, device, &mut |n| ticker.tick(n));
    drop(ticker);
    let usages = usage_of(&codes, config);
    let restarts = restarts(&args.model.model.join(AUTOENCODER).join(METRICS));
    let levels: Vec<_> = usages
        .iter()
        .zip(trained.autoencoder.model.quantisers())
        .map(|(usage, quantiser)| (usage, nearest_distances(&quantiser.codebooks())))
        .collect();
    if args.json {
        let level = |(usage, distances): &(&Usage, Vec<f64>)| {
            json!({
                "size": usage.size,
                "codes": usage.counts.len(),
                "used": usage.used,
                "dead": usage.counts.iter().filter(|&&count| count == 0).count(),
                "perplexity": usage.perplexity,
                "counts": usage.counts,
                "nearest_distances": distances,
            })
        };
        print_json(&json!({
            "split": args.split.name(),
            "images": images.len(),
            "restarted_codes": restarts,
            "levels": levels.iter().map(level).collect::<Vec<_>>(),
        }));
    } else {
        println!(
            "over {} {} images; {restarts} codes restarted in training",
            images.len(),
            args.split.name()
        );
        for (usage, distances) in &levels {
            print_level(usage, distances);
        }
    }
    if let Some(path) = &args.out {
        picture_of(&trained, &usages, path)?;
        if !args.json {
            println!("{}", path.display());
        }
    }
    Ok(())
}

fn print_level(usage: &Usage, distances: &[f64]) {
    let total = usage.counts.len();
    let dead = usage.counts.iter().filter(|&&count| count == 0).count();
    println!(
        "{} x {} codes: {} of {total} used, {dead} dead, perplexity {:.1}",
        usage.size.0,
        usage.size.1,
        total - dead,
        usage.perplexity
    );
    let all = usage.counts.iter().sum::<u64>().max(1) as f64;
    let mut order: Vec<usize> = (0..total).collect();
    order.sort_by_key(|&code| std::cmp::Reverse(usage.counts[code]));
    let share = |code: &usize| format!("{code} ({:.1} %)", 100. * usage.counts[*code] as f64 / all);
    println!("  most used: {}", order.iter().take(5).map(share).collect::<Vec<_>>().join(", "));
    let mut sorted = distances.to_vec();
    sorted.sort_by(f64::total_cmp);
    println!(
        "  distance to the nearest other code: least {:.3}, median {:.3}, greatest {:.3}",
        sorted.first().unwrap_or(&f64::NAN),
        sorted.get(sorted.len() / 2).unwrap_or(&f64::NAN),
        sorted.last().unwrap_or(&f64::NAN)
    );
}

/// Of each code, the distance to the nearest other one of its codebook: G K numbers.
fn nearest_distances(codebooks: &Tensor) -> Vec<f64> {
    let books = codebooks.to_device(Device::Cpu).to_kind(Kind::Double);
    let codes = books.size()[1];
    let itself = Tensor::eye(codes, (Kind::Double, Device::Cpu)) * f64::MAX;
    let nearest: Vec<Tensor> = (0..books.size()[0])
        .map(|book| {
            let book = books.get(book);
            let distances = (book.unsqueeze(0) - book.unsqueeze(1)).square();
            let distances = distances.sum_dim_intlist([2i64].as_slice(), false, Kind::Double);
            (distances + &itself).amin([1i64].as_slice(), false).sqrt()
        })
        .collect();
    Vec::try_from(Tensor::cat(&nearest, 0)).expect("a flat double tensor is a vector")
}

/// Codes that training restarted, by its metrics; 0 where there are none.
fn restarts(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let of_line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        value.get("restarted_codes")?.as_f64()
    };
    text.lines().filter_map(of_line).sum::<f64>() as u64
}

/// The picture of every code of a run that has its codes at hand.
pub(super) fn picture(trained: &TrainedPipeline, run: &Path, path: &Path) -> Result<()> {
    let config = trained.autoencoder.model.config();
    let codes = Codes::load(&run.join(CODES), config)?;
    picture_of(trained, &usage_of(&codes.split(Split::Train).levels, config), path)
}

/// Draws every code of every level: an image all of that code, the other levels all of their most used one.
fn picture_of(trained: &TrainedPipeline, usages: &[Usage], path: &Path) -> Result<()> {
    let config = trained.autoencoder.model.config();
    let num_codes = config.quantiser.codes as usize;
    let books = config.quantiser.codebooks as usize;
    let orders: Vec<Vec<u16>> = usages
        .iter()
        .map(|usage| {
            let mut order: Vec<u16> = (0..num_codes as u32).map(|code| code as u16).collect();
            order.sort_by_key(|&code| std::cmp::Reverse(usage.counts[usize::from(code)]));
            order
        })
        .collect();
    let mut sheets = Vec::new();
    for shown in 0..usages.len() {
        let codes: Vec<Array4<u16>> = config
            .sizes()
            .iter()
            .enumerate()
            .map(|(level, &(h, w))| {
                let shape = (num_codes, h as usize, w as usize, books);
                let code = |row: usize| orders[level][if level == shown { row } else { 0 }];
                Array4::from_shape_fn(shape, |(row, ..)| code(row))
            })
            .collect();
        sheets.push(decode(trained, &codes));
    }
    let views: Vec<_> = sheets.iter().map(Array4::view).collect();
    let sheet = concatenate(Axis(0), &views)?;
    let columns = (num_codes as f64).sqrt().ceil() as usize;
    write_sheet(path, sheet.view(), config.levels as u32, columns)
}
