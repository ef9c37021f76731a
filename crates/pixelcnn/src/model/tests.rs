//! Masks as a whole: what a stack sees, and that one broken mask does not pass unseen.

use anyhow::Result;
use core_layers::{
    Autoregressive, Conditionals, Layout, audit,
    conv::{Mask, MaskedConv2d, MaskedConv2dConfig},
};
use tch::{Device, Tensor, nn, nn::Module};

use super::*;
use crate::config::{GatedConfig, ImageConfig, SimpleConfig};

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
    let gated = GatedConfig {
        image,
        channels: 2,
        first_kernel_size: 3,
        kernel_size: 3,
        dilations: vec![1; 7],
        classes: 0,
        context_channels: 0,
        dropout: 0.,
    };
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
