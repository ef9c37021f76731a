//! Weights put in the place of others.

use tch::Tensor;

use super::{Decoder, linear::Linear};

impl Decoder {
    /// Puts `weight` in the place of the matrix of a layer, by its name in [`crate::weights`]. It may be computed from
    /// others: gradients flow to them.
    ///
    /// # Panics
    /// If no layer has a matrix of that name, or it has another shape.
    pub fn replace(&mut self, name: &str, weight: Tensor) {
        let place = self.matrix(name).unwrap_or_else(|| panic!("{name}: no matrix of a layer"));
        assert_eq!(place.size(), weight.size(), "{name} has another shape");
        *place = weight;
    }

    /// The matrix of that name.
    fn matrix(&mut self, name: &str) -> Option<&mut Tensor> {
        let (layer, part) = name.strip_prefix("layers.")?.split_once('.')?;
        let block = self.blocks.get_mut(layer.parse::<usize>().ok()?)?;
        let (attention, feed_forward) = (&mut block.attention, &mut block.feed_forward);
        let map: &mut Linear = match part {
            "attention.query.weight" => &mut attention.query,
            "attention.key.weight" => &mut attention.key,
            "attention.value.weight" => &mut attention.value,
            "attention.output.weight" => &mut attention.output,
            "feed_forward.up.weight" => &mut feed_forward.up,
            "feed_forward.down.weight" => &mut feed_forward.down,
            "feed_forward.gate.weight" => feed_forward.gate.as_mut()?,
            _ => return None,
        };
        Some(&mut map.ws)
    }
}
