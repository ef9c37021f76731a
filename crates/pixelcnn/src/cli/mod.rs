//! The commands of this crate, used by its own binary and by `chainrule pixelcnn`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod audit;
mod compress;
mod demo;
mod draw;
mod evaluate;
mod sample;
mod train;

pub use draw::{DrawArgs, GivenArgs};

use anyhow::Result;
use clap::Subcommand;
use core_layers::{
    ConfigError,
    cli::{DecompressArgs, DemoArgs, InfoArgs, ModelArgs, label},
};
use tch::Device;

use crate::trained::Trained;

/// What can be asked of the models of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fit a model to images and write it to a run folder.
    Train(Box<train::TrainArgs>),
    /// How probable images are: bits per dimension, nats per image.
    Evaluate(evaluate::EvaluateArgs),
    /// Which class images belong to, by Bayes' rule from a class-conditional model.
    Classify(evaluate::ClassifyArgs),
    /// Draw images.
    Sample(sample::SampleArgs),
    /// Draw endings of an image whose top rows are given.
    Complete(sample::CompleteArgs),
    /// Write images to a .chr file without loss.
    Compress(compress::CompressArgs),
    /// Restore the images of a .chr file.
    #[command(after_help = "Example:\n  pixelcnn decompress runs/digits ab.chr --out restored")]
    Decompress(DecompressArgs),
    /// Check that a model keeps the laws that its probabilities rest on.
    Audit(audit::AuditArgs),
    /// Describe a checkpoint or a preset.
    #[command(
        after_help = "Example:\n  pixelcnn info --preset gated-mnist --json\n  pixelcnn info runs/digits"
    )]
    Info(InfoArgs),
    /// Train on the embedded digits, compress them, draw some: what runs where no command is given.
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

/// The model that the flags name, on their device.
fn load(args: &ModelArgs) -> Result<(Trained, Device)> {
    let device = args.open()?;
    Ok((Trained::load(&args.model, args.weights, device)?, device))
}

/// Prints one JSON object.
fn print_json(value: &serde_json::Value) {
    println!("{value}");
}

/// The class that `--class` names.
fn class(text: &str, trained: &Trained) -> Result<u32, ConfigError> {
    let classes = trained.model.config().classes() as u32;
    label("--class", "classes", text, &trained.about.label_names, classes)
}
