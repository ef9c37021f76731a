//! The demo: a class-conditional Gated PixelCNN and a NADE on the embedded digits, measured against compressors, with
//! pictures.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use core_layers::{
    autocast::Precision,
    bayes,
    cli::{DemoArgs, counted},
    plot::learning_curve,
    run::{METRICS, RunFolder},
    sampling::{Draws, SamplingConfig, draw_in_parallel},
    training::Ending,
};
use ndarray::{Array2, Array4, Axis};
use tch::Device;

use super::{
    audit::ReceptiveField,
    compress::{Machine, compress, decompress},
    sample::{completion_rows, to_levels},
    train::watch,
};
use crate::{
    config::{Run, preset},
    data::{self, Images},
    evaluate,
    model::ImageContext,
    sample::ExactEngine,
    trained::{Trained, Weights},
};

/// Runs the demo.
pub(super) fn run(args: &DemoArgs) -> Result<()> {
    let args = &args.placed();
    println!(
        "The demo: images of handwritten digits, one value at a time, on two cores in about three minutes."
    );
    println!(
        "All commands: pixelcnn --help. Everything it makes goes to {}/.\n",
        args.out.display()
    );
    core_layers::cli::ensure_folder("--out", &args.out)?;
    std::fs::create_dir_all(&args.out)?;
    let nade = fit("nade", "a NADE, the oldest of the family", args)?;
    let gated = fit("digits", "a class-conditional Gated PixelCNN", args)?;
    let dataset = data::load(&gated.about.run.data)?;
    let test = &dataset.test;
    let chr = table(&nade, &gated, &dataset.train, test, &args.out)?;
    restore(&gated, test, &chr)?;
    pictures(&gated, test, args)
}

/// Trains a preset, or finds it trained.
fn fit(name: &str, what: &str, args: &DemoArgs) -> Result<Trained> {
    let Some(mut run): Option<Run> = preset(name) else { bail!("there is no preset {name}") };
    if args.quick {
        run.train.num_steps = 20;
        run.train.num_samples = 0;
    }
    let path = args.out.join(name);
    println!("Training {what}: {} steps.", run.train.num_steps);
    let folder = RunFolder::create(&path, true)?;
    if let Ending::Stopped { step } = watch(&run, &folder, false)? {
        bail!("stopped at step {step}");
    }
    Trained::load(&path, Weights::Ema, Device::Cpu)
}

/// Prints what the test images cost, and returns the bytes that the codec wrote.
fn table(
    nade: &Trained,
    gated: &Trained,
    train: &Images,
    test: &Images,
    out: &Path,
) -> Result<Vec<u8>> {
    let dims = test.dims();
    let count = (test.len() * dims) as f64;
    let levels = gated.model.config().image().levels;
    let of_bytes = |bytes: usize| 8. * bytes as f64 / count;
    let raw: Vec<u8> = test.levels.iter().map(|&level| level as u8).collect();
    let sheet = sheet(test, levels as u32)?;
    let (packer, packed) = general_compressor(&raw)?;
    let by_class = evaluate::nats_by_class(&gated.model, test, Device::Cpu, &mut |_| {});
    let mut unknown = core_layers::likelihood::Tally::default();
    unknown.add(by_class.iter().map(|nats| bayes::marginal(nats)));
    let given =
        evaluate::nats(&gated.model, test, Device::Cpu, &mut |_| {}).likelihood(dims).bits_per_dim;
    let machine = Machine {
        device: Device::Cpu,
        threads: core_layers::device::physical_cores(),
        precision: Precision::F32,
        quiet: true,
    };
    let chr = compress(gated, test, None, &machine)?;
    core_layers::checkpoint::write_atomic(&out.join("test.chr"), &chr)?;
    let rows = [
        ("uniform".to_owned(), (levels as f64).log2()),
        (
            "independent pixels (counted on the training images)".into(),
            independent(train, test, levels as usize),
        ),
        (format!("PNG, all images in one sheet ({} bytes)", sheet.len()), of_bytes(sheet.len())),
        (format!("{packer}, all images in one stream ({packed} bytes)"), of_bytes(packed)),
        (
            "NADE".into(),
            evaluate::nats(&nade.model, test, Device::Cpu, &mut |_| {})
                .likelihood(dims)
                .bits_per_dim,
        ),
        ("Gated PixelCNN, class unknown".into(), unknown.likelihood(dims).bits_per_dim),
        ("Gated PixelCNN, class given".into(), given),
        (format!("our codec's file, classes included ({} bytes)", chr.len()), of_bytes(chr.len())),
    ];
    println!(
        "\n{} test images of 8 x 8 pixels and {levels} grey levels     bits per dimension",
        test.len()
    );
    for (name, bits) in rows {
        println!("  {name:<58} {bits:6.3}  {}", "=".repeat((bits * 8.).round() as usize));
    }
    Ok(chr)
}

