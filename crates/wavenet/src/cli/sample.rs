//! `sample` and `complete`: sound from a network.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use core_layers::{ConfigError, cli::ModelArgs};
use ndarray::Array2;

use super::{
    draw::{DrawArgs, Drawing, sound},
    load,
};
use crate::data::wav;

/// Flags of `sample`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  wavenet sample runs/voice --seconds 3 --seed 7 --out x.wav\n  wavenet sample runs/voice --seconds 60 --stream | aplay"
)]
pub struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    draw: DrawArgs,
    /// Write one clip as WAV to stdout while it is spoken.
    #[arg(long, conflicts_with_all = ["out", "npy", "spectrogram"])]
    stream: bool,
}

/// Runs `sample`.
pub(super) fn run(args: &SampleArgs) -> Result<()> {
    args.draw.validate(args.stream)?;
    let (trained, device) = load(&args.model)?;
    let features = args.draw.read_features(&trained)?;
    let samples = args.draw.samples(&trained, features.as_ref())?;
    let context = args.draw.context(&trained, features.as_ref())?;
    let drawing = Drawing { trained: &trained, device, args: &args.model };
    if args.stream {
        return args.draw.stream(&drawing, &context, samples);
    }
    let mut symbols = Array2::zeros((args.draw.count, samples));
    args.draw.run(&drawing, &context, &mut symbols, 0)?;
    let sound = sound(&trained, symbols.view());
    args.draw.write(&symbols, &sound, trained.model.sample_rate())
}

/// Flags of `complete`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  wavenet complete runs/voice --audio x.wav --keep-seconds 1 --seconds 3 --count 3 --out y.wav"
)]
pub struct CompleteArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The recording whose beginning is given.
    #[arg(long, value_name = "WAV")]
    audio: PathBuf,
    /// Seconds that are given; what is written holds them as they were read.
    #[arg(long)]
    keep_seconds: f64,
    #[command(flatten)]
    draw: DrawArgs,
}

/// Runs `complete`.
pub(super) fn complete(args: &CompleteArgs) -> Result<()> {
    args.draw.validate(false)?;
    let (trained, device) = load(&args.model)?;
    let rate = trained.model.sample_rate();
    let given = wav::read(&args.audio)?.resampled(rate)?;
    let known = (args.keep_seconds * f64::from(rate)).round() as usize;
    ConfigError::ensure(
        args.keep_seconds >= 0. && known <= given.samples.len(),
        "--keep-seconds",
        args.keep_seconds,
        &format!("0 to {:.3}, what {} is long", given.seconds(), args.audio.display()),
    )?;
    let features = args.draw.read_features(&trained)?;
    let samples = args.draw.samples(&trained, features.as_ref())?;
    ConfigError::ensure(
        samples >= known,
        "--seconds",
        samples as f64 / f64::from(rate),
        "at least --keep-seconds",
    )?;
    let context = args.draw.context(&trained, features.as_ref())?;
    let quantizer = trained.about.run.data.quantizer();
    let mut symbols = Array2::from_shape_fn((args.draw.count, samples), |(_, t)| {
        if t < known { u32::from(quantizer.encode(given.samples[t])) } else { 0 }
    });
    let drawing = Drawing { trained: &trained, device, args: &args.model };
    args.draw.run(&drawing, &context, &mut symbols, known)?;
    let mut sounds = sound(&trained, symbols.view());
    for sound in &mut sounds {
        sound[..known].copy_from_slice(&given.samples[..known]);
    }
    args.draw.write(&symbols, &sounds, rate)
}
