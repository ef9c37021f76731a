//! The commands of crate wavenet, and its demo where none is given.

use std::process::ExitCode;

use clap::Parser;

/// WaveNet: train, evaluate, speak, complete, compress.
#[derive(Parser)]
#[command(name = "wavenet", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<wavenet::cli::Command>,
}

fn main() -> ExitCode {
    core_layers::run::main(|| wavenet::cli::run(core_layers::cli::parse::<Cli>()?.command))
}
