//! `AdamW` on libtorch's fused kernel, gradient clipping, and a moving average of weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn::VarStore};

use crate::{
    ConfigError,
    kernels::ffi::{self, AdamWNumbers, AdamWTensors},
};

/// The trainable parameters of a store by name; they share memory with the model.
pub fn parameters(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect()
}

/// The numbers of [`AdamW`] besides the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients a step.
    pub beta1: f64,
    /// Decay of the mean of squared gradients a step.
    pub beta2: f64,
    /// What keeps the division finite.
    pub epsilon: f64,
    /// Weight decay a step, in units of the learning rate; only for parameters of two or more axes.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamWConfig {
    /// Refuses numbers under which the iteration is undefined.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] that names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        for (field, beta) in [("beta1", beta1), ("beta2", beta2)] {
            ConfigError::ensure((0.0..1.0).contains(&beta), field, beta, "at least 0 and below 1")?;
        }
        ConfigError::ensure(epsilon > 0.0, "epsilon", epsilon, "above 0")?;
        ConfigError::ensure(weight_decay >= 0.0, "weight_decay", weight_decay, "at least 0")
    }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019,
/// algorithm 2, <https://arxiv.org/abs/1711.05101>), all parameters in one call.
///
/// With gradient `g`, learning rate `r` and step count `t` of each parameter `w`:
///
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `w = w - r d w - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)`,
///
/// where `d` is the weight decay, 0 for biases and gains (parameters of fewer than two axes).
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    names: Vec<String>,
    params: Vec<Tensor>,
    means: Vec<Tensor>,
    squares: Vec<Tensor>,
    steps: Vec<Tensor>, // scalars: how many gradients each parameter has seen
}

impl AdamW {
    /// An optimiser at its first step.
    pub fn new(parameters: &BTreeMap<String, Tensor>, config: AdamWConfig) -> Self {
        let zeros = || parameters.values().map(|x| x.detach().zeros_like()).collect();
        let step = |x: &Tensor| Tensor::zeros([], (Kind::Float, x.device()));
        Self {
            config,
            names: parameters.keys().cloned().collect(),
            params: parameters.values().map(Tensor::shallow_clone).collect(),
            means: zeros(),
            squares: zeros(),
            steps: parameters.values().map(step).collect(),
        }
    }

    /// Forgets the gradients; to be called before the first micro-batch of a step.
    pub fn zero_grad(&mut self) {
        self.params.iter_mut().for_each(Tensor::zero_grad);
    }

    /// Scales the gradients so that their joint Euclidean norm is at most `max_norm`; returns the norm before.
    ///
    /// A norm that is not finite means a step that must not be made: the gradients are worthless then.
    ///
    /// # Panics
    /// When libtorch refuses, for example when the device is out of memory.
    pub fn clip(&mut self, max_norm: f64) -> f64 {
        let grads: Vec<Tensor> =
            self.params.iter().map(Tensor::grad).filter(Tensor::defined).collect();
        ffi::clip_grad_norm(&grads, max_norm).unwrap_or_else(|error| panic!("clipping: {error}"))
    }

    /// Moves every parameter that has a gradient, at learning rate `rate`.
    ///
    /// # Panics
    /// When libtorch refuses, for example when the device is out of memory.
    pub fn step(&mut self, rate: f64) {
        let AdamWConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        for decayed in [true, false] {
            let tensors = self.group(decayed);
            let weight_decay = if decayed { weight_decay } else { 0.0 };
            let numbers = AdamWNumbers { rate, beta1, beta2, weight_decay, epsilon };
            ffi::fused_adamw(&tensors, numbers)
                .unwrap_or_else(|error| panic!("a step of AdamW: {error}"));
        }
    }

    /// Parameters with a gradient, by whether their weights decay; counts their step.
    fn group(&self, decayed: bool) -> AdamWTensors {
        let mut group = AdamWTensors::default();
        for (i, param) in self.params.iter().enumerate() {
            let grad = param.grad();
            if (param.dim() >= 2) != decayed || !grad.defined() {
                continue;
            }
            let _ = self.steps[i].shallow_clone().g_add_scalar_(1.0);
            group.params.push(param.shallow_clone());
            group.grads.push(laid_out_like(param, grad));
            group.means.push(self.means[i].shallow_clone());
            group.squares.push(self.squares[i].shallow_clone());
            group.steps.push(self.steps[i].shallow_clone());
        }
        group
    }

    /// Everything that another process needs to go on: `mean.NAME`, `square.NAME` and `step.NAME` of each parameter.
    ///
    /// The tensors share memory with the optimiser: save them before the next step, and restore by copying into them
    /// ([`Checkpoint::copy_into`](crate::checkpoint::Checkpoint::copy_into)).
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let lists = [("mean", &self.means), ("square", &self.squares), ("step", &self.steps)];
        let named = lists.into_iter().flat_map(|(what, list)| {
            self.names
                .iter()
                .zip(list)
                .map(move |(name, x)| (format!("{what}.{name}"), x.shallow_clone()))
        });
        named.collect()
    }
}

/// The fused kernel walks memory, not indices: a gradient laid out otherwise is copied.
fn laid_out_like(param: &Tensor, grad: Tensor) -> Tensor {
    if ffi::same_memory_order(param, &grad) {
        return grad;
    }
    let mut copy = param.detach().empty_like();
    copy.copy_(&grad);
    copy
}

/// An exponential moving average of weights, which evaluates better than the last weights do.
///
/// `average = d average + (1 - d) weights` after each step, with `d = min(decay, (1 + step) / (10 + step))`, so that early
/// weights are forgotten soon (as in TensorFlow's `ExponentialMovingAverage` with `num_updates`).
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    averages: BTreeMap<String, Tensor>,
    weights: BTreeMap<String, Tensor>,
}

impl Ema {
    /// An average that starts at the weights as they are.
    pub fn new(parameters: &BTreeMap<String, Tensor>, decay: f64) -> Self {
        let copy = |x: &Tensor| x.detach().copy();
        Self {
            decay,
            averages: parameters.iter().map(|(name, x)| (name.clone(), copy(x))).collect(),
            weights: parameters.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect(),
        }
    }

    /// Takes in the weights after `step`, the first of which is 1.
    ///
    /// # Panics
    /// When libtorch refuses, for example when the device is out of memory.
    pub fn update(&mut self, step: u64) {
        let list = |map: &BTreeMap<String, Tensor>| {
            map.values().map(Tensor::shallow_clone).collect::<Vec<_>>()
        };
        ffi::lerp(&list(&self.averages), &list(&self.weights), 1.0 - self.decay_at(step))
            .unwrap_or_else(|error| panic!("averaging weights: {error}"));
    }

    fn decay_at(&self, step: u64) -> f64 {
        let step = step as f64;
        self.decay.min((1.0 + step) / (10.0 + step))
    }

    /// The averages by the names of their parameters. They share memory: save them before the next update, and restore by
    /// copying into them ([`Checkpoint::copy_into`](crate::checkpoint::Checkpoint::copy_into)).
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.averages
    }

    /// Exchanges averages and weights: before an evaluation, and again after it.
    pub fn swap(&mut self) {
        tch::no_grad(|| {
            for (average, weight) in self.averages.values_mut().zip(self.weights.values_mut()) {
                let kept = weight.copy();
                weight.copy_(average);
                average.copy_(&kept);
            }
        });
    }
}

#[cfg(test)]
mod tests;
