//! The commands of this crate, used by its own binary and by `chainrule vqvae`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod audit;
mod codebook;
mod collapse;
mod compress;
mod demo;
mod evaluate;
mod fidelity;
mod reconstruct;
mod rivals;
mod sample;
mod train;

use anyhow::Result;
use clap::{Arg, Subcommand};
use core_layers::cli::{DecompressArgs, DemoArgs, InfoArgs, ModelArgs};
use tch::Device;

use crate::trained::TrainedPipeline;

/// What can be asked of the models of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fit an autoencoder to images, and priors to its codes: all stages, or one.
    Train(Box<train::TrainArgs>),
    /// Send images through their codes and back.
    #[command(mut_args(run_folder))]
    Reconstruct(reconstruct::ReconstructArgs),
    /// Draw images: codes from the priors, top down, and pictures of them.
    #[command(mut_args(run_folder))]
    Sample(sample::SampleArgs),
    /// Draw endings of an image whose top rows are given.
    #[command(mut_args(run_folder))]
    Complete(sample::CompleteArgs),
    /// How well images come back and how probable their codes are.
    #[command(mut_args(run_folder))]
    Evaluate(evaluate::EvaluateArgs),
    /// The codebook's doctor: usage, perplexity, dead codes, nearest distances, a picture of every code.
    #[command(mut_args(run_folder))]
    Codebook(codebook::CodebookArgs),
    /// Rejection sampling by a classifier: fidelity against diversity.
    #[command(mut_args(run_folder))]
    Fidelity(fidelity::FidelityArgs),
    /// Why codes: a VAE with a `PixelCNN` for its decoder forgets its latent.
    Collapse(collapse::CollapseArgs),
    /// Write images to a .chr file as codes, with loss.
    #[command(mut_args(run_folder))]
    Compress(compress::CompressArgs),
    /// Restore the pictures of a .chr file.
    #[command(after_help = "Example:\n  vqvae decompress runs/vq ab.chr --out restored")]
    #[command(mut_args(run_folder))]
    Decompress(DecompressArgs),
    /// Check that the priors keep the laws that their probabilities rest on.
    #[command(mut_args(run_folder))]
    Audit(audit::AuditArgs),
    /// Describe a run or a preset.
    #[command(after_help = "Example:\n  vqvae info --preset demo --json\n  vqvae info runs/vq")]
    #[command(mut_args(run_folder))]
    Info(InfoArgs),
    /// Train on the embedded digits, show reconstructions, codes and samples: what runs where no command is given.
    Demo(DemoArgs),
}

/// What MODEL is in this crate, whose models are several files each.
fn run_folder(arg: Arg) -> Arg {
    if arg.get_id() == "model" { arg.help("A run folder") } else { arg }
}

/// Carries out `command`, or the demo.
///
/// # Errors
/// Whatever kept the command from finishing, in one line.
pub fn run(command: Option<Command>) -> Result<()> {
    core_layers::kernels::check_settings()?;
    match command {
        Some(Command::Train(args)) => train::run(&args),
        Some(Command::Reconstruct(args)) => reconstruct::run(&args),
        Some(Command::Sample(args)) => sample::run(&args),
        Some(Command::Complete(args)) => sample::complete(&args),
        Some(Command::Evaluate(args)) => evaluate::run(&args),
        Some(Command::Codebook(args)) => codebook::run(&args),
        Some(Command::Fidelity(args)) => fidelity::run(&args),
        Some(Command::Collapse(args)) => collapse::run(&args),
        Some(Command::Compress(args)) => compress::run(&args),
        Some(Command::Decompress(args)) => compress::decompress_file(&args),
        Some(Command::Audit(args)) => audit::run(&args),
        Some(Command::Info(args)) => audit::info(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        None => demo::run(&DemoArgs::default()),
    }
}

/// The run that the flags name, on their device.
fn load(args: &ModelArgs) -> Result<(TrainedPipeline, Device)> {
    let device = args.open()?;
    Ok((TrainedPipeline::load(&args.model, args.weights, device)?, device))
}

/// The same, whose priors are trained.
fn load_with_priors(args: &ModelArgs) -> Result<(TrainedPipeline, Device)> {
    let (trained, device) = load(args)?;
    trained.ensure_priors(&args.model)?;
    Ok((trained, device))
}

/// Prints one JSON object.
fn print_json(value: &serde_json::Value) {
    println!("{value}");
}
