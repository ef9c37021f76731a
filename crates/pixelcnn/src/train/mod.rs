//! The training loop: maximum likelihood by AdamW, written out.

mod epoch;
mod pictures;

use std::{borrow::Cow, collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, ensure};
use core_layers::{
    checkpoint::{Checkpoint, write_atomic},
    device::{keep_memory, physical_cores, set_threads},
    likelihood::Likelihood,
    optim::{self, AdamW, AdamWConfig, Ema},
    random,
    run::{CONFIG, LAST, MODEL, Metrics, RunFolder},
};
use tch::{Device, Tensor, nn};

use crate::{
    config::Run,
    data::{self, Dataset},
    evaluate,
    model::Model,
    trained::About,
};

use epoch::Epoch;

/// What a run says while it lasts.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Training loss, averaged over the steps since the last report.
    Step {
        /// Steps taken.
        step: u64,
        /// Mean training loss in bits per dimension.
        bits_per_dim: f64,
    },
    /// Validation by the weights that evaluation uses; the state has been saved.
    Saved {
        /// Steps taken.
        step: u64,
        /// What validation came to.
        valid: Likelihood,
        /// Whether it is the best so far, and now `model.safetensors`.
        is_best: bool,
    },
    /// Something that a person should know.
    Warning(String),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All its steps were taken.
    Finished,
    /// It was asked to stop, and can be resumed.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

/// A run between two steps.
struct State<'r> {
    run: &'r Run,
    folder: &'r RunFolder,
    dataset: &'r Dataset,
    device: Device,
    model: Model,
    weights: BTreeMap<String, Tensor>,
    optimiser: AdamW,
    ema: Option<Ema>,
    about: About,
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
    let config = &run.train;
    let threads = if config.threads == 0 { physical_cores() } else { config.threads };
    set_threads(threads)?;
    keep_memory();
    let device = config.device.open()?;
    config.precision.validate(device)?;
    let dataset = data::load(&run.data)?;
    ensure_trainable(run, &dataset)?;
    let mut state = State::new(run, folder, &dataset, device)?;
    let restored = state.restore(report)?;
    if !restored {
        write_atomic(&folder.file(CONFIG), serde_json::to_string_pretty(run)?.as_bytes())?;
    }
    let mut metrics = Metrics::open(folder, state.about.step)?;
    let mut epoch = Epoch::before_the_first(&dataset);
    let mut since = Window::default();
    for step in state.about.step + 1..=config.num_steps {
        epoch.enter(run, &dataset, step);
        let rate = config.schedule.rate(step, config.num_steps, config.learning_rate);
        let (loss, norm) = state.step(&epoch, step, rate)?;
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
                    ("gradient_norm", since.norm),
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
                    ("valid_nats_se", valid.nats_se),
                    ("valid_bits_per_dim", valid.bits_per_dim),
                ],
            )?;
            metrics.sync()?;
            state.warn_of_a_leak(&valid, report);
            let is_best = state.save(step, &valid)?;
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

/// Means over the steps since the last report.
struct Window {
    start: Instant,
    losses: Vec<f64>,
    norm: f64,
    images: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { start: Instant::now(), losses: Vec::new(), norm: 0., images: 0 }
    }
}

impl Window {
    fn add(&mut self, loss: f64, norm: f64, images: usize) {
        self.losses.push(loss);
        self.norm = norm;
        self.images += images;
    }

    fn mean_loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    fn rate(&self) -> f64 {
        self.images as f64 / self.start.elapsed().as_secs_f64()
    }
}

impl<'r> State<'r> {
    fn new(
        run: &'r Run,
        folder: &'r RunFolder,
        dataset: &'r Dataset,
        device: Device,
    ) -> Result<Self> {
        let config = &run.train;
        tch::manual_seed(config.seed as i64);
        let vs = nn::VarStore::new(device);
        let model = Model::new(&vs.root(), &run.model)?;
        let weights = optim::parameters(&vs);
        let adam = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        Ok(Self {
            optimiser: AdamW::new(&weights, adam),
            ema: (config.ema_decay > 0.).then(|| Ema::new(&weights, config.ema_decay)),
            about: About::new(run, dataset),
            run,
            folder,
            dataset,
            device,
            model,
            weights,
        })
    }

    /// Takes up the last save, if there is one.
    fn restore(&mut self, report: &mut dyn FnMut(Report)) -> Result<bool> {
        let path = self.folder.file(LAST);
        if !path.exists() {
            return Ok(false);
        }
        let checkpoint = Checkpoint::load(&path)?;
        let about = About::read(&checkpoint, &path)?;
        ensure!(
            about.data_hash == self.about.data_hash,
            "{}: was trained on other data: {}, now {}",
            path.display(),
            about.protocol,
            self.about.protocol
        );
        let (then, now) = (&about.run.train, &self.run.train);
        for (what, then, now) in [
            ("threads", then.threads.to_string(), now.threads.to_string()),
            ("precision", then.precision.to_string(), now.precision.to_string()),
            ("device", then.device.to_string(), now.device.to_string()),
        ] {
            if then != now {
                report(Report::Warning(format!(
                    "{what} was {then}, is {now}: the bits will differ from an unbroken run"
                )));
            }
        }
        checkpoint.copy_into(&path, "raw.", &self.weights)?;
        checkpoint.copy_into(&path, "adam.", &self.optimiser.state())?;
        if let Some(ema) = &self.ema {
            checkpoint.copy_into(&path, "ema.", ema.tensors())?;
        }
        self.about = About { run: self.run.clone(), ..about };
        Ok(true)
    }

