//! Masks as a whole: what a stack sees, and that one broken mask does not pass unseen.

use anyhow::Result;
use core_layers::{
    Autoregressive, Conditionals, Layout, audit,
    conv::{Mask, MaskedConv2d, MaskedConv2dConfig},
};
use ndarray::Array4;
use tch::{Device, Tensor, nn, nn::Module};

use super::*;
use crate::config::{GatedConfig, Head, ImageConfig, SimpleConfig};

/// Where the pixel at `row`, `column` looks, row by row: the last column that it sees, if any.
fn last_seen(model: &Model, row: usize, column: usize) -> Vec<Option<usize>> {
    let width = model.config().image().width as usize;
    let symbols = audit::symbol_tensor(&audit::random_symbols(&model.layout(), 1, 3));
    let strength = audit::influence(model, &symbols, &ImageContext::none(1), row * width + column);
    let rows = strength.chunks(width).take(row);
    rows.map(|row| row.iter().rposition(|&it| it > 0.)).collect()
}

/// A model whose weights are all positive, so that no influence cancels, and whose biases keep every rectifier open.
fn open(config: &ModelConfig) -> Result<Model> {
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), config)?;
    for (name, mut tensor) in core_layers::optim::parameters(&vs) {
        tch::no_grad(|| {
            let _ = tensor.fill_(if name.ends_with("bias") { 2. } else { 0.05 });
        });
    }
    Ok(model)
}

#[test]
fn the_plain_stack_has_its_blind_spot_and_the_gated_one_has_none() -> Result<()> {
    let image = ImageConfig::grey(8, 24, 4);
    let (row, column) = (7, 8);
    let simple = SimpleConfig { image: image.clone(), channels: 2, layers: 3, kernel_size: 5 };
    let seen = last_seen(&open(&ModelConfig::Simple(simple))?, row, column);
    // i rows up, the furthest column is c + the sum of the i largest half-widths: a step up allows one step aside
    for up in 1..=6 {
        assert_eq!(seen[row - up], Some(column + 2 * up.min(3)), "{up} rows up");
    }
    let gated = GatedConfig { channels: 2, dilations: vec![1; 7], ..GatedConfig::new(image) };
    let seen = last_seen(&open(&ModelConfig::Gated(gated))?, row, column);
    for up in 1..=7 {
        assert_eq!(seen[row - up], Some(column + 8), "{up} rows up");
    }
    Ok(())
}

/// Two masked layers, of which the first should be of type A.
struct Stack([MaskedConv2d; 2]);

impl Autoregressive for Stack {
    type Context = ImageContext;

    fn layout(&self) -> Layout {
        Layout::uniform(20, 3)
    }

    fn embed(&self, xs: &Tensor) -> Tensor {
        ordinal(xs, 3)
    }

    fn conditionals(&self, embedded: &Tensor, _: &ImageContext) -> Conditionals {
        let xs = embedded.reshape([-1, 4, 5, 1]).permute([0, 3, 1, 2]);
        let ys = self.0[1].forward(&self.0[0].forward(&xs).relu());
        Conditionals::Logits(ys.permute([0, 2, 3, 1]).reshape([-1, 20, 3]))
    }
}

#[test]
fn a_broken_mask_is_found_by_the_audit() -> Result<()> {
    for (mask, is_sound) in [(Mask::A, true), (Mask::B, false)] {
        let vs = nn::VarStore::new(Device::Cpu);
        let layer = |name: &str, inputs, outputs, mask| {
            MaskedConv2d::new(
                &(vs.root() / name),
                inputs,
                outputs,
                MaskedConv2dConfig::new([3, 3], mask),
            )
        };
        let stack = Stack([layer("first", 1, 8, mask)?, layer("second", 8, 3, Mask::B)?]);
        let law = audit::causality(&stack, &ImageContext::none(1), usize::MAX, 1);
        assert_eq!(law.holds(), is_sound, "{law:?}");
    }
    Ok(())
}

/// A model whose head is not zero, and its weights.
fn random(config: GatedConfig) -> Result<(nn::VarStore, Model)> {
    tch::manual_seed(5);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &ModelConfig::Gated(config))?;
    for (name, mut tensor) in core_layers::optim::parameters(&vs) {
        if name.starts_with("head") {
            tch::no_grad(|| {
                let _ = tensor.normal_(0., 1.);
            });
        }
    }
    Ok((vs, model))
}

fn one_block(height: i64, width: i64) -> GatedConfig {
    let image = ImageConfig::grey(height, width, 4);
    GatedConfig { channels: 8, dilations: vec![1], ..GatedConfig::new(image) }
}

#[test]
fn attention_sees_the_first_pixel_from_the_last_where_convolutions_do_not() -> Result<()> {
    let seen = |config| -> Result<Vec<bool>> {
        let (_vs, model) = random(config)?;
        let symbols = audit::symbol_tensor(&audit::random_symbols(&model.layout(), 1, 3));
        let strength = audit::influence(&model, &symbols, &ImageContext::none(1), 79);
        Ok(strength.iter().map(|&it| it > 0.).collect())
    };
    assert!(!seen(one_block(8, 10))?[0]);
    let attentive = GatedConfig { attention_every: 1, attention_heads: 2, ..one_block(8, 10) };
    let seen = seen(attentive)?;
    assert_eq!(seen[..79], [true; 79]);
    assert!(!seen[79], "the last pixel sees itself");
    Ok(())
}

