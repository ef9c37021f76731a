//! What a run carries from step to step, and saves.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use tch::{Tensor, nn};

use super::{About, Architecture, Part, Report, TrainConfig};
use crate::{
    checkpoint::{Checkpoint, Weights, write_atomic},
    optim::{self, AdamW, AdamWConfig, Ema},
    run::{CONFIG, LAST, MODEL, RunFolder},
};

/// The section of a checkpoint that holds `AdamW`'s moments.
const ADAM: &str = "adam.";

/// A run between two steps: weights, `AdamW`'s moments, the moving average, and what the next checkpoint will say.
#[derive(Debug)]
pub struct TrainState<'r, M, D> {
    folder: &'r RunFolder,
    about: About<M, D>,
    weights: BTreeMap<String, Tensor>,
    optimiser: AdamW,
    ema: Option<Ema>,
}

impl<'r, M: Architecture, D: Part> TrainState<'r, M, D> {
    /// Before the first step of `about.run` on the weights in `vs`.
    pub fn new(folder: &'r RunFolder, vs: &nn::VarStore, about: About<M, D>) -> Self {
        let weights = optim::parameters(vs);
        let config = &about.run.train;
        let adam = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        Self {
            optimiser: AdamW::new(&weights, adam),
            ema: (config.ema_decay > 0.).then(|| Ema::new(&weights, config.ema_decay)),
            folder,
            about,
            weights,
        }
    }

    /// What the last save said, or would have said before the first step.
    pub fn about(&self) -> &About<M, D> {
        &self.about
    }

    /// Takes up the last save in the folder; where there is none, writes the configuration. What will keep the bits from
    /// being those of an unbroken run is reported as a warning.
    ///
    /// # Errors
    /// A save that cannot be read, belongs to another model or to other data; a configuration that cannot be written.
    pub fn begin(&mut self, report: &mut dyn FnMut(Report)) -> Result<()> {
        let path = self.folder.file(LAST);
        if path.exists() {
            return self.restore(&path, report);
        }
        let config = serde_json::to_string_pretty(&self.about.run)?;
        Ok(write_atomic(&self.folder.file(CONFIG), config.as_bytes())?)
    }

    fn restore(&mut self, path: &Path, report: &mut dyn FnMut(Report)) -> Result<()> {
        let checkpoint = Checkpoint::load(path)?;
        let about = About::<M, D>::read(&checkpoint, path)?;
        ensure!(
            about.data_hash == self.about.data_hash,
            "{}: was trained on other data: {}, now {}",
            path.display(),
            about.protocol,
            self.about.protocol
        );
        for line in changes(&about.run.train, &self.about.run.train) {
            report(Report::Warning(line));
        }
        checkpoint.copy_into(path, Weights::Raw.prefix(), &self.weights)?;
        checkpoint.copy_into(path, ADAM, &self.optimiser.state())?;
        if let Some(ema) = &self.ema {
            checkpoint.copy_into(path, Weights::Ema.prefix(), ema.tensors())?;
        }
        self.about = About { run: self.about.run.clone(), ..about };
        report(Report::Resumed { step: self.about.step });
        Ok(())
    }

    /// Forgets the gradients; to be called before the first micro-batch of a step.
    pub fn zero_grad(&mut self) {
        self.optimiser.zero_grad();
    }

    /// Moves weights and average after the gradients of `step`, clipped, at learning rate `rate`. Returns the norm of the
    /// gradient before it was clipped.
    ///
    /// # Errors
    /// A loss that is not finite; nothing was moved then, and the line says where the last good state is.
    pub fn step(&mut self, step: u64, rate: f64, loss: f64) -> Result<f64> {
        ensure!(
            loss.is_finite(),
            "the loss is {loss} at step {step}; the last good state is {}; try a lower learning rate (now {rate})",
            self.last_good()
        );
        let limit = self.about.run.train.clip_norm;
        let norm = self.optimiser.clip(if limit > 0. { limit } else { f64::INFINITY });
        self.optimiser.step(rate);
        if let Some(ema) = &mut self.ema {
            ema.update(step);
        }
        Ok(norm)
    }

    fn last_good(&self) -> String {
        let path = self.folder.file(LAST);
        if path.exists() {
            format!("{} (step {})", path.display(), self.about.step)
        } else {
            "none yet".into()
        }
    }

    /// Exchanges weights and average, where one is kept: before an evaluation, and again after it.
    pub fn swap(&mut self) {
        if let Some(ema) = &mut self.ema {
            ema.swap();
        }
    }

