//! The first stage, written out: reconstruction and commitment by AdamW, codebooks by running means.

use anyhow::{Result, ensure};
use core_layers::{
    dataset::{Batches, order},
    quantise::{self, perplexity, usage},
    run::{Metrics, RunFolder},
    training::{Ending, Report, TrainState, Window},
};
use ndarray::Axis;
use pixelcnn::{
    data::{DataConfig, Dataset, Images},
    trained::about,
};
use tch::{Device, Tensor, nn};

use super::pictures;
use crate::{
    config::{AutoencoderRun, Reconstruction, VqVaeConfig},
    evaluate::{self, Reconstructed, image_batch, mean},
    model::{Autoencoder, Latent},
};

/// Steps between two looks for codes that nobody uses.
const RESTART_EVERY: u64 = 50;
/// The last step before which the codes are placed by k-means.
const LAST_PLACING: u64 = 1024;
/// Images that the codes are placed by.
const START_IMAGES: usize = 128;
/// Share of codes below which a codebook counts as collapsed.
const COLLAPSED: f64 = 0.1;

/// The first stage between two steps.
struct State<'r> {
    run: &'r AutoencoderRun,
    dataset: &'r Dataset,
    device: Device,
    model: Autoencoder,
    weights: TrainState<'r, VqVaeConfig, DataConfig>,
    restarts: usize, // since the last report
}

/// What one step came to.
struct Step {
    reconstruction: f64,
    quantisation: f64,
    norm: f64,
    perplexities: Vec<f64>,
}

/// Trains the autoencoder of `run` in `folder`, from its last save if there is one. `stop` is asked after each step.
///
/// Everything random is a function of (seed, step): a run that was interrupted and resumed has the bits of one that was
/// not.
///
/// # Errors
/// A configuration that does not fit the images, a loss that is not a number, a full disk: the last save stays.
pub fn train_autoencoder(
    run: &AutoencoderRun,
    dataset: &Dataset,
    folder: &RunFolder,
    stop: &dyn Fn() -> bool,
    report: &mut dyn FnMut(Report),
) -> Result<Ending> {
    run.validate()?;
    let config = &run.train;
    let device = config.open()?;
    ensure_fits(&run.model, dataset)?;
    let mut state = State::new(run, dataset, folder, device)?;
    state.weights.begin(report)?;
    let first = state.weights.about().step + 1;
    if first == 1 {
        state.model.set_variance(variance(&dataset.train, run.model.levels));
    }
    let mut metrics = Metrics::open(folder, first - 1)?;
    let mut batches = Batches::new(config.seed, dataset.train.len(), config.batch_size);
    let mut since = Window::default();
    let unit = run.model.reconstruction.unit();
    for step in first..=config.num_steps {
        let rate = config.rate(step);
        if is_estimated(step) {
            state.estimate(step);
        }
        let done = state.step(&batches.rows(step), step, rate)?;
        since.add(done.reconstruction, done.norm, config.batch_size);
        if step.is_multiple_of(config.report_every) {
            let mut values = vec![
                ("train_reconstruction", since.mean_loss()),
                ("train_quantisation", done.quantisation),
                ("learning_rate", rate),
                ("gradient_norm", since.last_norm()),
                ("restarted_codes", state.restarts as f64),
                ("images_per_second", since.rate()),
            ];
            let names: Vec<String> =
                (0..done.perplexities.len()).map(|it| format!("train_perplexity_{it}")).collect();
            values.extend(names.iter().map(String::as_str).zip(done.perplexities));
            metrics.report(step, &values)?;
            report(Report::Text { step, text: format!("train {:.4} {unit}", since.mean_loss()) });
            state.restarts = 0;
            since = Window::default();
        }
        let stopped = stop();
        if step.is_multiple_of(config.save_every) || step == config.num_steps || stopped {
            let valid = state.validate(config.eval_examples, folder, step)?;
            let loss = mean(&valid.losses);
            let uses = valid.usage(&run.model);
            let mut values = vec![("valid_reconstruction", loss), ("valid_psnr", valid.psnr())];
            let names: Vec<[String; 2]> = (0..uses.len())
                .map(|it| [format!("valid_perplexity_{it}"), format!("valid_used_{it}")])
                .collect();
            for ([perplexity, used], usage) in names.iter().zip(&uses) {
                values
                    .extend([(perplexity.as_str(), usage.perplexity), (used.as_str(), usage.used)]);
            }
            metrics.report(step, &values)?;
            metrics.sync()?;
            for usage in uses.iter().filter(|usage| usage.used < COLLAPSED) {
                report(Report::Warning(collapsed(usage)));
            }
            state.weights.save(step, loss * run.model.dims() as f64)?;
            let text = format!("valid {loss:.4} {unit}, {:.2} dB", valid.psnr());
            report(Report::Text { step, text });
            since = Window::default();
        }
        if stopped && step < config.num_steps {
            return Ok(Ending::Stopped { step });
        }
    }
    Ok(Ending::Finished)
}

