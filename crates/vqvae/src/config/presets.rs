//! Named runs. A preset is a function: its numbers stand here and nowhere else.

use core_layers::{
    autocast::Precision,
    quantise::QuantiserConfig,
    schedule::{Decay, Schedule},
    training::TrainConfig,
};
use pixelcnn::data::DataConfig;

use super::{Pipeline, PriorConfig, Reconstruction, VqVaeConfig};

/// The name of every preset.
pub const PRESETS: [&str; 7] =
    ["demo", "mnist", "emoji", "photos", "cifar10", "photos-64", "emoji-64"];

/// The preset of that name. Shape, levels and classes are those of the images once they are read.
pub fn preset(name: &str) -> Option<Pipeline> {
    Some(match name {
        "demo" => demo(),
        "mnist" => mnist(),
        "emoji" => pictures("emoji", 32, &[4], true),
        "photos" => pictures("photos", 32, &[4], false),
        "cifar10" => pictures("cifar10", 32, &[4], true),
        "photos-64" => pictures("photos", 64, &[4, 2], false),
        "emoji-64" => pictures("emoji", 64, &[4, 2], true),
        _ => return None,
    })
}

fn autoencoder(side: i64, colours: i64, channels: i64, factors: &[i64]) -> VqVaeConfig {
    VqVaeConfig {
        height: side,
        width: side,
        colours,
        levels: 256,
        channels,
        residual_channels: 32,
        residual_blocks: 2,
        factors: factors.to_vec(),
        quantiser: QuantiserConfig::default(),
        reconstruction: Reconstruction::Gaussian,
    }
}

fn prior(channels: i64, dilations: &[i64], class_conditional: bool) -> PriorConfig {
    PriorConfig {
        channels,
        embedding: 32,
        dilations: dilations.to_vec(),
        kernel_size: 3,
        class_conditional,
        attention_every: 0,
        attention_heads: 4,
        context_blocks: 2,
        dropout: 0.1,
    }
}

fn training(num_steps: u64, batch_size: usize, learning_rate: f64) -> TrainConfig {
    TrainConfig {
        num_steps,
        batch_size,
        learning_rate,
        schedule: Schedule { warmup_steps: 50, decay: Decay::Cosine { floor: 0.05 } },
        save_every: 500,
        num_samples: 16,
        ..TrainConfig::default()
    }
}

/// The training of a first stage: the last weights are those that the codes belong to, so none are averaged.
fn first_stage(num_steps: u64, learning_rate: f64) -> TrainConfig {
    TrainConfig { ema_decay: 0., clip_norm: 0., ..training(num_steps, 32, learning_rate) }
}

/// The demo: the embedded 8 x 8 digits as 4 x 4 codes of 32, in about a minute and a half on two cores.
fn demo() -> Pipeline {
    Pipeline {
        model: VqVaeConfig {
            levels: 17,
            quantiser: QuantiserConfig { codes: 32, dim: 8, ..QuantiserConfig::default() },
            reconstruction: Reconstruction::Softmax,
            residual_channels: 16,
            ..autoencoder(8, 1, 64, &[2])
        },
        data: DataConfig::default(),
        train: first_stage(1500, 2e-3),
        priors: vec![PriorConfig { embedding: 16, dropout: 0.3, ..prior(48, &[1, 1, 1], true) }],
        prior_train: TrainConfig { ema_decay: 0.99, save_every: 100, ..training(800, 64, 2e-3) },
    }
}

/// MNIST of 256 levels as 7 x 7 codes; the decoder is a softmax, so there is a bound in bits per dimension.
fn mnist() -> Pipeline {
    Pipeline {
        model: VqVaeConfig {
            quantiser: QuantiserConfig { codes: 128, dim: 32, ..QuantiserConfig::default() },
            reconstruction: Reconstruction::Softmax,
            ..autoencoder(28, 1, 64, &[4])
        },
        data: DataConfig { data: "mnist".into(), ..DataConfig::default() },
        train: TrainConfig { eval_examples: 500, ..first_stage(3000, 1e-3) },
        priors: vec![prior(64, &[1, 2, 1, 2, 1], true)],
        prior_train: TrainConfig { eval_examples: 2000, ..training(4000, 64, 1e-3) },
    }
}

/// RGB pictures of a side (of CIFAR-10, a folder to be named with `--data`); the configuration of sonnet's example (10,000 steps of 32, hidden 128, K 512, D 64).
fn pictures(data: &str, side: u32, factors: &[i64], classes: bool) -> Pipeline {
    let top = PriorConfig { attention_every: 3, ..prior(96, &[1, 1, 1, 1, 1, 1], classes) };
    let bottom = prior(64, &[1, 2, 1, 2, 1], classes);
    Pipeline {
        model: autoencoder(i64::from(side), 3, 128, factors),
        data: DataConfig { data: data.into(), side, ..DataConfig::default() },
        train: TrainConfig {
            eval_examples: 500,
            precision: Precision::Bf16,
            ..first_stage(10_000, 3e-4)
        },
        priors: std::iter::once(top).chain((1..factors.len()).map(|_| bottom.clone())).collect(),
        prior_train: TrainConfig {
            precision: Precision::Bf16,
            eval_examples: 500,
            ..training(6000, 32, 1e-3)
        },
    }
}
