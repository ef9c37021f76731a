//! The training loop: maximum likelihood by AdamW, written out.

mod sounds;

use std::f64::consts::LN_2;

use anyhow::Result;
use core_layers::{
    dataset::{Batches, Split},
    device::keep_memory,
    likelihood::Likelihood,
    run::{Metrics, RunFolder},
    training::{Ending, Report, TrainState, Window as Means, reseed},
};
use tch::{Device, nn};

use crate::{
    config::Run,
    data::{self, Clip, Dataset, Window, windows},
    evaluate::{self, Batch},
    model::WaveNet,
    trained,
};

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
    let device = config.open()?;
    keep_memory();
    let dataset = data::load(&run.data)?;
    ensure_trainable(run, &dataset)?;
    tch::manual_seed(config.seed as i64);
    let vs = nn::VarStore::new(device);
    let model = WaveNet::new(&vs.root(), &run.model)?;
    let mut state = TrainState::new(folder, &vs, trained::about(run, &dataset));
    state.begin(report)?;
    let mut metrics = Metrics::open(folder, state.about().step)?;
    let lengths: Vec<usize> = dataset.train.iter().map(|clip| clip.levels.len()).collect();
    let field = run.model.receptive_field() as usize;
    let windows = windows(&lengths, run.data.window as usize, field, run.model.hop as usize);
    let mut batches = Batches::new(config.seed, windows.len(), config.batch_size);
    let mut means = Means::default();
    for step in state.about().step + 1..=config.num_steps {
        let rate = config.rate(step);
        let rows: Vec<Window> = batches.rows(step).iter().map(|&row| windows[row]).collect();
        state.zero_grad();
        let (nats, samples) = backward(run, &model, &dataset.train, &rows, step, device);
        let norm = state.step(step, rate, nats)?;
        means.add(nats, norm, samples);
        if step % config.report_every == 0 {
            let bits_per_dim = means.mean_loss() / LN_2;
            metrics.report(
                step,
                &[
                    ("train_nats_per_sample", means.mean_loss()),
                    ("train_bits_per_dim", bits_per_dim),
                    ("learning_rate", rate),
                    ("gradient_norm", means.last_norm()),
                    ("samples_per_second", means.rate()),
                ],
            )?;
            report(Report::Step { step, bits_per_dim });
            means = Means::default();
        }
        let stopped = stop();
        if step % config.save_every == 0 || step == config.num_steps || stopped {
            state.swap();
            let valid = validate(run, &model, &dataset, device);
            state.swap();
            metrics.report(
                step,
                &[
                    ("valid_nats", valid.nats),
                    ("valid_nats_se", valid.nats_se.unwrap_or(f64::NAN)),
                    ("valid_bits_per_dim", valid.bits_per_dim),
                ],
            )?;
            metrics.sync()?;
            if let Some(warning) = dataset.entropy_nats.and_then(|nats| Report::leak(&valid, nats))
            {
                report(warning);
            }
            let is_best = state.save(step, valid.nats)?;
            state.swap();
            let drawn = sounds::draw(run, &model, &dataset, folder, step);
            state.swap();
            drawn?;
            report(Report::Saved { step, valid, is_best });
            means = Means::default();
        }
        if stopped && step < config.num_steps {
            return Ok(Ending::Stopped { step });
        }
    }
    Ok(Ending::Finished)
}

/// Adds the gradients of a batch; returns its loss in nats per sample, and the samples that it counts.
fn backward(
    run: &Run,
    model: &WaveNet,
    clips: &[Clip],
    rows: &[Window],
    step: u64,
    device: Device,
) -> (f64, usize) {
    let config = &run.train;
    let samples: usize = rows.iter().map(|it| it.to - it.from).sum();
    let mut loss = 0.;
    for (part, rows) in rows.chunks(rows.len().div_ceil(config.micro_batches)).enumerate() {
        reseed(config.seed, step, part);
        let batch = Batch::new(clips, rows, &run.model, device);
        let autocast = config.precision.autocast(device);
        let nats = batch.nats(model, true);
        drop(autocast);
        let nats = nats.sum(tch::Kind::Float) / samples as f64;
        nats.backward();
        loss += nats.double_value(&[]);
    }
    (loss, samples)
}

/// Validation by the weights in use, on the first clips (0: all).
fn validate(run: &Run, model: &WaveNet, dataset: &Dataset, device: Device) -> Likelihood {
    let all = dataset.valid.as_slice();
    let count = if run.train.eval_examples == 0 {
        all.len()
    } else {
        run.train.eval_examples.min(all.len())
    };
    let clips = &all[..count];
    let dims: Vec<usize> = clips.iter().map(|clip| clip.levels.len()).collect();
    evaluate::nats(model, clips, device, &mut |_| {}).likelihood_of(&dims)
}

/// Refuses data that the network cannot hold.
fn ensure_trainable(run: &Run, dataset: &Dataset) -> Result<()> {
    evaluate::ensure_fits(&run.model, dataset)?;
    Split::ALL.into_iter().try_for_each(|split| dataset.ensure_split(split))
}
