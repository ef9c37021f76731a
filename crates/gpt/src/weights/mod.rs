//! The weights of a decoder, as they were delivered, under one set of names.
//!
//! | name | shape | |
//! |---|---|---|
//! | `embedding.weight` | `[V, D]` | |
//! | `position.weight` | `[N, D]` | where positions are learnt |
//! | `layers.I.attention_norm.{weight,bias}` | `[D]` | bias of a layer norm only |
//! | `layers.I.attention.query.{weight,bias}` | `[H E, D]` | biases where the configuration has them |
//! | `layers.I.attention.{key,value}.{weight,bias}` | `[K E, D]` | |
//! | `layers.I.attention.output.{weight,bias}` | `[D, H E]` | |
//! | `layers.I.feed_forward_norm.{weight,bias}` | `[D]` | |
//! | `layers.I.feed_forward.gate.{weight,bias}` | `[F, D]` | of `SwiGlu` only |
//! | `layers.I.feed_forward.up.{weight,bias}` | `[F, D]` | |
//! | `layers.I.feed_forward.down.{weight,bias}` | `[D, F]` | |
//! | `norm.{weight,bias}` | `[D]` | |
//! | `head.weight` | `[V, D]` | unless it is tied |
//!
//! Queries and keys are in the order that pairs the halves of a head (`rotate_half`); readers of formats that pair
//! neighbours reorder the rows. The same names stand in checkpoints of training.

mod quantise;

use std::collections::BTreeMap;

use core_layers::encoded::Encoded;

use crate::config::{DecoderConfig, FeedForward, Norm, Positions};

pub use quantise::quantise;

/// Weights by name.
#[derive(Debug, Clone, Default)]
pub struct Weights(pub BTreeMap<String, Encoded>);

impl Weights {
    /// The weight of a name.
    ///
    /// # Panics
    /// If there is none; [`Weights::ensure_fit`] has said so before.
    pub fn of(&self, name: &str) -> &Encoded {
        self.0.get(name).unwrap_or_else(|| panic!("{name} was checked to be there"))
    }

    /// Bytes of all.
    pub fn bytes(&self) -> usize {
        self.0.values().map(|it| it.bytes().len()).sum()
    }

    /// Refuses weights of another model: what is missing, of another shape, or one too many, is named.
    ///
    /// # Errors
    /// One line about the first that does not fit.
    pub fn ensure_fit(&self, config: &DecoderConfig) -> anyhow::Result<()> {
        let layers = config.layers;
        anyhow::ensure!(
            usize::try_from(layers).is_ok_and(|layers| layers <= self.0.len()),
            "holds {} tensors, too few for the {layers} layers of its configuration",
            self.0.len()
        );
        let wanted = names(config);
        for (name, (rows, columns)) in &wanted {
            let found = self.0.get(name);
            let found = found.ok_or_else(|| {
                anyhow::anyhow!(
                    "tensor {name:?} is missing, the configuration needs [{rows}, {columns}]"
                )
            })?;
            anyhow::ensure!(
                (found.rows() as i64, found.columns() as i64) == (*rows, *columns),
                "tensor {name:?} has shape [{}, {}], the configuration needs [{rows}, {columns}]",
                found.rows(),
                found.columns()
            );
        }
        let extra = self.0.keys().find(|name| !wanted.contains_key(*name));
        anyhow::ensure!(
            extra.is_none(),
            "tensor {:?} is in the file, the configuration needs no such tensor",
            extra.map_or("", |it| it)
        );
        Ok(())
    }
}

/// Whether a weight is a vector: a bias, or a norm's.
pub(crate) fn is_vector(name: &str) -> bool {
    name.rsplit('.').next() == Some("bias") || name.ends_with("norm.weight")
}

/// The names of all weights of a configuration, with rows and columns; a vector is one row.
pub fn names(config: &DecoderConfig) -> BTreeMap<String, (i64, i64)> {
    let mut names = BTreeMap::new();
    let mut add = |name: String, rows: i64, columns: i64| {
        names.insert(name, (rows, columns));
    };
    let (d, q, k, f) = (config.d_model, config.d_query(), config.d_key(), config.d_ff);
    add("embedding.weight".into(), config.vocabulary, d);
    if config.positions == Positions::Learned {
        add("position.weight".into(), config.context, d);
    }
    if !config.tied {
        add("head.weight".into(), config.vocabulary, d);
    }
    let mut norms = vec!["norm".to_owned()];
    for layer in 0..config.layers {
        let name = |part: &str| format!("layers.{layer}.{part}");
        norms.extend([name("attention_norm"), name("feed_forward_norm")]);
        let gate =
            (config.feed_forward == FeedForward::SwiGlu).then(|| (name("feed_forward.gate"), f, d));
        let linears = [
            (name("attention.query"), q, d),
            (name("attention.key"), k, d),
            (name("attention.value"), k, d),
            (name("attention.output"), d, q),
            (name("feed_forward.up"), f, d),
            (name("feed_forward.down"), d, f),
        ];
        for (name, outs, inputs) in linears.into_iter().chain(gate) {
            add(format!("{name}.weight"), outs, inputs);
            if config.biases {
                add(format!("{name}.bias"), 1, outs);
            }
        }
    }
    for norm in norms {
        add(format!("{norm}.weight"), 1, d);
        if config.norm == Norm::LayerNorm {
            add(format!("{norm}.bias"), 1, d);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::fixture;

    fn refusal(edit: impl FnOnce(&mut Weights, &mut DecoderConfig)) -> String {
        let mut model = fixture("llama-grouped");
        edit(&mut model.weights, &mut model.config);
        model.weights.ensure_fit(&model.config).unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let name = "layers.1.attention.key.weight";
        let line = refusal(|weights, _| drop(weights.0.remove(name)));
        assert_eq!(line, format!("tensor {name:?} is missing, the configuration needs [12, 36]"));
        let line = refusal(|_, config| config.kv_heads = 9);
        let first = "layers.0.attention.key.weight";
        assert_eq!(
            line,
            format!("tensor {first:?} has shape [12, 36], the configuration needs [36, 36]")
        );
        let line = refusal(|weights, _| {
            let norm = weights.of("norm.weight").clone();
            weights.0.insert("norm.bias".into(), norm);
        });
        assert_eq!(
            line,
            "tensor \"norm.bias\" is in the file, the configuration needs no such tensor"
        );
    }

    #[test]
    fn a_configuration_of_millions_of_layers_is_refused_before_they_are_listed() {
        let line = refusal(|_, config| config.layers = 1 << 24);
        assert_eq!(line, "holds 21 tensors, too few for the 16777216 layers of its configuration");
    }
}
