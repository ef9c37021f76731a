//! The commands of this crate, used by its own binary and by `chainrule gpt`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod audit;
mod chat;
mod compress;
mod demo;
mod engine;
mod evaluate;
mod explain;
mod export;
mod generate;
mod import;
mod info;
mod logits;
mod prepare;
mod quantize;
mod rivals;
mod sample;
mod tokenize;
mod train;
mod verify;
mod voice;

use anyhow::Result;
use clap::Subcommand;
use core_layers::cli::{DecompressArgs, DemoArgs, InfoArgs};

/// What can be asked of the models of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fit a decoder to text and write it to a run folder.
    Train(Box<train::TrainArgs>),
    /// How probable text is: nats per token, perplexity, bits per byte.
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Go on with a prompt, and stream what comes.
    Generate(Box<generate::GenerateArgs>),
    /// Talk in the terminal.
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
    /// Show how a text is cut into tokens.
    Tokenize(tokenize::TokenizeArgs),
    /// Cut text into a file of tokens that training maps into memory.
    Prepare(prepare::PrepareArgs),
    /// Check that a model keeps the laws that its probabilities rest on.
    Audit(audit::AuditArgs),
    /// Describe a model or a preset.
    #[command(after_help = "Example:\n  gpt info --preset llama-65b --json\n  gpt info runs/book")]
    Info(InfoArgs),
    /// Write the logits after given tokens, to compare with any other program.
    Logits(logits::LogitsArgs),
    /// Compare a model with what another program computed, layer by layer.
    Verify(verify::VerifyArgs),
    /// Make any model a checkpoint of ours, from which training goes on.
    Import(import::ImportArgs),
    /// Write a model as a Hugging Face folder.
    Export(export::ExportArgs),
    /// Write a model with its matrices in blocks of few bits.
    Quantize(quantize::QuantizeArgs),
    /// Train on the embedded book, measure, write prose: what runs where no command is given.
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
        Some(Command::Generate(args)) => generate::run(&args),
        Some(Command::Chat(args)) => chat::run(&args),
        Some(Command::Sample(args)) => sample::run(&args),
        Some(Command::Complete(args)) => sample::complete(&args),
        Some(Command::Compress(args)) => compress::run(&args),
        Some(Command::Decompress(args)) => compress::decompress(&args),
        Some(Command::Tokenize(args)) => tokenize::run(&args),
        Some(Command::Prepare(args)) => prepare::run(&args),
        Some(Command::Audit(args)) => audit::run(&args),
        Some(Command::Info(args)) => info::run(&args),
        Some(Command::Logits(args)) => logits::run(&args),
        Some(Command::Verify(args)) => verify::run(&args),
        Some(Command::Import(args)) => import::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Quantize(args)) => quantize::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        None => demo::run(&DemoArgs::default()),
    }
}

/// Prints one JSON object.
fn print_json(value: &serde_json::Value) {
    println!("{value}");
}
