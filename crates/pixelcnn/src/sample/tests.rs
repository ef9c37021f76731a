//! Every stepper gives the full pass, and the exact engine gives the same bits however it is run.

use anyhow::Result;
use core_layers::{
    Autoregressive, Conditional, Context, Engine, audit,
    kernels::exact::Variant,
    plain::Plain,
    sampling::{Draws, SamplingConfig, draw, draw_in_parallel},
};
use ndarray::{Array2, Array4};
use tch::{Device, nn};

use super::*;
use crate::config::{
    GatedConfig, Head, ImageConfig, Input, MadeConfig, ModelConfig, NadeConfig, Order,
    PixelCnnConfig, SimpleConfig,
};

/// A model of every kind, with weights that are not zero anywhere, and a context for three images.
fn models() -> Vec<(&'static str, Model, ImageContext)> {
    let built = |(name, config, context)| (name, network(&config).1, context);
    configs().into_iter().map(built).collect()
}

/// A configuration of every kind, and a context for three images.
pub(super) fn configs() -> Vec<(&'static str, ModelConfig, ImageContext)> {
    let grey = ImageConfig::grey(5, 6, 4);
    let colour = ImageConfig { colours: 3, ..ImageConfig::grey(4, 5, 3) };
    let logistics =
        ImageConfig { head: Head::Logistics { mixtures: 2 }, levels: 16, ..colour.clone() };
    let codes = ImageConfig { input: Input::Categorical { embedding: 3 }, ..grey.clone() };
    let gated = |image: &ImageConfig, classes, context_channels| {
        ModelConfig::Gated(GatedConfig {
            channels: 6,
            first_kernel_size: 5,
            dilations: vec![1, 2, 1],
            classes,
            context_channels,
            dropout: 0.5,
            ..GatedConfig::new(image.clone())
        })
    };
    // one live tap that is not the centre
    let small = |mut config: ModelConfig| {
        if let ModelConfig::Gated(config) = &mut config {
            config.first_kernel_size = 3;
        }
        config
    };
    let residual = |image: &ImageConfig| {
        ModelConfig::Pixelcnn(PixelCnnConfig {
            image: image.clone(),
            channels: 3,
            blocks: 2,
            first_kernel_size: 7,
            kernel_size: 3,
            head_channels: 6,
        })
    };
    let simple = |image: &ImageConfig| {
        ModelConfig::Simple(SimpleConfig {
            image: image.clone(),
            channels: 6,
            layers: 3,
            kernel_size: 5,
        })
    };
    let nade = |order| ModelConfig::Nade(NadeConfig { image: grey.clone(), hidden: 7, order });
    let made = |hidden, order| {
        ModelConfig::Made(MadeConfig { image: grey.clone(), hidden, order, num_orders: 2 })
    };
    let none = ImageContext::none(3);
    let labels = ImageContext::labels(vec![2, 0, 1]);
    let map = context_map(5, 6);
    [
        ("simple", simple(&grey), none.clone()),
        ("simple colour", simple(&colour), none.clone()),
        ("residual", residual(&grey), none.clone()),
        ("residual colour", residual(&colour), none.clone()),
        ("gated", gated(&grey, 0, 0), none.clone()),
        ("gated of the smallest kernels", small(gated(&grey, 0, 0)), none.clone()),
        ("gated colour", gated(&colour, 0, 0), none.clone()),
        ("gated logistics", gated(&logistics, 0, 0), none.clone()),
        ("gated class", gated(&grey, 3, 0), labels.clone()),
        ("gated colour class", gated(&colour, 3, 0), labels.clone()),
        ("gated codes map", gated(&codes, 0, 2), none.clone().with_map(map.clone())),
        ("gated class map", gated(&grey, 3, 2), labels.with_map(map)),
        ("nade", nade(Order::Raster), none.clone()),
        ("nade shuffled", nade(Order::Shuffled { seed: 3 }), none.clone()),
        ("made", made(vec![40], Order::Raster), none.clone()),
        ("made deep reversed", made(vec![40, 11, 50], Order::Reversed), none),
    ]
    .into_iter()
    .chain(attentive_configs())
    .collect()
}