#[test]
fn attention_has_the_parameters_that_it_says() -> Result<()> {
    let count = |config: GatedConfig| -> Result<[i64; 2]> {
        let (vs, model) = random(config)?;
        Ok([parameters(&vs), model.live_parameters(&vs)])
    };
    let plain = count(one_block(4, 4))?;
    let with = count(GatedConfig { attention_every: 1, attention_heads: 2, ..one_block(4, 4) })?;
    // query 8 x 8 + 8, its position 8 x 2, keys and values 16 x (8 + 1 + 2), output 8 x 8 + 8
    let added = 72 + 16 + 176 + 72;
    assert_eq!([with[0] - plain[0], with[1] - plain[1]], [added; 2]);
    let map = GatedConfig { context_channels: 3, ..one_block(4, 4) };
    let bare = count(map.clone())?;
    let stack = count(GatedConfig { context_blocks: 2, ..map })?;
    // first 8 x 3 x 9 + 8, two blocks of 8 x 8 x 9 + 8 and 8 x 8 + 8; both gates read 8 channels instead of 3
    let added = 224 + 2 * (584 + 72) + 2 * 16 * 5;
    assert_eq!([stack[0] - bare[0], stack[1] - bare[1]], [added; 2]);
    Ok(())
}

/// A context map `[1, 2, height, width]`.
fn map(height: usize, width: usize) -> Array4<f32> {
    Array4::from_shape_fn((1, 2, height, width), |(_, k, y, x)| {
        ((2 * k + 3 * y + 5 * x) % 7) as f32 * 0.3 - 0.9
    })
}

/// Log-probabilities `[N, L]` of one image under a context map.
fn log_probs(model: &Model, map: Array4<f32>) -> Tensor {
    let xs = audit::symbol_tensor(&audit::random_symbols(&model.layout(), 1, 3));
    let context = ImageContext::none(1).with_map(map);
    tch::no_grad(|| model.conditionals(&model.embed(&xs), &context).log_probs().squeeze_dim(0))
}

#[test]
fn every_pixel_of_the_context_moves_every_conditional_through_a_deep_stack() -> Result<()> {
    let config = GatedConfig {
        context_channels: 2,
        context_height: 3,
        context_width: 4,
        context_blocks: 2, // three layers of 3x3 taps cross a map of four columns
        ..one_block(6, 8)
    };
    let (_vs, model) = random(config)?;
    let wanted = log_probs(&model, map(3, 4));
    for pixel in 0..12 {
        let mut moved = map(3, 4);
        moved[[0, 0, pixel / 4, pixel % 4]] += 3.;
        let difference = (log_probs(&model, moved) - &wanted).abs().amax([1i64].as_slice(), false);
        let least = difference.min().double_value(&[]);
        assert!(least > 0., "pixel {pixel} of the context");
    }
    Ok(())
}

#[test]
fn a_small_map_is_the_map_repeated() -> Result<()> {
    let wide = GatedConfig { context_channels: 2, ..one_block(4, 6) };
    let small = GatedConfig { context_height: 2, context_width: 3, ..wide.clone() };
    let repeated =
        Array4::from_shape_fn((1, 2, 4, 6), |(_, k, y, x)| map(2, 3)[[0, k, y / 2, x / 2]]);
    let (_wide, wide) = random(wide)?;
    let (_small, small) = random(small)?;
    let difference = log_probs(&wide, repeated) - log_probs(&small, map(2, 3));
    assert_eq!(difference.abs().max().double_value(&[]), 0.);
    Ok(())
}

#[test]
fn training_reaches_attention_and_the_context_stack() -> Result<()> {
    let config = GatedConfig {
        attention_every: 1,
        attention_heads: 4,
        context_channels: 2,
        context_blocks: 1,
        ..one_block(4, 4)
    };
    let (vs, model) = random(config)?;
    let xs = audit::symbol_tensor(&audit::random_symbols(&model.layout(), 1, 3));
    model.loss(&xs, &ImageContext::none(1).with_map(map(4, 4))).backward();
    for (name, tensor) in core_layers::optim::parameters(&vs) {
        if name.starts_with("context") || name.starts_with("attention") {
            let gradient = tensor.grad().abs().max().double_value(&[]);
            assert!(gradient > 0. && gradient.is_finite(), "{name}: {gradient}");
        }
    }
    Ok(())
}

#[test]
#[should_panic(expected = "context map is [1, 2, 4, 4], but must be [1, 2, 3, 4]")]
fn a_map_of_another_shape_is_refused() {
    let config = GatedConfig { context_channels: 2, context_height: 3, ..one_block(6, 4) };
    let _ = log_probs(&random(config).expect("it is valid").1, map(4, 4));
}

#[test]
fn kernels_change_no_loss_and_no_gradient_but_by_rounding() -> Result<()> {
    for head in [Head::Softmax, Head::Logistics { mixtures: 3 }] {
        let image = ImageConfig { colours: 3, head, ..ImageConfig::grey(5, 4, 16) };
        let (vs, model) = random(GatedConfig { image, ..one_block(5, 4) })?;
        let xs = audit::symbol_tensor(&audit::random_symbols(&model.layout(), 2, 3));
        let weights: Vec<Tensor> = core_layers::optim::parameters(&vs).into_values().collect();
        let found = || {
            let loss = model.loss(&xs, &ImageContext::none(2));
            let mut all = Tensor::run_backward(&[&loss], &weights, false, false);
            all.push(loss.detach());
            all
        };
        for (found, wanted) in found().iter().zip(&core_layers::kernels::without(found)) {
            let size = wanted.abs().max().double_value(&[]).max(1.);
            let worst = (found - wanted).abs().max().double_value(&[]);
            assert!(worst < 1e-5 * size, "{worst} of {size}");
        }
    }
    Ok(())
}