/// Whether the codes are placed anew before a step: at powers of two up to [`LAST_PLACING`], however many steps there will
/// be, so that a longer run goes on where a shorter one ended.
///
/// An encoder moves fastest at first, far faster than running means follow: a few of the codes that were placed by what it
/// said untrained catch everything, and the decoder learns to do without the others. So the codes are placed again while
/// it moves, as in Lancucki et al., "Robust Training of Vector Quantized Bottleneck Models", 2020,
/// <https://arxiv.org/abs/2005.08520>.
///
/// Differs: at steps that lie further and further apart, and from one batch instead of a reservoir.
const fn is_estimated(step: u64) -> bool {
    step.is_power_of_two() && step <= LAST_PLACING
}

fn collapsed(usage: &evaluate::Usage) -> String {
    let (h, w) = usage.size;
    format!(
        "the {h} x {w} codes use {:.0} % of their codebook (perplexity {:.1}): try a lower model.quantiser.beta, a lower \
         learning rate, or a higher model.quantiser.restart_below",
        100. * usage.used,
        usage.perplexity
    )
}

impl Reconstruction {
    /// What its loss is counted in.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Gaussian => "of the variance",
            Self::Softmax => "nats/dim",
        }
    }
}

impl<'r> State<'r> {
    fn new(
        run: &'r AutoencoderRun,
        dataset: &'r Dataset,
        folder: &'r RunFolder,
        device: Device,
    ) -> Result<Self> {
        tch::manual_seed(run.train.seed as i64);
        let vs = nn::VarStore::new(device);
        let model = Autoencoder::new(&vs.root(), &run.model)?;
        let weights = TrainState::new(folder, &vs, about(run, dataset));
        Ok(Self { run, dataset, device, model, weights, restarts: 0 })
    }

    /// Places the codes by k-means where the encoders' vectors are before step `step`.
    fn estimate(&self, step: u64) {
        let seed = self.run.train.seed;
        let mut rows = order(seed, step - 1, self.dataset.train.len());
        rows.truncate(START_IMAGES);
        let levels = image_batch(&self.dataset.train, &rows, self.device);
        self.model.start_codebooks(&self.model.inputs(&levels), seed);
    }

    /// One optimiser step, and one of the codebooks, on the images `rows`.
    fn step(&mut self, rows: &[usize], step: u64, rate: f64) -> Result<Step> {
        let config = &self.run.train;
        self.weights.zero_grad();
        let (mut reconstruction, mut quantisation) = (0., 0.);
        let mut latents: Vec<Vec<Latent>> = Vec::new();
        for rows in rows.chunks(rows.len().div_ceil(config.micro_batches)) {
            let levels = image_batch(&self.dataset.train, rows, self.device);
            let share = rows.len() as f64 / config.batch_size as f64;
            let autocast = config.precision.autocast(self.device);
            let (losses, found) = self.model.losses(&levels);
            drop(autocast);
            let loss = (&losses.reconstruction + &losses.quantisation) * share;
            loss.backward();
            reconstruction += losses.reconstruction.double_value(&[]) * share;
            quantisation += losses.quantisation.double_value(&[]) * share;
            latents.push(found);
        }
        let norm = self.weights.step(step, rate, reconstruction + quantisation)?;
        Ok(Step { reconstruction, quantisation, norm, perplexities: self.follow(&latents, step) })
    }

    /// Moves the codebooks after the vectors that chose them; returns the perplexity of each level in the batch.
    fn follow(&mut self, latents: &[Vec<Latent>], step: u64) -> Vec<f64> {
        let config = &self.run.train;
        let mut perplexities = Vec::new();
        for (level, quantiser) in self.model.quantisers().enumerate() {
            let all = |part: fn(&Latent) -> Tensor| {
                Tensor::cat(&latents.iter().map(|it| part(&it[level])).collect::<Vec<_>>(), 0)
            };
            let inputs = all(|it| it.inputs.shallow_clone());
            let codes = all(|it| quantise::rows(&it.quantised.codes));
            quantiser.update(&inputs, &codes);
            if step.is_multiple_of(RESTART_EVERY) && step < config.num_steps {
                self.restarts += quantiser.restart(&inputs, config.seed, step);
            }
            if step.is_multiple_of(config.report_every) {
                let flat = codes.select(1, 0).to_device(Device::Cpu);
                let flat = Vec::<i64>::try_from(flat).expect("a flat int64 tensor is a vector");
                let counts =
                    usage(flat.iter().map(|&it| it as u32), quantiser.config().codes as usize);
                perplexities.push(perplexity(&counts));
            }
        }
        perplexities
    }

