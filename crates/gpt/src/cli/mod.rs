//! The commands of this crate, used by its own binary and by `chainrule gpt`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod chat;
mod compress;
mod explain;
mod generate;
mod sample;
mod voice;

use anyhow::Result;
use clap::Subcommand;
use core_layers::cli::DecompressArgs;

/// What can be asked of the models of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Go on from a prompt.
    Generate(Box<generate::GenerateArgs>),
    /// Talk with a model.
    Chat(Box<chat::ChatArgs>),
    /// Write texts of the exact engine: one seed, one text on every machine.
    Sample(sample::SampleArgs),
    /// Go on where a text is broken off, by the exact engine.
    Complete(sample::CompleteArgs),
    /// Write a file to a .chr file without loss.
    Compress(compress::CompressArgs),
    /// Restore the file of a .chr file.
    #[command(after_help = "Example:\n  gpt decompress runs/book readme.chr --out restored")]
    Decompress(DecompressArgs),
}

/// Carries out `command`, or the demo.
///
/// # Errors
/// Whatever kept the command from finishing, in one line.
pub fn run(command: Option<Command>) -> Result<()> {
    // a wrong CHAINRULE_SIMD is said before anything is done
    core_layers::kernels::exact::Variant::detect()?;
    match command {
        Some(Command::Generate(args)) => generate::run(&args),
        Some(Command::Chat(args)) => chat::run(&args),
        Some(Command::Sample(args)) => sample::run(&args),
        Some(Command::Complete(args)) => sample::complete(&args),
        Some(Command::Compress(args)) => compress::run(&args),
        Some(Command::Decompress(args)) => compress::decompress(&args),
        None => Ok(()),
    }
}
