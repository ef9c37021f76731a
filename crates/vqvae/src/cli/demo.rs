//! The demo: the embedded digits as a few codes each, and digits that the prior made up.

use std::path::Path;

use anyhow::{Result, bail};
use core_layers::{
    cli::DemoArgs,
    dataset::Split,
    device::physical_cores,
    plot::learning_curve,
    run::{METRICS, RunFolder},
    sampling::{Draws, SamplingConfig},
    training::Ending,
};
use pixelcnn::{
    data::{self, write_sheet},
    sample::Drawing,
};
use tch::Device;

use super::{
    compress::{compress, decompress},
    rivals::Rivals,
    train::{Stage, fit_to_data, walk},
};
use crate::{
    config::preset,
    evaluate::reconstruct,
    sample::{Request, decode, draw_codes},
    train::pairs,
    trained::{TrainedPipeline, prior_folder},
};

/// Runs the demo.
pub(super) fn run(args: &DemoArgs) -> Result<()> {
    let args = &args.placed();
    let out = args.out.join("vqvae");
    println!(
        "The demo: digits as 16 codes each, and a prior that samples them, in about a minute and a half."
    );
    println!("All commands: vqvae --help. Everything it makes goes to {}/.\n", out.display());
    let Some(mut pipeline) = preset("demo") else { bail!("there is no preset demo") };
    if args.quick {
        pipeline.train.num_steps = 20;
        pipeline.prior_train.num_steps = 20;
    }
    let dataset = data::load(&pipeline.data)?;
    fit_to_data(&mut pipeline, &dataset);
    pipeline.validate()?;
    let folder = RunFolder::create(&out, true)?;
    let text = serde_json::to_string_pretty(&pipeline)?;
    core_layers::checkpoint::write_atomic(&folder.file(core_layers::run::CONFIG), text.as_bytes())?;
    if let Ending::Stopped { step } = walk(&pipeline, &dataset, &out, Stage::All, false)? {
        bail!("stopped at step {step}");
    }
    let trained = TrainedPipeline::load(&out, core_layers::checkpoint::Weights::Ema, Device::Cpu)?;
    show(&trained, &out)
}

fn show(trained: &TrainedPipeline, out: &Path) -> Result<()> {
    const SHOWN: usize = 16;
    let dataset = data::load(&trained.pipeline.data)?;
    let test = dataset.split(Split::Test);
    let config = trained.autoencoder.model.config();
    let levels = config.levels as u32;
    let done = reconstruct(&trained.autoencoder.model, test, Device::Cpu, &mut |_| {});
    let sheet = pairs(&test.levels, &done.levels, SHOWN);
    write_sheet(&out.join("reconstructions.png"), sheet.view(), levels, SHOWN)?;
    for usage in done.usage(config) {
        let (h, w) = usage.size;
        println!(
            "\n{} test images as {h} x {w} codes of {}: {:.2} dB, {:.0} % of the codes used, perplexity {:.1}",
            test.len(),
            config.quantiser.codes,
            done.psnr(),
            100. * usage.used,
            usage.perplexity
        );
    }
    let chr = compress(trained, test, Device::Cpu, physical_cores(), true)?;
    core_layers::checkpoint::write_atomic(&out.join("test.chr"), &chr)?;
    let back = decompress(trained, &chr, physical_cores(), true)?;
    println!("{}", Rivals::measure(&test.levels, &back.levels, levels, chr.len(), true)?);
    curve(
        out,
        "autoencoder",
        "reconstruction.png",
        "nats per dimension",
        [("training", "train_reconstruction"), ("validation", "valid_reconstruction")],
    )?;
    curve(
        out,
        &prior_folder(config, 0),
        "prior.png",
        "bits per code",
        [("training", "train_bits_per_dim"), ("validation", "valid_bits_per_dim")],
    )?;
    println!("\nMade in {}/:", out.display());
    println!("  reconstructions.png  test images, and what their codes keep of them");
    println!("  codebook.png         every code, decoded");
    println!("  samples.png          digits that nobody wrote, a row a class");
    println!("  reconstruction.png, prior.png  how both stages learnt");
    println!("  test.chr             the test images as codes; the rest is the trained run");
    Ok(())
}

fn curve(out: &Path, stage: &str, name: &str, unit: &str, series: [(&str, &str); 2]) -> Result<()> {
    learning_curve(&out.join(name), &out.join(stage).join(METRICS), stage, unit, &series)
}

/// A sheet of samples: a row a class, or a square.
pub(super) fn samples(trained: &TrainedPipeline, path: &Path) -> Result<()> {
    const EACH: usize = 12;
    let classes = trained.classes().len();
    let labels: Vec<u32> =
        (0..classes as u32).flat_map(|class| std::iter::repeat_n(class, EACH)).collect();
    let labels = (classes > 0).then_some(labels);
    let count = EACH * if classes == 0 { 4 } else { classes };
    let draws = Draws { config: SamplingConfig::default(), seed: 1, known: 0 };
    let request = Request { count, labels, given: None };
    let codes = draw_codes(trained, &request, &Drawing::default(), draws, &|_| {})?;
    let levels = trained.autoencoder.model.config().levels as u32;
    write_sheet(path, decode(trained, &codes).view(), levels, EACH)
}
