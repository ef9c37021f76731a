//! The commands of this crate, used by its own binary and by `chainrule gpt`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod audit;
mod compress;
mod info;
mod logits;
mod sample;
mod verify;

use anyhow::Result;
use clap::Subcommand;
use core_layers::cli::{DecompressArgs, InfoArgs};

/// What can be asked of the models of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write texts of the exact engine: one seed, one text on every machine.
    Sample(sample::SampleArgs),
    /// Go on where a text is broken off, by the exact engine.
    Complete(sample::CompleteArgs),
    /// Write a file to a .chr file without loss.
    Compress(compress::CompressArgs),
    /// Restore the file of a .chr file.
    #[command(after_help = "Example:\n  gpt decompress runs/book readme.chr --out restored")]
    Decompress(DecompressArgs),
    /// Check that a model keeps the laws that its probabilities rest on.
    Audit(audit::AuditArgs),
    /// Describe a model or a preset.
    #[command(after_help = "Example:\n  gpt info --preset llama-65b --json\n  gpt info runs/book")]
    Info(InfoArgs),
    /// Write the logits after given tokens, to compare with any other program.
    Logits(logits::LogitsArgs),
    /// Compare a model with what another program computed, layer by layer.
    Verify(verify::VerifyArgs),
}

/// Carries out `command`, or the demo.
///
/// # Errors
/// Whatever kept the command from finishing, in one line.
pub fn run(command: Option<Command>) -> Result<()> {
    // a wrong CHAINRULE_SIMD is said before anything is done
    core_layers::kernels::exact::Variant::detect()?;
    match command {
        Some(Command::Sample(args)) => sample::run(&args),
        Some(Command::Complete(args)) => sample::complete(&args),
        Some(Command::Compress(args)) => compress::run(&args),
        Some(Command::Decompress(args)) => compress::decompress(&args),
        Some(Command::Audit(args)) => audit::run(&args),
        Some(Command::Info(args)) => info::run(&args),
        Some(Command::Logits(args)) => logits::run(&args),
        Some(Command::Verify(args)) => verify::run(&args),
        None => Ok(()),
    }
}

/// Prints one JSON object.
fn print_json(value: &serde_json::Value) {
    println!("{value}");
}
