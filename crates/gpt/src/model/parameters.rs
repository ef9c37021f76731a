//! The tensors of a decoder by name, and weights copied into and out of them.

use anyhow::{Context as _, Result, ensure};
use core_layers::{encoded::Encoded, kernels::step, norm::Norm, training::Part as _};
use tch::{Device, Kind, Tensor, nn};

use super::{Decoder, block::Block, linear::Linear};
use crate::{config::DecoderConfig, weights::Weights};

impl Decoder {
    /// A decoder of delivered weights, in f32, without gradients. On a GPU quantised matrices of layers are kept as they were
    /// delivered as well: a step of few rows then reads those.
    ///
    /// # Errors
    /// One line on weights that do not fit the configuration.
    pub fn load(config: &DecoderConfig, weights: &Weights, device: Device) -> Result<Self> {
        weights.ensure_fit(config)?;
        let mut vs = nn::VarStore::new(device);
        config.validate()?;
        let model = Self::with_std(&vs.root(), config, 0.);
        vs.freeze();
        model.copy_from(weights)?;
        if step::is_there(device) {
            for index in 0..model.blocks.len() {
                for (part, map) in model.maps_of(index) {
                    map.pack(weights.of(&format!("layers.{index}.{part}.weight")));
                }
            }
        }
        Ok(model)
    }

    /// Takes over delivered weights, decoded; a weight on its way to gradients stays a parameter.
    ///
    /// # Errors
    /// One line on weights that do not fit the configuration.
    pub fn copy_from(&self, weights: &Weights) -> Result<()> {
        weights.ensure_fit(&self.config)?;
        ensure!(!self.blocks.iter().any(Block::is_packed), "holds delivered blocks, which stay");
        for (name, tensor) in self.tensors() {
            let values = Tensor::from_slice(&weights.of(&name).to_f32());
            let mut to = tensor.detach(); // the same storage
            to.f_copy_(&values.view(tensor.size().as_slice()))
                .with_context(|| format!("tensor {name:?}"))?;
        }
        Ok(())
    }

    /// Its weights in f32, under the names of [`crate::weights`].
    pub fn weights(&self) -> Weights {
        let encoded = |tensor: &Tensor| {
            let size = tensor.size();
            let columns = size.last().map_or(1, |&it| it as usize);
            let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
            let values: Vec<f32> =
                Vec::try_from(flat.view(-1)).expect("a flat float tensor on the CPU is a vector");
            Encoded::from_f32(values.len() / columns, columns, &values)
        };
        Weights(self.tensors().into_iter().map(|(name, it)| (name, encoded(it))).collect())
    }

    /// Every parameter by its name in [`crate::weights`].
    pub fn tensors(&self) -> Vec<(String, &Tensor)> {
        let mut tensors = vec![("embedding.weight".to_owned(), &self.embedding)];
        tensors.extend(self.position.iter().map(|it| ("position.weight".to_owned(), it)));
        tensors.extend(self.head.iter().map(|it| ("head.weight".to_owned(), it)));
        add_norm(&mut tensors, "norm", &self.norm);
        for (index, block) in self.blocks.iter().enumerate() {
            let name = |part: &str| format!("layers.{index}.{part}");
            add_norm(&mut tensors, &name("attention_norm"), &block.attention_norm);
            add_norm(&mut tensors, &name("feed_forward_norm"), &block.feed_forward_norm);
            for (part, map) in self.maps_of(index) {
                add_linear(&mut tensors, &name(part), map);
            }
        }
        tensors
    }

    /// The linear maps of a layer, by name.
    pub(crate) fn maps_of(&self, layer: usize) -> Vec<(&'static str, &Linear)> {
        let block = &self.blocks[layer];
        let (attention, feed_forward) = (&block.attention, &block.feed_forward);
        let mut maps = vec![
            ("attention.query", &attention.query),
            ("attention.key", &attention.key),
            ("attention.value", &attention.value),
            ("attention.output", &attention.output),
            ("feed_forward.up", &feed_forward.up),
            ("feed_forward.down", &feed_forward.down),
        ];
        maps.extend(feed_forward.gate.iter().map(|gate| ("feed_forward.gate", gate)));
        maps
    }
}

fn add_norm<'m>(tensors: &mut Vec<(String, &'m Tensor)>, name: &str, norm: &'m Norm) {
    tensors.push((format!("{name}.weight"), norm.weight()));
    tensors.extend(norm.bias().map(|bs| (format!("{name}.bias"), bs)));
}

fn add_linear<'m>(tensors: &mut Vec<(String, &'m Tensor)>, name: &str, map: &'m Linear) {
    tensors.extend(map.tensors().map(|(part, tensor)| (format!("{name}.{part}"), tensor)));
}
