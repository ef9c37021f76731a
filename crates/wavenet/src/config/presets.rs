//! Named runs. A preset is a function: its numbers stand here and nowhere else.

use core_layers::{
    autocast::Precision,
    schedule::{Decay, Schedule},
};

use super::{Head, Input, Run, TrainConfig, WaveNetConfig};
use crate::data::{Condition, DataConfig, Encoding};

/// The name of every preset.
pub const PRESETS: [&str; 9] =
    ["demo", "speech", "speaker", "vocoder", "text", "speech-16bit", "ibab", "noise", "harmonic"];

/// The preset of that name. Speakers, features and rate are those of the data once it is read.
pub fn preset(name: &str) -> Option<Run> {
    Some(match name {
        "demo" => demo(),
        "speech" => speech(),
        "speaker" => speaker(),
        "vocoder" => conditioned(Condition::Mel, 1),
        "text" => conditioned(Condition::Characters, 3),
        "speech-16bit" => speech_16_bit(),
        "ibab" => ibab(),
        "noise" => synthetic("noise", 5),
        "harmonic" => harmonic(),
        _ => return None,
    })
}

/// `stacks` times dilations 1, 2, ... up to `2^(layers - 1)`.
fn dilations(stacks: usize, layers: u32) -> Vec<i64> {
    (0..stacks).flat_map(|_| (0..layers).map(|i| 1 << i)).collect()
}

fn network(residual: i64, skip: i64, dilations: Vec<i64>) -> WaveNetConfig {
    WaveNetConfig {
        sample_rate: 8000,
        levels: 256,
        input: Input::OneHot,
        head: Head::Softmax,
        first_kernel_size: 1,
        kernel_size: 2,
        dilations,
        residual_channels: residual,
        gate_channels: residual,
        skip_channels: skip,
        head_channels: skip,
        speakers: 0,
        features: 0,
        hop: 0,
        condition_channels: 0,
        dropout: 0.,
    }
}

fn training(num_steps: u64, learning_rate: f64) -> TrainConfig {
    TrainConfig {
        num_steps,
        batch_size: 2,
        learning_rate,
        schedule: Schedule { warmup_steps: 50, decay: Decay::Cosine { floor: 0.02 } },
        ema_decay: 0.999,
        save_every: 500,
        eval_examples: 32,
        num_samples: 2,
        precision: Precision::Bf16,
        ..TrainConfig::default()
    }
}

/// The demo: the embedded voice in about a minute on two cores.
fn demo() -> Run {
    Run {
        model: WaveNetConfig { speakers: 1, ..network(32, 64, dilations(1, 9)) },
        data: DataConfig { window: 3584, ..DataConfig::default() },
        train: TrainConfig {
            batch_size: 4,
            ema_decay: 0.99,
            save_every: 200,
            precision: Precision::F32,
            ..training(600, 4e-3)
        },
    }
}

/// Five speakers of studio speech, told which one speaks: 30 layers, 64 residual and 256 skip channels.
fn speech() -> Run {
    Run {
        model: WaveNetConfig { speakers: 1, ..network(64, 256, dilations(3, 10)) },
        data: DataConfig { data: "speech".into(), ..DataConfig::default() },
        train: training(8000, 1e-3),
    }
}

/// One of them.
fn speaker() -> Run {
    let mut run = speech();
    run.model.speakers = 0;
    run.data.speakers = "en-allison".into();
    run
}

/// Speech from the frames of its spectrogram, or from its letters.
fn conditioned(condition: Condition, stacks: usize) -> Run {
    let mut run = speaker();
    run.model = WaveNetConfig {
        features: 1,
        hop: 80,
        condition_channels: 32,
        ..network(64, 128, dilations(stacks, 10))
    };
    run.data = DataConfig { condition, hop: 80, ..run.data };
    run
}

/// 16 bits, by a mixture of logistics.
fn speech_16_bit() -> Run {
    let mut run = speech();
    run.model.levels = 65_536;
    run.model.input = Input::Scalar;
    run.model.first_kernel_size = 1;
    run.model.head = Head::Logistics { mixtures: 10 };
    run.data.encoding = Encoding::Linear;
    run
}

/// The defaults of ibab/tensorflow-wavenet: 50 layers, 32 residual and 512 skip channels, an initial kernel of two.
fn ibab() -> Run {
    let mut run = speech();
    run.model = WaveNetConfig { first_kernel_size: 2, ..network(32, 512, dilations(5, 10)) };
    run
}

/// Harmonics under noise, learnt to near their entropy in ten minutes of a core: a clip a step at a high rate, and a wide head
/// for 256 levels.
fn harmonic() -> Run {
    let run = synthetic("harmonic", 9);
    Run {
        model: WaveNetConfig { skip_channels: 128, head_channels: 128, ..run.model },
        train: TrainConfig {
            num_steps: 5200,
            batch_size: 1,
            learning_rate: 6e-3,
            schedule: Schedule { warmup_steps: 50, decay: Decay::Wsd { fraction: 0.25 } },
            ..run.train
        },
        ..run
    }
}

/// Sound of known entropy, made on the fly.
fn synthetic(name: &str, layers: u32) -> Run {
    Run {
        model: network(32, 64, dilations(1, layers)),
        data: DataConfig { data: name.into(), trim_db: 0., ..DataConfig::default() },
        train: TrainConfig { precision: Precision::F32, ..training(1000, 2e-3) },
    }
}
