//! What training must come to where the answer is known.

use std::{f64::consts::LN_2, fs};

use crate::{succeed, text};

/// A run of its own folder, with the flags of `line`; returns its metrics.
fn train(line: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let common = "train --threads 1 --num-samples 0 --ema-decay 0 --quiet --out";
    let args: Vec<&str> =
        common.split(' ').chain([text(&out)]).chain(line.split_whitespace()).collect();
    succeed(&args);
    fs::read_to_string(out.join("metrics.jsonl")).expect("a run has metrics")
}

/// The last value of a metric.
fn last(metrics: &str, field: &str) -> f64 {
    let mut values = metrics.lines().rev().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line[field].as_f64()
    });
    values.next().expect("the field was reported")
}

/// Validation ends at most `share` above the entropy, and not below it by more than four standard errors.
fn approaches(metrics: &str, entropy_nats: f64, share: f64) {
    let (nats, se) = (last(metrics, "valid_nats"), last(metrics, "valid_nats_se"));
    let holds = nats > entropy_nats - 4. * se && nats < entropy_nats * (1. + share);
    assert!(holds, "{nats} +- {se}, entropy {entropy_nats}");
}

#[test]
fn before_training_every_level_is_equally_likely() {
    let metrics = train(
        "--preset gated --set model.channels=4 --num-steps 1 --learning-rate 1e-12 --report-every 1 --limit 8",
    );
    assert!((last(&metrics, "train_bits_per_dim") - 17f64.log2()).abs() < 1e-5);
}

#[test]
fn noise_stays_at_the_entropy_of_noise() {
    let metrics = train(
        "--preset gated --set model.channels=8 --data noise --levels 4 --side 6 --num-steps 150 --batch-size 32",
    );
    approaches(&metrics, 36. * 4f64.ln(), 0.03);
}

#[test]
fn a_texture_is_learnt_to_near_its_entropy_and_not_below() {
    let metrics = train(
        "--preset gated --set model.channels=12 --data ising --side 8 --num-steps 400 --batch-size 32 --learning-rate 4e-3",
    );
    approaches(&metrics, 29.394, 0.08); // exact, by summing over the states of the last row
}

#[test]
fn one_image_is_learnt_by_heart() {
    let folder = tempfile::tempdir().expect("a folder");
    let npy = folder.path().join("one.npy");
    let image =
        ndarray::Array4::from_shape_fn((100, 4, 4, 1), |(_, y, x, _)| ((5 * y + 3 * x) % 4) as u16);
    pixelcnn::data::write_npy(&npy, image.view()).expect("an array is written");
    let metrics = train(&format!(
        "--preset simple --set model.channels=16 --data {} --levels 4 --num-steps 150 --batch-size 2 --learning-rate 1e-2",
        npy.display()
    ));
    let bits = last(&metrics, "train_nats") / LN_2;
    assert!(bits < 0.2, "{bits} bits for the image");
}
