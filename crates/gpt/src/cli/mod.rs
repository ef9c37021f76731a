//! The commands of this crate, used by its own binary and by `chainrule gpt`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod demo;
mod evaluate;
mod export;
mod import;
mod prepare;
mod quantize;
mod rivals;
mod tokenize;
mod train;

use anyhow::Result;
use clap::Subcommand;
use core_layers::cli::DemoArgs;

/// What can be asked of the models of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fit a decoder to text and write it to a run folder.
    Train(Box<train::TrainArgs>),
    /// How probable text is: nats per token, perplexity, bits per byte.
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Show how a text is cut into tokens.
    Tokenize(tokenize::TokenizeArgs),
    /// Cut text into a file of tokens that training maps into memory.
    Prepare(prepare::PrepareArgs),
    /// Write any model to a run folder, from which training can go on.
    Import(import::ImportArgs),
    /// Write any model to a folder that transformers opens.
    Export(export::ExportArgs),
    /// Write any model to one file of 8 or 4 bits a weight.
    Quantize(quantize::QuantizeArgs),
    /// Train on the embedded book, measure, write prose: what runs where no command is given.
    Demo(DemoArgs),
}

/// Carries out `command`, or the demo.
///
/// # Errors
/// Whatever kept the command from finishing, in one line.
pub fn run(command: Option<Command>) -> Result<()> {
    match command {
        Some(Command::Train(args)) => train::run(&args),
        Some(Command::Evaluate(args)) => evaluate::run(&args),
        Some(Command::Tokenize(args)) => tokenize::run(&args),
        Some(Command::Prepare(args)) => prepare::run(&args),
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
