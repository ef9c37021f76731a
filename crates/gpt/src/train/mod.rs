//! The training loop: maximum likelihood by AdamW, written out.

mod adapters;
mod learner;
mod prose;
#[cfg(test)]
pub(crate) mod tests;

use std::f64::consts::LN_2;

use anyhow::Result;
use core_layers::{
    ConfigError,
    dataset::{Batches, Split},
    run::{LAST, Metrics, RunFolder},
    training::{Ending, Report, Window as Means, matmul_peak},
};

pub use adapters::Adapters;
pub use learner::Origin;

use self::learner::Learner;
use crate::{
    config::Run,
    data::{Dataset, Training},
    evaluate::{self, Documents as _, Score},
    model::Decoder,
    text::Tokenizer,
    trained,
};

/// Trains `run` in `folder`, from its last save if there is one, else from `origin` or, without, from the seed. `stop` is
/// asked after each step.
///
/// Everything random is a function of (seed, step), so a run that was interrupted at any moment and resumed has the bits
/// of one that was not, on the same kind of processor with the same threads and precision.
///
/// # Errors
/// A configuration that cannot be trained, data that changed, a loss that is not a number, a full disk: the last save
/// stays.
pub fn train(
    run: &Run,
    origin: Option<&Origin>,
    folder: &RunFolder,
    stop: &dyn Fn() -> bool,
    report: &mut dyn FnMut(Report),
) -> Result<Ending> {
    run.validate()?;
    let config = &run.train;
    let device = config.open()?;
    let origin = Origin::of(folder, origin)?;
    let dataset = origin.dataset(&run.data)?;
    ensure_trainable(run, &dataset, &origin)?;
    let mut learner = Learner::new(run, &origin, device)?;
    let mut state = learner
        .state(folder, trained::about(run, &dataset))
        .saying(trained::TOKENIZER, dataset.tokenizer.to_json());
    if let Some(prompt) = &origin.prompt {
        state = state.saying(trained::PROMPT, prompt.clone());
    }
    if let Some(lora) = &origin.lora {
        state = state.saying(trained::LORA, serde_json::to_string(lora)?);
    }
    if origin.weights.is_some() && !folder.file(LAST).exists() {
        state.save_start(&learner.weights())?;
    }
    state.begin(report)?;
    let mut metrics = Metrics::open(folder, state.about().step)?;
    let peak = matmul_peak(device, config.precision);
    let work = run.model.describe().training_flops_per_token;
    let context = window(run);
    let windows = Training::new(&dataset.train, context, config.seed);
    let mut batches = Batches::new(config.seed, windows.count(), config.batch_size);
    let (mut means, mut bytes) = (Means::default(), 0);
    for step in state.about().step + 1..=config.num_steps {
        let rate = config.rate(step);
        let mut tokens = Vec::with_capacity(config.batch_size * (context + 1));
        for row in batches.rows(step) {
            windows.window(batches.epoch(step), row, &mut tokens);
        }
        state.zero_grad();
        let nats = learner.backward(config, &tokens, context, step);
        let norm = state.step(step, rate, nats)?;
        means.add(nats, norm, config.batch_size * context);
        bytes += bytes_of(&tokens, context, &dataset.tokenizer);
        if step % config.report_every == 0 {
            let figures = figures(&means, bytes, rate, work / peak);
            metrics.report(step, &figures)?;
            report(Report::Text { step, text: said(&figures, &learner.best()) });
            (means, bytes) = (Means::default(), 0);
        }
        let stopped = stop();
        if step % config.save_every == 0 || step == config.num_steps || stopped {
            state.swap();
            learner.rest();
            let valid = validate(run, learner.decoder(), &dataset);
            let prose = prose::write(run, learner.decoder(), &dataset, folder, step);
            let merged = learner.weights();
            state.swap();
            prose?;
            let (nats, bits) = (valid.nats_per_token(), valid.bits_per_byte());
            metrics.report(
                step,
                &[
                    ("valid_nats_per_token", nats),
                    ("valid_nats_per_token_se", valid.nats_per_token_se().unwrap_or(f64::NAN)),
                    ("valid_bits_per_byte", bits),
                ],
            )?;
            metrics.sync()?;
            let is_best = if learner.adapts() {
                state.save_merged(step, nats, &merged)?
            } else {
                state.save(step, nats)?
            };
            if is_best {
                learner.found(bits);
            }
            let text = format!("valid {nats:.3} nats/token, {bits:.3} bits/byte");
            report(Report::Text { step, text });
            (means, bytes) = (Means::default(), 0);
        }
        if stopped && step < config.num_steps {
            return Ok(Ending::Stopped { step });
        }
    }
    Ok(Ending::Finished)
}

/// What is reported of the steps since the last report, in `bytes` of text; `share` is that of the peak a token a second.
fn figures(means: &Means, bytes: usize, rate: f64, share: f64) -> [(&'static str, f64); 6] {
    let nats = means.mean_loss();
    [
        ("train_nats_per_token", nats),
        ("train_bits_per_byte", nats / LN_2 * means.examples() as f64 / bytes as f64),
        ("learning_rate", rate),
        ("gradient_norm", means.last_norm()),
        ("tokens_per_second", means.rate()),
        ("share_of_matmul_peak", means.rate() * share),
    ]
}

/// The same in one short line.
fn said(figures: &[(&str, f64); 6], best: &str) -> String {
    let [nats, bits, .., speed, share] = figures.map(|it| it.1);
    let share = 100. * share;
    format!(
        "train {nats:.3} nats/token, {bits:.3} bits/byte{best}, {speed:.0} tokens/s ({share:.0} % of peak)"
    )
}

/// Tokens of a training window.
fn window(run: &Run) -> usize {
    let context = run.model.context as usize;
    if run.data.window == 0 { context } else { run.data.window }
}

/// Bytes of text that the predictions in windows of `context + 1` tokens stand for.
fn bytes_of(tokens: &[i64], context: usize, tokenizer: &Tokenizer) -> usize {
    let predicted = tokens.chunks(context + 1).flat_map(|window| &window[1..]);
    predicted.map(|&token| tokenizer.spelling(token as u32).len()).sum()
}

/// Validation by the weights in use, on the first windows (0: all), side by side.
fn validate(run: &Run, decoder: &Decoder, dataset: &Dataset) -> Score {
    let context = window(run);
    let mut windows = evaluate::windows(&dataset.valid.lengths(), context, context);
    if run.train.eval_examples > 0 {
        windows.truncate(run.train.eval_examples);
    }
    evaluate::score(decoder, &dataset.tokenizer, &dataset.valid, &windows, &mut |_| {})
}

/// Refuses data that the decoder cannot hold or learn from, and averages beside adapters.
fn ensure_trainable(run: &Run, dataset: &Dataset, origin: &Origin) -> Result<()> {
    Split::ALL.into_iter().try_for_each(|split| dataset.ensure_split(split))?;
    let (needed, found) = (dataset.tokenizer.vocabulary() as i64, run.model.vocabulary);
    let rule = format!("at least {needed}, the tokens of {}", dataset.name);
    ConfigError::ensure(found >= needed, "model.vocabulary", found, &rule)?;
    let (given, context) = (window(run), run.model.context);
    let rule = format!("at most {context}, the model's context");
    ConfigError::ensure(given as i64 <= context, "data.window", given, &rule)?;
    let averages = run.train.ema_decay > 0. && origin.lora.is_some();
    let rule = "0 where adapters are trained";
    Ok(ConfigError::ensure(!averages, "train.ema_decay", run.train.ema_decay, rule)?)
}
