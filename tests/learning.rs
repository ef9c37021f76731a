//! What training must come to where the answer is known.

use std::{f64::consts::LN_2, fs, path::Path};

use crate::{succeed, text};

fn last(out: &Path, field: &str) -> f64 {
    let metrics = fs::read_to_string(out.join("metrics.jsonl")).expect("a run has metrics");
    let mut values = metrics.lines().rev().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line[field].as_f64()
    });
    values.next().expect("the field was reported")
}

fn train(out: &Path, more: &[&str]) {
    let common = [
        "train",
        "--threads",
        "1",
        "--num-samples",
        "0",
        "--quiet",
        "--out",
        text(out),
        "--ema-decay",
        "0",
    ];
    succeed(&[&common[..], more].concat());
}

#[test]
fn before_training_every_level_is_equally_likely() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let config = [
        "--preset",
        "gated",
        "--set",
        "model.channels=4",
        "--num-steps",
        "1",
        "--learning-rate",
        "1e-12",
    ];
    train(&out, &[&config[..], &["--report-every", "1", "--limit", "8"]].concat());
    assert!((last(&out, "train_bits_per_dim") - 17f64.log2()).abs() < 1e-5);
}

#[test]
fn noise_stays_at_the_entropy_of_noise() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let config = [
        "--preset",
        "gated",
        "--set",
        "model.channels=8",
        "--data",
        "noise",
        "--levels",
        "4",
        "--side",
        "6",
    ];
    train(
        &out,
        &[&config[..], &["--num-steps", "150", "--batch-size", "32", "--save-every", "150"]]
            .concat(),
    );
    let (nats, se) = (last(&out, "valid_nats"), last(&out, "valid_nats_se"));
    let entropy = 36. * 4f64.ln();
    assert!(nats > entropy - 4. * se && nats < entropy * 1.03, "{nats} +- {se}, entropy {entropy}");
}

#[test]
fn a_texture_is_learnt_to_near_its_entropy_and_not_below() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let config =
        ["--preset", "gated", "--set", "model.channels=12", "--data", "ising", "--side", "8"];
    train(
        &out,
        &[
            &config[..],
            &[
                "--num-steps",
                "400",
                "--batch-size",
                "32",
                "--save-every",
                "400",
                "--learning-rate",
                "4e-3",
            ],
        ]
        .concat(),
    );
    let (nats, se) = (last(&out, "valid_nats"), last(&out, "valid_nats_se"));
    let entropy = 29.394; // exact, by summing over the states of the last row
    assert!(nats > entropy - 4. * se && nats < entropy * 1.08, "{nats} +- {se}, entropy {entropy}");
}

#[test]
fn one_image_is_learnt_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let (out, npy) = (folder.path().join("run"), folder.path().join("one.npy"));
    let image =
        ndarray::Array4::from_shape_fn((100, 4, 4, 1), |(_, y, x, _)| ((5 * y + 3 * x) % 4) as u16);
    pixelcnn::data::write_npy(&npy, image.view()).unwrap();
    let config =
        ["--preset", "simple", "--set", "model.channels=16", "--data", text(&npy), "--levels", "4"];
    train(
        &out,
        &[&config[..], &["--num-steps", "150", "--batch-size", "2", "--learning-rate", "1e-2"]]
            .concat(),
    );
    let bits = last(&out, "train_nats") / LN_2;
    assert!(bits < 0.2, "{bits} bits for the image");
}
