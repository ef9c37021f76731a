//! The commands of this crate, used by its own binary and by `chainrule wavenet`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod audit;
mod baselines;
mod compress;
mod demo;
mod draw;
mod evaluate;
mod sample;
mod sampler;
mod train;

use anyhow::Result;
use clap::Subcommand;
use core_layers::{
    ConfigError,
    cli::{DecompressArgs, DemoArgs, InfoArgs, ModelArgs, label},
};
use tch::Device;

use crate::trained::Trained;

/// What can be asked of the networks of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fit a network to sound and write it to a run folder.
    Train(Box<train::TrainArgs>),
    /// How probable clips are: bits per sample, nats per clip.
    Evaluate(evaluate::EvaluateArgs),
    /// Who speaks, by Bayes' rule from a network told the speaker.
    Classify(evaluate::ClassifyArgs),
    /// Speak.
    Sample(sample::SampleArgs),
    /// Go on where a recording is broken off.
    Complete(sample::CompleteArgs),
    /// Write WAV files to a .chr file without loss.
    Compress(compress::CompressArgs),
    /// Restore the WAV files of a .chr file.
    #[command(after_help = "Example:\n  wavenet decompress runs/voice ab.chr --out restored")]
    Decompress(DecompressArgs),
    /// Check that a network keeps the laws that its probabilities rest on.
    Audit(audit::AuditArgs),
    /// Describe a checkpoint or a preset.
    #[command(
        after_help = "Example:\n  wavenet info --preset speech --json\n  wavenet info runs/voice"
    )]
    Info(InfoArgs),
    /// Train on the embedded voice, measure, speak: what runs where no command is given.
    Demo(DemoArgs),
}

/// Carries out `command`, or the demo.
///
/// # Errors
/// Whatever kept the command from finishing, in one line.
pub fn run(command: Option<Command>) -> Result<()> {
    core_layers::kernels::check_settings()?;
    match command {
        Some(Command::Train(args)) => train::run(&args),
        Some(Command::Evaluate(args)) => evaluate::run(&args),
        Some(Command::Classify(args)) => evaluate::classify(&args),
        Some(Command::Sample(args)) => sample::run(&args),
        Some(Command::Complete(args)) => sample::complete(&args),
        Some(Command::Compress(args)) => compress::run(&args),
        Some(Command::Decompress(args)) => compress::decompress_file(&args),
        Some(Command::Audit(args)) => audit::run(&args),
        Some(Command::Info(args)) => audit::info(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        None => demo::run(&DemoArgs::default()),
    }
}

fn load(args: &ModelArgs) -> Result<(Trained, Device)> {
    let device = args.open()?;
    Ok((Trained::load(&args.model, args.weights, device)?, device))
}

/// Prints one JSON object.
fn print_json(value: &serde_json::Value) {
    println!("{value}");
}

/// The speaker that a flag names.
fn speaker(text: &str, trained: &Trained) -> Result<u32, ConfigError> {
    let count = trained.model.config().speakers as u32;
    label("--speaker", "speakers", text, &trained.about.label_names, count)
}
