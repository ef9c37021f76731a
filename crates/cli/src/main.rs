//! One door to every model of the workspace.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Explicit generative models: trained, evaluated, sampled, and used as lossless codecs.
#[derive(Parser)]
#[command(name = "chainrule", version)]
struct Cli {
    #[command(subcommand)]
    model: Model,
}

#[derive(Subcommand)]
enum Model {
    /// Images, one value at a time: NADE, MADE and the PixelCNN family.
    Pixelcnn {
        #[command(subcommand)]
        command: Option<pixelcnn::cli::Command>,
    },
    /// Sound, one sample at a time: WaveNet.
    Wavenet {
        #[command(subcommand)]
        command: Option<wavenet::cli::Command>,
    },
    /// Pictures as a few codes, and priors over them: VQ-VAE and VQ-VAE-2.
    Vqvae {
        #[command(subcommand)]
        command: Option<vqvae::cli::Command>,
    },
    /// Text, one token at a time: GPT-2, GPT-3 and LLaMA.
    Gpt {
        #[command(subcommand)]
        command: Option<gpt::cli::Command>,
    },
}

fn main() -> ExitCode {
    core_layers::run::main(|| match core_layers::cli::parse::<Cli>()?.model {
        Model::Pixelcnn { command } => pixelcnn::cli::run(command),
        Model::Wavenet { command } => wavenet::cli::run(command),
        Model::Vqvae { command } => vqvae::cli::run(command),
        Model::Gpt { command } => gpt::cli::run(command),
    })
}
