use core_layers::{
    Autoregressive as _, Context as _, audit, codec,
    kernels::exact::Variant,
    plain::Plain,
    sampling::{Draws, SamplingConfig, draw},
};
use ndarray::{Array2, Array3, Axis};
use tch::{Device, Kind, Tensor, nn};

use super::*;
use crate::{
    config::{Head, Input, WaveNetConfig},
    model::Clips,
};

pub(super) const SAMPLES: usize = 45;

fn tiny() -> WaveNetConfig {
    WaveNetConfig {
        sample_rate: 8000,
        levels: 12,
        input: Input::OneHot,
        head: Head::Softmax,
        first_kernel_size: 1,
        kernel_size: 2,
        dilations: vec![1, 2, 4, 1, 2, 4],
        residual_channels: 5,
        gate_channels: 6,
        skip_channels: 7,
        head_channels: 8,
        speakers: 0,
        features: 0,
        hop: 0,
        condition_channels: 0,
        dropout: 0.,
    }
}

/// Every kind of network.
pub(super) fn configs() -> Vec<(&'static str, WaveNetConfig)> {
    let local = WaveNetConfig { features: 3, hop: 5, condition_channels: 4, ..tiny() };
    vec![
        ("plain", tiny()),
        (
            "three taps, initial kernel of two",
            WaveNetConfig { kernel_size: 3, first_kernel_size: 2, ..tiny() },
        ),
        ("any dilations", WaveNetConfig { dilations: vec![3, 1, 7], kernel_size: 4, ..tiny() }),
        ("speakers", WaveNetConfig { speakers: 3, ..tiny() }),
        ("features", local.clone()),
        ("features at an even hop, speakers", WaveNetConfig { hop: 8, speakers: 3, ..local }),
        (
            "mixture of logistics",
            WaveNetConfig {
                levels: 40,
                input: Input::Scalar,
                first_kernel_size: 3,
                head: Head::Logistics { mixtures: 2 },
                ..tiny()
            },
        ),
        ("one layer of one tap", WaveNetConfig { dilations: vec![1], kernel_size: 1, ..tiny() }),
    ]
}

/// A network whose every weight matters.
pub(super) fn network(config: &WaveNetConfig) -> (nn::VarStore, WaveNet) {
    tch::manual_seed(3);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = WaveNet::new(&vs.root(), config).unwrap();
    for mut tensor in core_layers::optim::parameters(&vs).into_values() {
        let noise = tensor.randn_like() * 0.4;
        let _ = tch::no_grad(|| tensor.g_add_(&noise));
    }
    (vs, model)
}

pub(super) fn context(config: &WaveNetConfig, rows: usize) -> SoundContext {
    let mut context = SoundContext::none(rows);
    if config.speakers > 0 {
        context = context
            .with_speakers((0..rows as u32).map(|row| row % config.speakers as u32).collect());
    }
    if config.features > 0 {
        let frames = SAMPLES.div_ceil(config.hop as usize);
        let all = Array3::from_shape_fn(
            (rows, frames, config.features as usize),
            |(row, frame, feature)| ((row * 7 + frame * 3 + feature) as f32).sin(),
        );
        context = context.with_features(&all.axis_iter(Axis(0)).collect::<Vec<_>>());
    }
    context
}

#[test]
fn every_engine_gives_the_full_pass_at_every_position() {
    for (name, config) in configs() {
        let (_vs, model) = network(&config);
        let clips = Clips { model: &model, samples: SAMPLES };
        let context = context(&config, 3);
        let exact =
            audit::steppers_agree(&clips, &ExactEngine::new(&model, SAMPLES).unwrap(), &context, 1);
        // far out, a narrow logistic makes more of a rounding
        let limit = if config.head == Head::Softmax { 1e-4 } else { 1e-3 };
        assert!(exact.figure < limit, "{name}: {exact:?}");
        let cached = CachedEngine::new(&model, SAMPLES, Device::Cpu);
        let cached = audit::steppers_agree(&clips, &cached, &context, 1);
        assert!(cached.figure < limit, "{name}: {cached:?}");
    }
}