    /// Writes the state after `step` as `last.safetensors`, and its weights as `model.safetensors` where `valid_nats` per
    /// example is the least so far. Returns whether it is.
    ///
    /// # Errors
    /// A file that cannot be written, such as on a full disk; what stood there before still does.
    pub fn save(&mut self, step: u64, valid_nats: f64) -> Result<bool> {
        let is_best = self.about.valid_nats.is_none_or(|best| valid_nats < best);
        self.about.step = step;
        if is_best {
            self.about.valid_nats = Some(valid_nats);
        }
        let mut checkpoint = Checkpoint::default();
        self.about.write(&mut checkpoint)?;
        checkpoint.insert_weights(&self.weights, self.ema.as_ref().map(Ema::tensors));
        if is_best {
            checkpoint.save(&self.folder.file(MODEL)).context("saving the best model")?;
        }
        checkpoint.insert(ADAM, &self.optimiser.state());
        checkpoint.save(&self.folder.file(LAST)).context("saving the state")?;
        Ok(is_best)
    }
}

/// What changed between a save and its resumption, and shows in the bits.
fn changes(then: &TrainConfig, now: &TrainConfig) -> Vec<String> {
    [
        ("threads", then.threads.to_string(), now.threads.to_string()),
        ("precision", then.precision.to_string(), now.precision.to_string()),
        ("device", then.device.to_string(), now.device.to_string()),
    ]
    .into_iter()
    .filter(|(_, then, now)| then != now)
    .map(|(what, then, now)| {
        format!("{what} was {then}, is {now}: the bits will differ from an unbroken run")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use tch::{Device, Kind};

    use super::*;
    use crate::{ConfigError, training::Run};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Line;

    impl Part for Line {
        fn validate(&self) -> Result<(), ConfigError> {
            Ok(())
        }
    }

    impl Architecture for Line {
        const NAME: &'static str = "line";

        fn least_parameters(&self) -> i64 {
            1
        }
    }

    fn about(threads: usize, data_hash: &str) -> About<Line, Line> {
        About {
            run: Run {
                model: Line,
                data: Line,
                train: TrainConfig { threads, ..TrainConfig::default() },
            },
            dataset: "points".into(),
            protocol: "all".into(),
            label_names: Vec::new(),
            data_hash: data_hash.into(),
            step: 0,
            valid_nats: None,
        }
    }

    fn line() -> (nn::VarStore, Tensor) {
        let vs = nn::VarStore::new(Device::Cpu);
        let slope = vs.root().zeros("slope", &[1]);
        (vs, slope)
    }

    fn learn(state: &mut TrainState<'_, Line, Line>, slope: &Tensor, step: u64) -> Result<f64> {
        state.zero_grad();
        let loss = (slope - 1.).square().sum(Kind::Float);
        loss.backward();
        state.step(step, 0.1, loss.double_value(&[]))
    }

    #[test]
    fn a_saved_state_is_taken_up_with_its_moments() -> Result<()> {
        let place = tempfile::tempdir()?;
        let folder = RunFolder::create(place.path(), false)?;
        let (vs, slope) = line();
        let mut state = TrainState::new(&folder, &vs, about(1, "a"));
        state.begin(&mut |report| panic!("{report:?}"))?;
        for step in 1..=3 {
            learn(&mut state, &slope, step)?;
        }
        assert!(state.save(3, 0.5)?);
        assert!(!state.save(3, 0.6)?, "more nats are not the best");
        learn(&mut state, &slope, 4)?;

        let (again, second) = line();
        let mut resumed = TrainState::new(&folder, &again, about(2, "a"));
        let mut said = Vec::new();
        resumed.begin(&mut |report| said.push(report))?;
        let warning = "threads was 1, is 2: the bits will differ from an unbroken run";
        assert_eq!(said, [Report::Warning(warning.into()), Report::Resumed { step: 3 }]);
        assert_eq!((resumed.about().step, resumed.about().valid_nats), (3, Some(0.5)));
        learn(&mut resumed, &second, 4)?;
        assert_eq!(second, slope);
        resumed.swap();
        state.swap();
        assert_eq!(second, slope, "the averages as well");
        Ok(())
    }

    #[test]
    fn other_data_and_losses_that_are_no_numbers_are_refused() -> Result<()> {
        let place = tempfile::tempdir()?;
        let folder = RunFolder::create(place.path(), false)?;
        let (vs, slope) = line();
        let mut state = TrainState::new(&folder, &vs, about(1, "a"));
        let refusal = state.step(1, 0.1, f64::NAN).unwrap_err().to_string();
        assert!(refusal.contains("the loss is NaN at step 1; the last good state is none yet"));
        learn(&mut state, &slope, 1)?;
        state.save(1, 0.5)?;
        let refusal = state.step(2, 0.1, f64::INFINITY).unwrap_err().to_string();
        assert!(refusal.contains("last.safetensors (step 1)"), "{refusal}");
        let mut other = TrainState::new(&folder, &vs, about(1, "b"));
        let refusal = other.begin(&mut |_| {}).unwrap_err().to_string();
        assert!(refusal.contains("was trained on other data"), "{refusal}");
        Ok(())
    }
}