    /// One optimiser step; returns loss in nats per image and norm of the gradient.
    fn step(&mut self, epoch: &Epoch<'_>, step: u64, rate: f64) -> Result<(f64, f64)> {
        let config = &self.run.train;
        let rows = epoch.batch(self.run, step);
        self.model.use_order(step - 1);
        self.optimiser.zero_grad();
        let mut loss = 0.;
        for (part, rows) in rows.chunks(rows.len().div_ceil(config.micro_batches)).enumerate() {
            // dropout depends on the step, not on what happened since the process started
            let seed = random::uniform_at(config.seed, "dropout", step, part as u64);
            tch::manual_seed((seed * (1u64 << 53) as f64) as i64);
            let xs = evaluate::batch(&epoch.images, rows, self.device);
            let context = evaluate::context(&self.model, &epoch.images, rows);
            let share = rows.len() as f64 / config.batch_size as f64;
            let autocast = config.precision.autocast(self.device);
            let nats = self.model.loss(&xs, &context) * share;
            drop(autocast);
            nats.backward();
            loss += nats.double_value(&[]);
        }
        ensure!(
            loss.is_finite(),
            "the loss is {loss} at step {step}; the last good state is {}; try a lower learning rate (now {rate})",
            self.last_good()
        );
        let limit = if config.clip_norm > 0. { config.clip_norm } else { f64::INFINITY };
        let norm = self.optimiser.clip(limit);
        self.optimiser.step(rate);
        if let Some(ema) = &mut self.ema {
            ema.update(step);
        }
        Ok((loss, norm))
    }

    fn last_good(&self) -> String {
        let path = self.folder.file(LAST);
        if path.exists() {
            format!("{} (step {})", path.display(), self.about.step)
        } else {
            "none yet".into()
        }
    }

    /// Validation by the averaged weights, on the first `limit` images (0: all).
    fn validate(&mut self, limit: usize) -> Likelihood {
        let all = &self.dataset.valid;
        let images = match limit {
            0 => Cow::Borrowed(all),
            _ => Cow::Owned(all.select(&(0..limit.min(all.len())).collect::<Vec<_>>())),
        };
        self.swap();
        self.model.use_order(0);
        let tally = evaluate::nats(&self.model, &images, self.device, &mut |_| {});
        self.swap();
        tally.likelihood(all.dims())
    }

    fn draw(&mut self, step: u64) -> Result<()> {
        self.swap();
        let drawn = pictures::draw(&self.model, self.folder, step, self.run.train.num_samples);
        self.swap();
        drawn
    }

    fn swap(&mut self) {
        if let Some(ema) = &mut self.ema {
            ema.swap();
        }
    }

    /// A loss below what is possible means that the model sees what it predicts.
    fn warn_of_a_leak(&self, valid: &Likelihood, report: &mut dyn FnMut(Report)) {
        if let Some(floor) = self.dataset.entropy_nats
            && valid.nats + 4. * valid.nats_se < floor
        {
            report(Report::Warning(format!(
                "validation is at {:.3} nats per image, below the data's entropy of {floor:.3}: does the model see what it predicts?",
                valid.nats
            )));
        }
    }

    /// Writes the last state, and the best if it is the best.
    fn save(&mut self, step: u64, valid: &Likelihood) -> Result<bool> {
        let is_best = self.about.valid_nats.is_none_or(|best| valid.nats < best);
        self.about.step = step;
        if is_best {
            self.about.valid_nats = Some(valid.nats);
        }
        let mut checkpoint = Checkpoint::default();
        self.about.write(&mut checkpoint)?;
        checkpoint.insert_weights(&self.weights, self.ema.as_ref().map(Ema::tensors));
        if is_best {
            checkpoint.save(&self.folder.file(MODEL)).context("saving the best model")?;
        }
        checkpoint.insert("adam.", &self.optimiser.state());
        checkpoint.save(&self.folder.file(LAST)).context("saving the state")?;
        Ok(is_best)
    }
}

/// Refuses data that the model cannot hold.
fn ensure_trainable(run: &Run, dataset: &Dataset) -> Result<()> {
    let levels = dataset.train.levels.view();
    evaluate::ensure_fits(&run.model, levels, dataset.num_levels, &dataset.name)?;
    let classes = run.model.classes();
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