#[test]
fn the_exact_engine_has_the_same_bits_in_every_variant_and_batch() {
    for (name, config) in configs() {
        let (_vs, model) = network(&config);
        let layout = Clips { model: &model, samples: SAMPLES }.layout();
        let symbols = audit::random_symbols(&layout, 18, 5);
        let mut wanted: Vec<Vec<f32>> = Vec::new();
        for variant in Variant::available() {
            let engine = ExactEngine::with_variant(&model, SAMPLES, variant);
            for rows in [1, 3, 7, 16] {
                let context = context(&config, 18).select(&(0..rows).collect::<Vec<_>>());
                let mut stepper = engine.stepper(&context);
                let mut conditional = core_layers::Conditional::default();
                for t in 0..SAMPLES {
                    stepper.next(&mut conditional);
                    if wanted.len() <= t {
                        wanted.push(conditional.row(0).to_vec());
                    }
                    assert_eq!(conditional.row(0), wanted[t], "{name} {variant} {rows} {t}");
                    let column: Vec<u32> = (0..rows).map(|row| symbols[[row, t]]).collect();
                    stepper.feed(&column);
                }
            }
        }
    }
}

#[test]
fn the_fast_engine_is_near_the_full_pass_for_any_number_of_voices() {
    for (name, config) in configs() {
        let (_vs, model) = network(&config);
        let clips = Clips { model: &model, samples: SAMPLES };
        for variant in Variant::available() {
            for rows in [1, 2, 3, 5, 9, 18] {
                let engine = FastEngine::with_variant(&model, SAMPLES, variant);
                let law = audit::steppers_agree(&clips, &engine, &context(&config, rows), 1);
                // far out, a narrow logistic turns a small shift of its mean into a large one of the log-probability
                let limit = if config.head == Head::Softmax { 0.15 } else { 3. };
                assert!(law.figure < limit, "{name}, {variant}, {rows} voices: {law:?}");
            }
        }
    }
}

#[test]
fn feeding_without_asking_changes_nothing() {
    for (name, config) in configs() {
        let (_vs, model) = network(&config);
        let engine = ExactEngine::new(&model, SAMPLES).unwrap();
        let context = context(&config, 1);
        let symbols = audit::random_symbols(engine.layout(), 1, 2);
        let [mut asked, mut silent] = [engine.stepper(&context), engine.stepper(&context)];
        let [mut a, mut b] =
            [core_layers::Conditional::default(), core_layers::Conditional::default()];
        for t in 0..SAMPLES - 1 {
            asked.next(&mut a);
            asked.next(&mut a);
            asked.feed(&[symbols[[0, t]]]);
            silent.feed(&[symbols[[0, t]]]);
        }
        asked.next(&mut a);
        silent.next(&mut b);
        assert_eq!(a, b, "{name}");
    }
}

#[test]
fn the_three_samplers_speak_alike() {
    for (name, config) in configs() {
        let (_vs, model) = network(&config);
        let clips = Clips { model: &model, samples: SAMPLES };
        let context = context(&config, 2);
        let draws = Draws { config: SamplingConfig::default(), seed: 4, known: 0 };
        let all = |engine: &dyn Engine<Context = SoundContext>| {
            let mut symbols = Array2::zeros((2, SAMPLES));
            draw(
                engine.stepper(&context).as_mut(),
                engine.layout(),
                symbols.view_mut(),
                0,
                draws,
                &|_| {},
            );
            symbols
        };
        let plain = all(&Plain::new(&clips, Device::Cpu));
        assert_eq!(all(&CachedEngine::new(&model, SAMPLES, Device::Cpu)), plain, "{name}");
        assert_eq!(all(&ExactEngine::new(&model, SAMPLES).unwrap()), plain, "{name}");
    }
}

/// One that speaks in 16 bits.
fn sixteen_bits() -> WaveNetConfig {
    WaveNetConfig {
        levels: 65_536,
        input: Input::Scalar,
        head: Head::Logistics { mixtures: 4 },
        ..tiny()
    }
}

