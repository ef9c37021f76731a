//! The demo: a small WaveNet on the embedded voice, measured against compressors, with sounds and pictures.

use anyhow::{Result, bail, ensure};
use core_layers::{
    checkpoint::write_atomic,
    cli::{DemoArgs, counted},
    device::physical_cores,
    plot::{learning_curve, spectrogram},
    run::{METRICS, RunFolder},
    training::Ending,
};
use tch::Device;

use super::{
    baselines,
    compress::{compress, decompress},
    draw::speak,
    evaluate::dims,
    train::{fit_to_data, watch},
};
use crate::{
    config::preset,
    data::{self, Clip, Dataset, wav},
    evaluate,
    model::SoundContext,
    trained::{Trained, Weights},
};

/// Runs the demo.
pub(super) fn run(args: &DemoArgs) -> Result<()> {
    let args = &args.placed();
    println!("The demo: recorded speech, one sample at a time, on two cores in about a minute.");
    println!(
        "All commands: wavenet --help. Everything it makes goes to {}/.\n",
        args.out.display()
    );
    core_layers::cli::ensure_folder("--out", &args.out)?;
    std::fs::create_dir_all(&args.out)?;
    let trained = fit(args)?;
    let dataset = data::load(&trained.about.run.data)?;
    table(&trained, &dataset, args)?;
    sounds(&trained, &dataset, args)
}

fn fit(args: &DemoArgs) -> Result<Trained> {
    let Some(mut run) = preset("demo") else { bail!("there is no preset demo") };
    for line in fit_to_data(&mut run)? {
        println!("{line}");
    }
    if args.quick {
        run.train.num_steps = 20;
        run.train.num_samples = 0;
        run.train.eval_examples = 2;
    }
    let path = args.out.join("voice");
    println!("Training a WaveNet: {} steps.", run.train.num_steps);
    let folder = RunFolder::create(&path, true)?;
    if let Ending::Stopped { step } = watch(&run, &folder, false)? {
        bail!("stopped at step {step}");
    }
    Trained::load(&path, Weights::Ema, Device::Cpu)
}

/// Prints what the test clips cost, and checks that the codec's file is restored.
fn table(trained: &Trained, dataset: &Dataset, args: &DemoArgs) -> Result<()> {
    // several speakers say the same
    let renamed = |clip: &Clip| {
        let speaker = &dataset.speakers[clip.speaker as usize];
        Clip { name: format!("{speaker}-{}", clip.name), ..clip.clone() }
    };
    let clips: Vec<Clip> = dataset.test.iter().map(renamed).collect();
    let clips = clips.as_slice();
    let dims = dims(clips);
    let samples: usize = dims.iter().sum();
    let model =
        evaluate::nats(&trained.model, clips, Device::Cpu, &mut |_| {}).likelihood_of(&dims);
    let chr = compress(trained, clips, physical_cores(), true)?;
    write_atomic(&args.out.join("voice.chr"), &chr)?;
    let mut rows = baselines::all(dataset, clips)?;
    rows.push(("WaveNet".into(), model.bits_per_dim));
    let file = format!("our codec's file ({} bytes)", chr.len());
    rows.push((file, 8. * chr.len() as f64 / samples as f64));
    println!(
        "\n{}, {:.1} s at {} Hz, {} levels           bits per sample",
        counted(clips.len(), "test clip"),
        samples as f64 / f64::from(dataset.sample_rate),
        dataset.sample_rate,
        dataset.num_levels
    );
    for (name, bits) in rows {
        println!("  {name:<58} {bits:6.3}  {}", "=".repeat((bits * 4.).round() as usize));
    }
    let restored = decompress(trained, &chr, physical_cores(), true)?;
    let mut wanted: Vec<&Clip> = clips.iter().collect();
    wanted.sort_by_key(|clip| std::cmp::Reverse(clip.levels.len()));
    let same = wanted.iter().zip(&restored).all(|(a, b)| a.levels == b.levels);
    ensure!(same && wanted.len() == restored.len(), "the codec did not restore the clips");
    println!(
        "\nThe file was restored: {}, every sample the same.",
        counted(restored.len(), "clip")
    );
    Ok(())
}

/// What it says, beside what was said.
fn sounds(trained: &Trained, dataset: &Dataset, args: &DemoArgs) -> Result<()> {
    let rate = dataset.sample_rate;
    let path = |name: &str| args.out.join(name);
    let quantizer = trained.about.run.data.quantizer();
    let seconds = if args.quick { 0.2 } else { 3. };
    let speakers = trained.model.config().speakers as u32;
    let mut context = SoundContext::none(2);
    if speakers > 0 {
        context = context.with_speakers((0..2).map(|row| row % speakers).collect());
    }
    let spoken = speak(trained, &context, seconds, 1)?.concat();
    wav::write(&path("voice.wav"), &spoken, rate)?;
    let real: Vec<f32> = dataset
        .test
        .iter()
        .flat_map(|clip| quantizer.decode_all(&clip.levels))
        .take(spoken.len())
        .collect();
    spectrogram(&path("voice.png"), &spoken, rate)?;
    spectrogram(&path("recorded.png"), &real, rate)?;
    let series = [("training", "train_bits_per_dim"), ("validation", "valid_bits_per_dim")];
    learning_curve(
        &path("voice-curve.png"),
        &path("voice").join(METRICS),
        "WaveNet on speech",
        "bits per sample",
        &series,
    )?;
    println!("\nMade in {}/:", args.out.display());
    println!(
        "  voice.wav            {seconds:.0} seconds by each of two voices, of words that there are not"
    );
    println!("  voice.png            their spectrogram; recorded.png, that of recordings");
    println!("  voice-curve.png      bits per sample while it learnt");
    println!("  voice.chr            the compressed test clips; voice/ the trained model");
    Ok(())
}