/// All images as one PNG, side by side without gaps, one pixel a pixel.
fn sheet(images: &Images, levels: u32) -> Result<Vec<u8>> {
    let (count, height, width, _) = images.levels.dim();
    let columns = (count as f64).sqrt().ceil() as usize;
    let rows = count.div_ceil(columns);
    let mut sheet = ndarray::Array3::zeros((rows * height, columns * width, 1));
    for (index, image) in images.levels.outer_iter().enumerate() {
        let (top, left) = (index / columns * height, index % columns * width);
        sheet.slice_mut(ndarray::s![top..top + height, left..left + width, ..]).assign(&image);
    }
    data::png_bytes(&data::to_image(sheet.view(), levels)?)
}

/// The smaller of zstd at its highest level and xz at its, by name and bytes.
fn general_compressor(raw: &[u8]) -> Result<(&'static str, usize)> {
    let zstd = zstd::bulk::compress(raw, 22)?.len();
    let mut xz = Vec::new();
    let mut encoder = liblzma::read::XzEncoder::new(raw, 9);
    std::io::Read::read_to_end(&mut encoder, &mut xz)?;
    Ok(if zstd < xz.len() { ("zstd -22", zstd) } else { ("xz -9", xz.len()) })
}

/// Bits per dimension of the test images where each pixel has a distribution of its own, counted on the training images
/// with one added to every count (Laplace).
fn independent(train: &Images, test: &Images, levels: usize) -> f64 {
    let dims = train.dims();
    let mut counts = vec![1f64; dims * levels];
    let train_symbols = evaluate::symbols(train.levels.view());
    for ((_, position), &symbol) in train_symbols.indexed_iter() {
        counts[position * levels + symbol as usize] += 1.;
    }
    let total = (train.len() + levels) as f64;
    let test_symbols = evaluate::symbols(test.levels.view());
    let bits: f64 = test_symbols
        .indexed_iter()
        .map(|((_, position), &symbol)| {
            -(counts[position * levels + symbol as usize] / total).log2()
        })
        .sum();
    bits / test_symbols.len() as f64
}

/// Restores the file and compares.
fn restore(gated: &Trained, test: &Images, chr: &[u8]) -> Result<()> {
    let machine = Machine {
        device: Device::Cpu,
        threads: core_layers::device::physical_cores(),
        precision: Precision::F32,
        quiet: true,
    };
    let back = decompress(gated, chr, &machine)?;
    ensure!(back.levels == test.levels, "the codec lost something");
    println!("\nThe file was restored: {}, every bit the same.", counted(back.len(), "image"));
    Ok(())
}

fn pictures(gated: &Trained, test: &Images, args: &DemoArgs) -> Result<()> {
    const EACH: usize = 12;
    let image = gated.model.config().image();
    let levels = image.levels as u32;
    let classes = gated.model.config().classes() as u32;
    let labels = (0..classes).flat_map(|class| std::iter::repeat_n(class, EACH)).collect();
    let mut symbols = Array2::zeros((classes as usize * EACH, test.dims()));
    let draws = Draws {
        config: SamplingConfig { temperature: 0.9, ..SamplingConfig::default() },
        seed: 1,
        known: 0,
    };
    let engine = ExactEngine::new(&gated.model)?;
    let threads = core_layers::device::physical_cores();
    draw_in_parallel(
        &engine,
        &ImageContext::labels(labels),
        symbols.view_mut(),
        draws,
        threads,
        &|_| {},
    );
    let samples: Array4<u16> = to_levels(gated, &symbols);
    let path = |name: &str| args.out.join(name);
    data::write_sheet(&path("samples.png"), samples.view(), levels, EACH)?;

    let endings = 10;
    let shown = test.select(&(0..8).collect::<Vec<_>>());
    let completions = completion_rows(gated, &shown, image.height as usize / 2, endings)?;
    data::write_sheet(
        &path("completions.png"),
        completions.view(),
        levels,
        completions.len_of(Axis(0)) / shown.len(),
    )?;

    let field = ReceptiveField::measure(&gated.model, 1);
    field.draw(&path("receptive-field.png"))?;
    let series = [("training", "train_bits_per_dim"), ("validation", "valid_bits_per_dim")];
    let metrics = path("digits").join(METRICS);
    learning_curve(
        &path("curve.png"),
        &metrics,
        "Gated PixelCNN on digits",
        "bits per dimension",
        &series,
    )?;
    println!("\nMade in {}/:", args.out.display());
    println!("  samples.png          digits that nobody wrote, a row a class");
    println!("  completions.png      a test image, its top half, and {endings} endings");
    println!(
        "  receptive-field.png  what one pixel depends on: {:.1} % blind spot",
        field.blind_percent
    );
    println!("  curve.png            bits per dimension while it learnt");
    println!("  test.chr             the compressed test images; digits/ the trained model");
    Ok(())
}
