//! Low-rank adapters (Hu et al., "LoRA", 2021, section 4.1, <https://arxiv.org/abs/2106.09685>).
//! Letters: O outputs, I inputs of a weight, R rank.

use std::collections::BTreeMap;

use core_layers::ConfigError;
use tch::{Kind, Tensor};

use crate::{config::LoraConfig, model::Decoder};

/// What is trained in the place of a decoder's weights: for each adapted weight `W` `[O, I]` a `down` `[R, I]` and an
/// `up` `[O, R]`, of which `W + alpha / R up down` is made. `up` starts at zero, so the function starts as it was.
///
/// Differs: the sum is made once a pass, so that the network is one and the same with adapters and without; the gradient
/// of the whole weight is computed on the way. What adapters save is the optimiser's memory.
#[derive(Debug)]
pub struct Adapters {
    scale: f64,
    base: BTreeMap<String, Tensor>, // every weight of the decoder as it was
    pairs: BTreeMap<String, Pair>,  // by the name of the weight
}

#[derive(Debug)]
struct Pair {
    down: Tensor, // [R, I]
    up: Tensor,   // [O, R]
}

impl Adapters {
    /// Adapters of the weights that `config` names. `down` starts from `N(0, 1 / sqrt(I))` by libtorch's generator.
    ///
    /// # Errors
    /// [`ConfigError`] for numbers that adapt nothing, or a decoder that has none of the weights.
    pub fn new(decoder: &Decoder, config: &LoraConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let base: BTreeMap<String, Tensor> =
            decoder.tensors().into_iter().map(|(name, weight)| (name, weight.detach())).collect();
        let pair = |weight: &Tensor| {
            let options = (Kind::Float, weight.device());
            let (outs, inputs) = weight.size2().expect("adapted weights are matrices");
            let down = Tensor::randn([config.rank, inputs], options) / (inputs as f64).sqrt();
            let up = Tensor::zeros([outs, config.rank], options);
            Pair { down: down.set_requires_grad(true), up: up.set_requires_grad(true) }
        };
        let pairs: BTreeMap<String, Pair> = base
            .iter()
            .filter(|(name, _)| config.changes(name))
            .map(|(name, weight)| (name.clone(), pair(weight)))
            .collect();
        let targets = format!("{:?}", config.targets);
        ConfigError::ensure(!pairs.is_empty(), "lora.targets", targets, "weights of the model")?;
        Ok(Self { scale: config.scale(), base, pairs })
    }

    /// What is trained, by name; shares memory with these.
    pub fn parameters(&self) -> BTreeMap<String, Tensor> {
        let both = |(name, Pair { down, up }): (&String, &Pair)| {
            [("down", down), ("up", up)]
                .map(|(part, it)| (format!("{name}.{part}"), it.shallow_clone()))
        };
        self.pairs.iter().flat_map(both).collect()
    }

    /// The weights that stay as they were, by name; shares memory with these.
    pub fn base(&self) -> BTreeMap<String, Tensor> {
        self.base.iter().map(|(name, weight)| (name.clone(), weight.shallow_clone())).collect()
    }

    /// Lets `decoder` use the adapted weights; gradients flow to the adapters unless they are switched off. To be called
    /// before every pass that follows a step.
    pub fn apply(&self, decoder: &mut Decoder) {
        for (name, Pair { down, up }) in &self.pairs {
            let weight = &self.base[name] + up.matmul(down) * self.scale; // [O, I]
            decoder.replace(name, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use tch::{Device, nn};

    use super::*;
    use crate::{
        config::{LoraConfig, Target},
        train::tests::tiny,
    };

    fn decoder() -> Result<Decoder> {
        tch::manual_seed(1);
        let mut vs = nn::VarStore::new(Device::Cpu);
        let decoder = Decoder::new(&vs.root(), &tiny())?;
        vs.freeze();
        Ok(decoder)
    }

    fn loss(decoder: &Decoder) -> Tensor {
        let tokens = Tensor::arange(18, (Kind::Int64, Device::Cpu)).view([2, 9]).remainder(11);
        decoder.log_prob(&tokens, false).mean(Kind::Float).neg()
    }

    #[test]
    fn at_first_the_function_is_what_it_was_and_only_adapters_get_gradients() -> Result<()> {
        let mut decoder = decoder()?;
        let before = loss(&decoder);
        let targets = vec![Target::Query, Target::Down];
        let adapters = Adapters::new(&decoder, &LoraConfig { targets, ..LoraConfig::default() })?;
        adapters.apply(&mut decoder);
        let after = loss(&decoder);
        assert_eq!(before, after);
        after.backward();
        let parameters = adapters.parameters();
        assert_eq!(parameters.len() as i64, 2 * 2 * tiny().layers, "a pair a target and layer");
        for (name, x) in &parameters {
            let moves = x.grad().abs().sum(Kind::Float).double_value(&[]) > 0.;
            assert_eq!(moves, name.ends_with("up"), "{name}: up is zero, so down waits a step");
        }
        assert!(adapters.base().values().all(|it| !it.requires_grad() && !it.grad().defined()));
        Ok(())
    }

    #[test]
    fn a_step_changes_the_function_and_the_base_stays() -> Result<()> {
        let mut decoder = decoder()?;
        let adapters = Adapters::new(&decoder, &LoraConfig::default())?;
        let kept: BTreeMap<_, _> =
            adapters.base().into_iter().map(|(name, it)| (name, it.copy())).collect();
        tch::no_grad(|| {
            for mut x in adapters.parameters().into_values() {
                x += 0.1;
            }
        });
        let before = loss(&decoder);
        adapters.apply(&mut decoder);
        assert_ne!(before, loss(&decoder));
        assert!(adapters.base().iter().all(|(name, it)| *it == kept[name]));
        let name = "layers.0.attention.query.weight";
        let changed: BTreeMap<_, _> = decoder.tensors().into_iter().collect();
        let change = (changed[name] - &kept[name]) / 2.; // alpha / R is 2
        let pair = &adapters.pairs[name];
        let worst = (change - pair.up.matmul(&pair.down)).abs().max().double_value(&[]);
        assert!(worst < 1e-6, "{worst}");
        Ok(())
    }
}
