//! The commands of crate gpt, and its demo where none is given.

use std::process::ExitCode;

use clap::Parser;

/// Language models: train, load, prompt, chat, score, compress.
#[derive(Parser)]
#[command(name = "gpt", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<gpt::cli::Command>,
}

fn main() -> ExitCode {
    core_layers::run::main(|| gpt::cli::run(core_layers::cli::parse::<Cli>()?.command))
}