#[test]
fn the_samplers_speak_alike_in_16_bits() {
    let (_vs, model) = network(&sixteen_bits());
    let clips = Clips { model: &model, samples: SAMPLES };
    let context = SoundContext::none(2);
    let draws = Draws { config: SamplingConfig::default(), seed: 4, known: 0 };
    let all = |engine: &dyn Engine<Context = SoundContext>| {
        let mut symbols = Array2::zeros((2, SAMPLES));
        let mut stepper = engine.stepper(&context);
        draw(stepper.as_mut(), engine.layout(), symbols.view_mut(), 0, draws, &|_| {});
        symbols
    };
    let exact = all(&ExactEngine::new(&model, SAMPLES).unwrap());
    for other in [
        all(&Plain::new(&clips, Device::Cpu)),
        all(&CachedEngine::new(&model, SAMPLES, Device::Cpu)),
    ] {
        let furthest = exact.iter().zip(&other).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(furthest <= Some(8), "{furthest:?} of 65,536 levels apart by rounding");
    }
}

#[test]
fn a_stream_of_16_bits_is_as_long_as_evaluation_says() {
    const LONG: usize = 6000;
    let (_vs, model) = network(&sixteen_bits());
    let levels = speak(&model, &SoundContext::none(2), LONG, 5, 1).unwrap();
    let clips = Clips { model: &model, samples: LONG };
    let context = SoundContext::none(2);
    let nats = tch::no_grad(|| {
        core_layers::likelihood::nll(&clips, &audit::symbol_tensor(&levels), &context)
    });
    let bits = nats.sum(Kind::Double).double_value(&[]) / std::f64::consts::LN_2;
    let mut streams = Vec::new();
    for variant in Variant::available() {
        let engine = ExactEngine::with_variant(&model, LONG, variant);
        streams.push(codec::encode(&engine, &context, levels.view(), 1, &|_| {}).unwrap());
        let back = codec::decode(&engine, &context, &streams[0], 1, &|_| {}).unwrap();
        assert_eq!(back, levels, "{variant}");
    }
    assert!(streams.windows(2).all(|pair| pair[0] == pair[1]), "every variant writes the same");
    let written = 32. * streams[0].iter().map(Vec::len).sum::<usize>() as f64;
    assert!((written / bits - 1.).abs() < 1e-3, "{written} bits written, {bits} evaluated");
}

#[test]
fn what_is_seen_is_what_is_reported() {
    for (name, config) in configs() {
        let (_vs, model) = network(&config);
        let clips = Clips { model: &model, samples: SAMPLES };
        let context = context(&config, 1);
        let symbols =
            Tensor::randint(config.levels, [1, SAMPLES as i64], (Kind::Int64, Device::Cpu));
        let field = config.receptive_field() as usize;
        for t in [0, 1, SAMPLES / 2, SAMPLES - 1] {
            let seen = audit::influence(&clips, &symbols, &context, t);
            for (position, &strength) in seen.iter().enumerate() {
                let within = position < t && position + field >= t;
                assert_eq!(
                    strength > 0.,
                    within,
                    "{name}: {t} sees {position} by {strength}, {field} samples"
                );
            }
        }
    }
}

#[test]
fn conditions_are_seen() {
    for (name, config) in configs() {
        if config.speakers + config.features == 0 {
            continue;
        }
        let (_vs, model) = network(&config);
        let engine = ExactEngine::new(&model, SAMPLES).unwrap();
        let context = context(&config, 2);
        let mut conditional = core_layers::Conditional::default();
        engine.stepper(&context).next(&mut conditional);
        assert_ne!(conditional.row(0), conditional.row(1), "{name}");
    }
}

#[test]
fn a_configuration_knows_its_parameters() {
    for (name, config) in configs() {
        let (vs, _model) = network(&config);
        assert_eq!(config.parameters(), crate::model::parameters(&vs), "{name}");
    }
}

#[test]
fn before_training_every_level_is_equally_likely() {
    for (name, config) in configs() {
        if config.head != Head::Softmax {
            continue;
        }
        let vs = nn::VarStore::new(Device::Cpu);
        let model = WaveNet::new(&vs.root(), &config).unwrap();
        let xs = Tensor::randint(config.levels, [1, SAMPLES as i64], (Kind::Int64, Device::Cpu));
        let clips = Clips { model: &model, samples: SAMPLES };
        let nats =
            core_layers::likelihood::nll(&clips, &xs, &context(&config, 1)).double_value(&[0]);
        assert!(
            (nats / SAMPLES as f64 - (config.levels as f64).ln()).abs() < 1e-5,
            "{name}: {nats}"
        );
    }
}
