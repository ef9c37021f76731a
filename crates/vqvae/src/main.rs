//! The commands of crate vqvae, and its demo where none is given.

use std::process::ExitCode;

use clap::Parser;

/// VQ-VAE and VQ-VAE-2: train, reconstruct, sample, complete, compress.
#[derive(Parser)]
#[command(name = "vqvae", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<vqvae::cli::Command>,
}

fn main() -> ExitCode {
    core_layers::run::main(|| vqvae::cli::run(core_layers::cli::parse::<Cli>()?.command))
}
