//! The commands of crate pixelcnn, and its demo where none is given.

use std::process::ExitCode;

use clap::Parser;

/// NADE, MADE and the PixelCNN family: train, evaluate, sample, complete, compress.
#[derive(Parser)]
#[command(name = "pixelcnn", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<pixelcnn::cli::Command>,
}

fn main() -> ExitCode {
    core_layers::run::main(|| pixelcnn::cli::run(core_layers::cli::parse::<Cli>()?.command))
}