    /// Validation by the weights that evaluation uses, on the first `limit` images (0: all), with a picture.
    fn validate(&mut self, limit: usize, folder: &RunFolder, step: u64) -> Result<Reconstructed> {
        let all = &self.dataset.valid;
        let count = if limit == 0 { all.len() } else { limit.min(all.len()) };
        let images = all.select(&(0..count).collect::<Vec<_>>());
        self.weights.swap();
        let done = evaluate::reconstruct(&self.model, &images, self.device, &mut |_| {});
        self.weights.swap();
        let shown = self.run.train.num_samples.min(count);
        pictures::reconstructions(folder, step, &images, &done, self.dataset.num_levels, shown)?;
        Ok(done)
    }
}

/// Variance of all values, levels spread over `[-1/2, 1/2]`.
fn variance(images: &Images, levels: i64) -> f64 {
    let top = (levels - 1) as f64;
    let values = || images.levels.iter().map(|&level| f64::from(level) / top);
    let count = images.levels.len() as f64;
    let mean = values().sum::<f64>() / count;
    (values().map(|x| (x - mean).powi(2)).sum::<f64>() / count).max(1e-12)
}

/// Refuses images that the model cannot hold.
fn ensure_fits(model: &VqVaeConfig, dataset: &Dataset) -> Result<()> {
    let levels = &dataset.train.levels;
    let found = [1, 2, 3].map(|axis| levels.len_of(Axis(axis)) as i64);
    let wanted = [model.height, model.width, model.colours];
    ensure!(
        found == wanted && i64::from(dataset.num_levels) == model.levels,
        "{}: images are {found:?} (height, width, colours) of {} levels, the model's {wanted:?} of {}",
        dataset.name,
        dataset.num_levels,
        model.levels
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use core_layers::run::METRICS;

    use super::*;
    use crate::config::preset;

    #[test]
    fn codes_are_placed_at_powers_of_two_for_a_while() {
        let found: Vec<u64> = (1..=9999).filter(|&step| is_estimated(step)).collect();
        assert_eq!(found, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]);
    }

    #[test]
    fn a_codebook_that_is_hardly_used_is_warned_of_with_what_to_try() -> Result<()> {
        let mut pipeline = preset("demo").expect("the demo's preset");
        pipeline.model.quantiser.codes = 512;
        pipeline.data.limit = 40;
        let train = &mut pipeline.train;
        (train.num_steps, train.eval_examples, train.threads) = (1, 2, 1); // 32 codes at the most
        let dataset = pixelcnn::data::load(&pipeline.data)?;
        let place = tempfile::tempdir()?;
        let folder = RunFolder::create(&place.path().join("run"), false)?;
        let mut said = Vec::new();
        let mut report = |it| said.push(format!("{it:?}"));
        train_autoencoder(&pipeline.autoencoder(), &dataset, &folder, &|| false, &mut report)?;
        let said = said.join("\n");
        assert!(said.contains("the 4 x 4 codes use "), "{said}");
        assert!(said.contains("try a lower model.quantiser.beta"), "{said}");
        Ok(())
    }

    #[test]
    fn codes_of_all_levels_follow_an_encoder_that_moves() -> Result<()> {
        let mut pipeline = preset("demo").expect("the demo's preset");
        pipeline.model.factors = vec![2, 2];
        pipeline.model.reconstruction = Reconstruction::Gaussian;
        let train = &mut pipeline.train;
        (train.num_steps, train.save_every, train.num_samples) = (200, 200, 0);
        train.threads = 1;
        let dataset = pixelcnn::data::load(&pipeline.data)?;
        let place = tempfile::tempdir()?;
        let folder = RunFolder::create(&place.path().join("run"), false)?;
        train_autoencoder(&pipeline.autoencoder(), &dataset, &folder, &|| false, &mut |_| {})?;
        let metrics = std::fs::read_to_string(folder.file(METRICS))?;
        let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap())?;
        for name in ["valid_perplexity_0", "valid_perplexity_1"] {
            let perplexity = last[name].as_f64().unwrap();
            assert!(perplexity > 16., "{name} of 32 codes: {perplexity} in {last}");
        }
        Ok(())
    }
}
