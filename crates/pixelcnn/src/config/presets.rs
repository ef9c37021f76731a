//! Named runs. A preset is a function: its numbers stand here and nowhere else.

use core_layers::{
    autocast::Precision,
    schedule::{Decay, Schedule},
    training::TrainConfig,
};

use super::{
    GatedConfig, Head, ImageConfig, MadeConfig, ModelConfig, NadeConfig, Order, PixelCnnConfig,
    Run, SimpleConfig,
};
use crate::data::{Binarize, DataConfig};

/// The name of every preset.
pub const PRESETS: [&str; 14] = [
    "digits",
    "nade",
    "made",
    "simple",
    "pixelcnn",
    "gated",
    "nade-mnist",
    "made-mnist",
    "pixelcnn-mnist",
    "gated-mnist",
    "gated-binary-mnist",
    "emoji",
    "photos",
    "photos-logistics",
];

/// The preset of that name.
pub fn preset(name: &str) -> Option<Run> {
    Some(match name {
        "digits" => digits(),
        "nade" => on_digits(nade(DIGITS, 64), 1500),
        "made" => on_digits(made(DIGITS, vec![512]), 1500),
        "simple" => on_digits(simple(DIGITS), 600),
        "pixelcnn" => on_digits(residual(DIGITS, 24, 4), 600),
        "gated" => on_digits(gated(DIGITS, 32, &[1, 2, 1, 2], 0), 800),
        "nade-mnist" => on_binary_mnist(nade(MNIST_BINARY, 500), 3e-4, 20_000),
        "made-mnist" => on_binary_mnist(made(MNIST_BINARY, vec![8000]), 5e-4, 20_000),
        "pixelcnn-mnist" => on_binary_mnist(residual(MNIST_BINARY, 16, 15), 1e-3, 20_000),
        "gated-mnist" => gated_mnist(),
        "gated-binary-mnist" => {
            on_binary_mnist(gated(MNIST_BINARY, 32, &[1, 2, 1, 4, 1, 2, 1], 0), 1e-3, 20_000)
        }
        "emoji" => emoji(),
        "photos" => photos(Head::Softmax),
        "photos-logistics" => photos(Head::Logistics { mixtures: 10 }),
        _ => return None,
    })
}

const DIGITS: ImageConfig = ImageConfig::grey(8, 8, 17);
const MNIST_BINARY: ImageConfig = ImageConfig::grey(28, 28, 2);

fn nade(image: ImageConfig, hidden: i64) -> ModelConfig {
    ModelConfig::Nade(NadeConfig { image, hidden, order: Order::Raster })
}

fn made(image: ImageConfig, hidden: Vec<i64>) -> ModelConfig {
    ModelConfig::Made(MadeConfig { image, hidden, order: Order::Raster, num_orders: 1 })
}

fn simple(image: ImageConfig) -> ModelConfig {
    ModelConfig::Simple(SimpleConfig { image, channels: 32, layers: 5, kernel_size: 7 })
}

fn residual(image: ImageConfig, channels: i64, blocks: i64) -> ModelConfig {
    ModelConfig::Pixelcnn(PixelCnnConfig {
        image,
        channels,
        blocks,
        first_kernel_size: 7,
        kernel_size: 3,
        head_channels: 2 * channels,
    })
}

fn gated(image: ImageConfig, channels: i64, dilations: &[i64], classes: i64) -> ModelConfig {
    let dilations = dilations.to_vec();
    ModelConfig::Gated(GatedConfig { channels, dilations, classes, ..GatedConfig::new(image) })
}

fn on_digits(model: ModelConfig, num_steps: u64) -> Run {
    let train = TrainConfig {
        num_steps,
        batch_size: 64,
        learning_rate: 2e-3,
        schedule: Schedule { warmup_steps: 20, decay: Decay::Cosine { floor: 0.05 } },
        ema_decay: 0.99,
        save_every: 200,
        ..TrainConfig::default()
    };
    Run { model, data: DataConfig::default(), train }
}

/// The demo: a class-conditional Gated PixelCNN on the embedded digits, in three minutes on two cores.
fn digits() -> Run {
    let mut run = on_digits(gated(DIGITS, 48, &[1, 2, 1, 2], 10), 1200);
    if let ModelConfig::Gated(config) = &mut run.model {
        config.dropout = 0.2;
    }
    run.train.weight_decay = 0.01;
    run.train.num_samples = 30;
    run
}

fn on_binary_mnist(model: ModelConfig, learning_rate: f64, num_steps: u64) -> Run {
    let data =
        DataConfig { data: "mnist".into(), binarize: Binarize::Dynamic, ..DataConfig::default() };
    let train = TrainConfig {
        num_steps,
        batch_size: 64,
        learning_rate,
        schedule: Schedule { warmup_steps: 100, decay: Decay::Cosine { floor: 0.02 } },
        save_every: 500,
        eval_examples: 2000,
        ..TrainConfig::default()
    };
    Run { model, data, train }
}

/// The configuration of the UvA deep-learning course (tutorial 12): 852,160 parameters, 256 levels.
fn gated_mnist() -> Run {
    let model = gated(ImageConfig::grey(28, 28, 256), 64, &[1, 2, 1, 4, 1, 2, 1], 0);
    let train = TrainConfig {
        num_steps: 58_500, // 150 epochs
        batch_size: 128,
        learning_rate: 1e-3,
        schedule: Schedule {
            warmup_steps: 0,
            decay: Decay::Exponential { factor: 0.99_f64.powf(1. / 390.) },
        }, // 0.99 an epoch
        ema_decay: 0.9995,
        save_every: 390,
        eval_examples: 1000,
        precision: Precision::Bf16,
        ..TrainConfig::default()
    };
    Run { model, data: DataConfig { data: "mnist".into(), ..DataConfig::default() }, train }
}

/// Colour and classes: 32 x 32 emoji by category.
fn emoji() -> Run {
    let image = ImageConfig { colours: 3, ..ImageConfig::grey(32, 32, 16) };
    let data = DataConfig { data: "emoji".into(), side: 32, levels: 16, ..DataConfig::default() };
    on_pictures(image, 1, data) // the classes are counted when the images are read
}

/// Crops of photographs, red, green and blue in turn.
fn photos(head: Head) -> Run {
    let image = ImageConfig { colours: 3, head, ..ImageConfig::grey(32, 32, 256) };
    on_pictures(image, 0, DataConfig { data: "photos".into(), side: 32, ..DataConfig::default() })
}

fn on_pictures(image: ImageConfig, classes: i64, data: DataConfig) -> Run {
    let train = TrainConfig {
        num_steps: 6000,
        batch_size: 16,
        learning_rate: 1e-3,
        schedule: Schedule { warmup_steps: 100, decay: Decay::Cosine { floor: 0.02 } },
        save_every: 300,
        eval_examples: 100,
        precision: Precision::Bf16,
        ..TrainConfig::default()
    };
    Run { model: gated(image, 48, &[1, 2, 1, 4, 1, 2, 1], classes), data, train }
}