/// Gated models with attention, and with context maps of their own sizes.
fn attentive_configs() -> Vec<(&'static str, ModelConfig, ImageContext)> {
    let grey = ImageConfig::grey(5, 6, 4);
    let colour = ImageConfig { colours: 3, ..ImageConfig::grey(4, 5, 3) };
    let codes = ImageConfig { input: Input::Categorical { embedding: 3 }, ..grey.clone() };
    let gated = |image: &ImageConfig, channels, every, heads| GatedConfig {
        channels,
        dilations: vec![1, 2, 1],
        attention_every: every,
        attention_heads: heads,
        ..GatedConfig::new(image.clone())
    };
    let stack = |config: GatedConfig, height, width, blocks| GatedConfig {
        classes: 3,
        context_channels: 2,
        context_height: height,
        context_width: width,
        context_blocks: blocks,
        ..config
    };
    let none = ImageContext::none(3);
    let mapped =
        |height, width| ImageContext::labels(vec![2, 0, 1]).with_map(context_map(height, width));
    [
        ("attention", gated(&grey, 6, 1, 2), none.clone()),
        ("attention codes", gated(&codes, 10, 3, 1), none.clone()),
        ("attention colour", gated(&colour, 12, 2, 6), none),
        ("attention repeated map", stack(gated(&grey, 8, 2, 2), 5, 3, 0), mapped(5, 3)),
        ("attention stack", stack(gated(&grey, 8, 3, 4), 0, 3, 2), mapped(5, 3)),
        ("colour stack", stack(gated(&colour, 6, 0, 1), 4, 0, 1), mapped(4, 5)),
    ]
    .map(|(name, config, context)| (name, ModelConfig::Gated(config), context))
    .to_vec()
}

/// A map of two channels for three images.
fn context_map(height: usize, width: usize) -> Array4<f32> {
    Array4::from_shape_fn((3, 2, height, width), |(b, k, y, x)| {
        ((b + 2 * k + 3 * y + 5 * x) % 7) as f32 * 0.2 - 0.5
    })
}

pub(super) fn network(config: &ModelConfig) -> (nn::VarStore, Model) {
    tch::manual_seed(7);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), config).unwrap();
    for mut tensor in core_layers::optim::parameters(&vs).into_values() {
        tch::no_grad(|| {
            let noise = tensor.randn_like() * 0.3;
            let _ = tensor.g_add_(&noise);
        });
    }
    (vs, model)
}

fn conditionals(
    engine: &dyn Engine<Context = ImageContext>,
    context: &ImageContext,
    symbols: &Array2<u32>,
) -> Vec<Conditional> {
    let mut stepper = engine.stepper(context);
    let mut all = Vec::new();
    for &position in &engine.layout().order {
        let mut conditional = Conditional::default();
        stepper.next(&mut conditional);
        all.push(conditional);
        stepper.feed(&symbols.column(position as usize).to_vec());
    }
    all
}

#[test]
fn every_model_is_causal_and_normalised() {
    for (name, model, context) in models() {
        let causality = audit::causality(&model, &context, usize::MAX, 1);
        assert!(causality.holds(), "{name}: {causality:?}");
        let sum = audit::sums_to_one(&model, &context, 1);
        assert!(sum.holds(), "{name}: {sum:?}");
    }
}

#[test]
fn every_stepper_gives_the_full_pass_at_every_position() -> Result<()> {
    for (name, model, context) in models() {
        let exact = audit::steppers_agree(&model, &ExactEngine::new(&model)?, &context, 2);
        assert!(exact.figure < 5e-5, "{name}, exact: {exact:?}");
        let plain = audit::steppers_agree(&model, &Plain::new(&model, Device::Cpu), &context, 2);
        assert!(plain.figure < 1e-5, "{name}, plain: {plain:?}");
        if let Ok(cached) = CachedEngine::new(&model, Device::Cpu) {
            let cached = audit::steppers_agree(&model, &cached, &context, 2);
            assert!(cached.figure < 5e-5, "{name}, cached: {cached:?}");
        }
    }
    Ok(())
}

