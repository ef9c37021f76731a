//! The training loop: maximum likelihood by AdamW, written out.

mod pictures;

use std::borrow::Cow;

use anyhow::{Result, ensure};
use core_layers::{
    dataset::Batches,
    likelihood::Likelihood,
    run::{Metrics, RunFolder},
    training::{self, Ending, Part, Report, TrainState, Window, reseed},
};
use tch::{Device, nn};

use crate::{
    config::{ModelConfig, Run},
    data::{self, Dataset, Images},
    evaluate,
    model::Model,
    trained::about,
};

/// A run between two steps: the network, its images, and the weights with all that is saved.
struct State<'r, D> {
    run: &'r training::Run<ModelConfig, D>,
    folder: &'r RunFolder,
    dataset: &'r Dataset,
    device: Device,
    model: Model,
    weights: TrainState<'r, ModelConfig, D>,
}

/// Trains `run` in `folder`, from its last save if there is one. `stop` is asked after each step.
///
/// Everything random is a function of (seed, step), so a run that was interrupted at any moment and resumed has the bits
/// of one that was not, on the same kind of processor with the same threads and precision.
///
/// # Errors
/// A configuration that cannot be trained, data that changed, a loss that is not a number, a full disk: the last save
/// stays.
pub fn train(
    run: &Run,
    folder: &RunFolder,
    stop: &dyn Fn() -> bool,
    report: &mut dyn FnMut(Report),
) -> Result<Ending> {
    run.validate()?;
    fit(run, &data::load(&run.data)?, folder, stop, report)
}

/// The same on images that are at hand: what `run.data` says of them is kept, not read.
///
/// # Errors
/// As [`train`].
pub fn fit<D: Part>(
    run: &training::Run<ModelConfig, D>,
    dataset: &Dataset,
    folder: &RunFolder,
    stop: &dyn Fn() -> bool,
    report: &mut dyn FnMut(Report),
) -> Result<Ending> {
    run.validate()?;
    let config = &run.train;
    let device = config.open()?;
    ensure_trainable(&run.model, dataset)?;
    let mut state = State::new(run, folder, dataset, device)?;
    state.weights.begin(report)?;
    let first = state.weights.about().step + 1;
    let mut metrics = Metrics::open(folder, first - 1)?;
    let mut batches = Batches::new(config.seed, dataset.train.len(), config.batch_size);
    let (mut epoch, mut images) = (None, Cow::Borrowed(&dataset.train));
    let mut since = Window::default();
    for step in first..=config.num_steps {
        let entered = batches.epoch(step);
        if epoch != Some(entered) {
            epoch = Some(entered);
            images = dataset.epoch(config.seed, entered);
        }
        let rate = config.rate(step);
        let (loss, norm) = state.step(&images, &batches.rows(step), step, rate)?;
        since.add(loss, norm, config.batch_size);
        let dims = dataset.train.dims() as f64;
        if step % config.report_every == 0 {
            let bits_per_dim = since.mean_loss() / (dims * std::f64::consts::LN_2);
            metrics.report(
                step,
                &[
                    ("train_nats", since.mean_loss()),
                    ("train_bits_per_dim", bits_per_dim),
                    ("learning_rate", rate),
                    ("gradient_norm", since.last_norm()),
                    ("images_per_second", since.rate()),
                ],
            )?;
            report(Report::Step { step, bits_per_dim });
            since = Window::default();
        }
        let stopped = stop();
        if step % config.save_every == 0 || step == config.num_steps || stopped {
            let valid = state.validate(config.eval_examples);
            metrics.report(
                step,
                &[
                    ("valid_nats", valid.nats),
                    ("valid_nats_se", valid.nats_se.unwrap_or(f64::NAN)),
                    ("valid_bits_per_dim", valid.bits_per_dim),
                ],
            )?;
            metrics.sync()?;
            let entropy_nats = dataset.entropy_nats.map(|nats| nats / dims);
            if let Some(warning) = entropy_nats.and_then(|nats| Report::leak(&valid, nats)) {
                report(warning);
            }
            let is_best = state.weights.save(step, valid.nats)?;
            state.draw(step)?;
            report(Report::Saved { step, valid, is_best });
            since = Window::default();
        }
        if stopped && step < config.num_steps {
            return Ok(Ending::Stopped { step });
        }
    }
    Ok(Ending::Finished)
}

impl<'r, D: Part> State<'r, D> {
    fn new(
        run: &'r training::Run<ModelConfig, D>,
        folder: &'r RunFolder,
        dataset: &'r Dataset,
        device: Device,
    ) -> Result<Self> {
        tch::manual_seed(run.train.seed as i64);
        let vs = nn::VarStore::new(device);
        let model = Model::new(&vs.root(), &run.model)?;
        let weights = TrainState::new(folder, &vs, about(run, dataset));
        Ok(Self { run, folder, dataset, device, model, weights })
    }

    /// One optimiser step on the images `rows`; returns loss in nats per image and norm of the gradient.
    fn step(
        &mut self,
        images: &Images,
        rows: &[usize],
        step: u64,
        rate: f64,
    ) -> Result<(f64, f64)> {
        let config = &self.run.train;
        self.model.use_order(step - 1);
        self.weights.zero_grad();
        let mut loss = 0.;
        for (part, rows) in rows.chunks(rows.len().div_ceil(config.micro_batches)).enumerate() {
            reseed(config.seed, step, part);
            let xs = evaluate::batch(images, rows, self.device);
            let context = evaluate::context(&self.model, images, rows);
            let share = rows.len() as f64 / config.batch_size as f64;
            let autocast = config.precision.autocast(self.device);
            let nats = self.model.loss(&xs, &context) * share;
            drop(autocast);
            nats.backward();
            loss += nats.double_value(&[]);
        }
        let norm = self.weights.step(step, rate, loss)?;
        Ok((loss, norm))
    }

    /// Validation by the averaged weights, on the first `limit` images (0: all).
    fn validate(&mut self, limit: usize) -> Likelihood {
        let all = &self.dataset.valid;
        let images = match limit {
            0 => Cow::Borrowed(all),
            _ => Cow::Owned(all.select(&(0..limit.min(all.len())).collect::<Vec<_>>())),
        };
        self.weights.swap();
        self.model.use_order(0);
        let tally = evaluate::nats(&self.model, &images, self.device, &mut |_| {});
        self.weights.swap();
        tally.likelihood(all.dims())
    }

    fn draw(&mut self, step: u64) -> Result<()> {
        self.weights.swap();
        let drawn = pictures::draw(&self.model, self.folder, step, self.run.train.num_samples);
        self.weights.swap();
        drawn
    }
}

/// Refuses data that the model cannot hold.
fn ensure_trainable(model: &ModelConfig, dataset: &Dataset) -> Result<()> {
    let levels = dataset.train.levels.view();
    evaluate::ensure_fits(model, levels, dataset.num_levels, &dataset.name)?;
    let classes = model.classes();
    let labelled = classes == 0 || dataset.train.labels.is_some();
    ensure!(
        labelled,
        "{}: has no labels, the model is conditioned on {classes} classes",
        dataset.name
    );
    ensure!(
        classes == 0 || classes as usize == dataset.label_names.len(),
        "{}: has {} classes, the model {classes}",
        dataset.name,
        dataset.label_names.len()
    );
    ensure!(
        !dataset.train.is_empty() && !dataset.valid.is_empty(),
        "{}: has no images to train or validate on",
        dataset.name
    );
    Ok(())
}
