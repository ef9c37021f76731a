//! A classifier of the run's images: cross entropy by AdamW.

use anyhow::{Result, ensure};
use core_layers::{
    dataset::Batches,
    run::{Metrics, RunFolder},
    training::{self, Ending, Report, TrainConfig, TrainState, Window, reseed},
};
use ndarray::Axis;
use pixelcnn::{
    data::{DataConfig, Dataset, Images},
    trained::about,
};
use tch::{Device, Kind, Tensor, nn};

use crate::{
    evaluate::image_batch,
    model::{Classifier, ClassifierConfig},
};

/// Trains a classifier on the labels of `dataset` in `folder`, from its last save if there is one.
///
/// # Errors
/// Images without labels, a loss that is not a number, a full disk: the last save stays.
pub fn train_classifier(
    data: &DataConfig,
    train: &TrainConfig,
    dataset: &Dataset,
    folder: &RunFolder,
    stop: &dyn Fn() -> bool,
    report: &mut dyn FnMut(Report),
) -> Result<Ending> {
    let device = train.open()?;
    ensure!(dataset.train.labels.is_some(), "{}: has no labels to classify by", dataset.name);
    let model = ClassifierConfig {
        colours: dataset.train.levels.len_of(Axis(3)) as i64,
        levels: i64::from(dataset.num_levels),
        classes: dataset.label_names.len() as i64,
        channels: 32,
    };
    let run = training::Run { model, data: data.clone(), train: train.clone() };
    tch::manual_seed(train.seed as i64);
    let vs = nn::VarStore::new(device);
    let classifier = Classifier::new(&vs.root(), &run.model)?;
    let mut weights = TrainState::new(folder, &vs, about(&run, dataset));
    weights.begin(report)?;
    let first = weights.about().step + 1;
    let mut metrics = Metrics::open(folder, first - 1)?;
    let mut batches = Batches::new(train.seed, dataset.train.len(), train.batch_size);
    let mut since = Window::default();
    for step in first..=train.num_steps {
        reseed(train.seed, step, 0);
        weights.zero_grad();
        let rows = batches.rows(step);
        let log_probs = classifier.log_probs(&image_batch(&dataset.train, &rows, device), true);
        let loss = -log_probs
            .gather(1, &labels(&dataset.train, &rows, device).unsqueeze(1), false)
            .mean(Kind::Float);
        loss.backward();
        let loss = loss.double_value(&[]);
        let norm = weights.step(step, train.rate(step), loss)?;
        since.add(loss, norm, rows.len());
        if step % train.report_every == 0 {
            metrics.report(step, &[("train_nats", since.mean_loss())])?;
            report(Report::Text { step, text: format!("train {:.4} nats", since.mean_loss()) });
            since = Window::default();
        }
        let stopped = stop();
        if step % train.save_every == 0 || step == train.num_steps || stopped {
            weights.swap();
            let (nats, accuracy) = judge(&classifier, &dataset.valid, device);
            weights.swap();
            metrics.report(step, &[("valid_nats", nats), ("valid_accuracy", accuracy)])?;
            metrics.sync()?;
            weights.save(step, nats)?;
            let text = format!("valid {nats:.4} nats, {:.1} % right", 100. * accuracy);
            report(Report::Text { step, text });
        }
        if stopped && step < train.num_steps {
            return Ok(Ending::Stopped { step });
        }
    }
    Ok(Ending::Finished)
}

fn labels(images: &Images, rows: &[usize], device: Device) -> Tensor {
    let all = images.labels.as_deref().unwrap_or_default();
    let labels: Vec<i64> = rows.iter().map(|&row| i64::from(all[row])).collect();
    Tensor::from_slice(&labels).to_device(device)
}

/// Mean nats of the labels, and the share of images whose label is the likeliest.
pub fn judge(classifier: &Classifier, images: &Images, device: Device) -> (f64, f64) {
    let all: Vec<usize> = (0..images.len()).collect();
    let (mut nats, mut right) = (0., 0.);
    for rows in all.chunks(256) {
        let levels = image_batch(images, rows, device);
        let labels = labels(images, rows, device);
        let log_probs = tch::no_grad(|| classifier.log_probs(&levels, false));
        nats -=
            log_probs.gather(1, &labels.unsqueeze(1), false).sum(Kind::Double).double_value(&[]);
        let hits = log_probs.argmax(1, false).eq_tensor(&labels);
        right += hits.sum(Kind::Double).double_value(&[]);
    }
    (nats / images.len() as f64, right / images.len() as f64)
}