#[test]
fn the_exact_engine_gives_the_same_bits_in_every_variant_and_batch() {
    for (name, model, context) in models() {
        let reference = ExactEngine::with_variant(&model, Variant::Portable);
        let symbols = audit::random_symbols(reference.layout(), 3, 5);
        let wanted = conditionals(&reference, &context, &symbols);
        for variant in Variant::available() {
            let engine = ExactEngine::with_variant(&model, variant);
            for copies in [1, 2, 4] {
                let rows: Vec<usize> = (0..copies).flat_map(|_| 0..3).collect();
                let context = context.select(&rows);
                let many = Array2::from_shape_fn((rows.len(), symbols.ncols()), |(b, i)| {
                    symbols[[b % 3, i]]
                });
                for (got, want) in conditionals(&engine, &context, &many).iter().zip(&wanted) {
                    for row in 0..rows.len() {
                        assert_eq!(
                            got.row(row),
                            want.row(row % 3),
                            "{name}, {variant}, {} rows",
                            rows.len()
                        );
                    }
                }
            }
            let alone = conditionals(
                &engine,
                &context.select(&[1]),
                &symbols.select(ndarray::Axis(0), &[1]),
            );
            for (got, want) in alone.iter().zip(&wanted) {
                assert_eq!(got.row(0), want.row(1), "{name}, {variant}, alone");
            }
        }
    }
}

#[test]
fn every_model_survives_the_codec() -> Result<()> {
    for (name, model, context) in models() {
        let law = audit::codec_round_trip(&ExactEngine::new(&model)?, &context, 4)?;
        assert!(law.holds(), "{name}: {law:?}");
    }
    Ok(())
}

#[test]
fn a_seed_gives_one_picture_on_any_sampler_and_number_of_threads() -> Result<()> {
    for (name, model, context) in models() {
        let engine = ExactEngine::new(&model)?;
        let layout = engine.layout();
        let draws = Draws { config: SamplingConfig::default(), seed: 3, known: 0 };
        let blank = Array2::zeros((3, layout.len()));
        let mut exact = blank.clone();
        draw_in_parallel(&engine, &context, exact.view_mut(), draws, 1, &|_| {});
        let mut threads = blank.clone();
        draw_in_parallel(&engine, &context, threads.view_mut(), draws, 3, &|_| {});
        assert_eq!(exact, threads, "{name}");
        let mut plain = blank;
        let reference = Plain::new(&model, Device::Cpu);
        draw(reference.stepper(&context).as_mut(), layout, plain.view_mut(), 0, draws, &|_| {});
        assert_eq!(exact, plain, "{name}");
    }
    Ok(())
}

#[test]
fn what_was_given_is_kept_and_the_rest_is_drawn() -> Result<()> {
    let (_, model, context) = models().swap_remove(4);
    let engine = ExactEngine::new(&model)?;
    let known = 13;
    let given = audit::random_symbols(engine.layout(), 3, 1);
    let mut completed = given.clone();
    let draws = Draws { config: SamplingConfig::default(), seed: 9, known };
    draw_in_parallel(&engine, &context, completed.view_mut(), draws, 2, &|_| {});
    for row in 0..3 {
        for position in 0..known {
            assert_eq!(completed[[row, position]], given[[row, position]]);
        }
    }
    assert_ne!(completed, given);
    Ok(())
}

#[test]
fn a_tiny_model_sums_to_one_over_all_images() {
    let image = ImageConfig { colours: 3, ..ImageConfig::grey(2, 2, 2) }; // 4096 images
    for config in [
        ModelConfig::Gated(GatedConfig {
            channels: 6,
            dilations: vec![1],
            attention_every: 1,
            attention_heads: 3,
            ..GatedConfig::new(image.clone())
        }),
        ModelConfig::Nade(NadeConfig { image: image.clone(), hidden: 5, order: Order::Reversed }),
        ModelConfig::Made(MadeConfig {
            image,
            hidden: vec![30],
            order: Order::Shuffled { seed: 1 },
            num_orders: 1,
        }),
    ] {
        let (_vs, model) = network(&config);
        let all = Array2::from_shape_fn((4096, 12), |(image, bit)| (image as u32 >> bit) & 1);
        let nats = core_layers::likelihood::nll(
            &model,
            &audit::symbol_tensor(&all),
            &ImageContext::none(4096),
        );
        let total = (-nats).exp().sum(tch::Kind::Double).double_value(&[]);
        assert!((total - 1.).abs() < 1e-5, "{}: {total}", config.kind());
    }
}

#[test]
fn swapping_labels_or_maps_changes_the_conditionals() {
    for (name, model, context) in models() {
        if context.class().is_none() && context.map().is_none() {
            continue;
        }
        let xs = audit::symbol_tensor(&audit::random_symbols(&model.layout(), 3, 1));
        let nats = |context: &ImageContext| core_layers::likelihood::nll(&model, &xs, context);
        let difference =
            (nats(&context) - nats(&context.select(&[1, 2, 0]))).abs().min().double_value(&[]);
        assert!(difference > 1e-4, "{name}: {difference}");
    }
}
