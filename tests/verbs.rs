//! What a user types and sees, on a checkpoint that version 1 wrote.

use std::fs;

use serde_json::Value;

use crate::{chainrule, fail, fixture, run, succeed, text};

fn json(args: &[&str]) -> Value {
    let printed = succeed(args);
    assert_eq!(printed.trim_end().lines().count(), 1, "one object: {printed}");
    serde_json::from_str(&printed).expect("one JSON object")
}

#[test]
fn gated_mnist_has_the_published_number_of_parameters() {
    let info = json(&["info", "--preset", "gated-mnist", "--json"]);
    assert_eq!(info["parameters"], 852_160);
    assert_eq!(info["live_parameters"], 622_272);
    assert_eq!(info["model"], "gated");
}

#[test]
fn every_preset_can_be_described() {
    let error = fail(&["info", "--preset", "x"], 2);
    let names = error.split("one of ").nth(1).expect("the presets are listed");
    for name in names.trim().split(", ") {
        assert!(
            json(&["info", "--preset", name, "--json"])["parameters"].as_u64() > Some(0),
            "{name}"
        );
    }
}

#[test]
fn evaluate_says_what_and_how() {
    let model = fixture("digits.safetensors");
    let report = json(&["evaluate", text(&model), "--json"]);
    for field in [
        "model",
        "dataset",
        "split",
        "examples",
        "dims",
        "nats",
        "nats_se",
        "bits_per_dim",
        "bound",
        "weights",
    ] {
        assert!(!report[field].is_null(), "{field}");
    }
    assert_eq!(report["examples"], 357);
    let bits = report["nats"].as_f64().unwrap() / (64. * std::f64::consts::LN_2);
    assert!((report["bits_per_dim"].as_f64().unwrap() - bits).abs() < 1e-9);
    assert!(bits < 2.2, "version 1 measured 2.0: {bits}");
}

#[test]
fn bf16_is_near_f32_or_refused() {
    let model = fixture("digits.safetensors");
    let evaluate =
        |precision| ["evaluate", text(&model), "--limit", "60", "--json", "--precision", precision];
    assert_eq!(run(&evaluate("fp16")).status.code(), Some(2));
    if !core_layers::autocast::cpu_has_bf16() {
        let line = fail(&evaluate("bf16"), 2);
        assert!(line.contains("precision is bf16, but must be f32"), "{line}");
        return;
    }
    let [f32, bf16] = ["f32", "bf16"].map(|it| json(&evaluate(it))["nats"].as_f64().unwrap());
    assert!(f32 != bf16 && (bf16 / f32 - 1.).abs() < 0.01, "{f32} {bf16}");
}

#[test]
fn a_class_conditional_model_classifies() {
    let report =
        json(&["classify", text(&fixture("digits.safetensors")), "--limit", "60", "--json"]);
    assert!(report["accuracy"].as_f64().unwrap() > 0.7, "{report}");
}

#[test]
fn a_file_of_version_1_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (model, file) = (fixture("digits.safetensors"), fixture("digits.chr"));
    succeed(&["decompress", text(&model), text(&file), "--out", text(folder.path()), "--quiet"]);
    let restored = fs::read(folder.path().join("images.npy")).unwrap();
    assert_eq!(restored, fs::read(fixture("digits.npy")).unwrap());
}

#[test]
fn a_seed_draws_the_same_images_in_every_variant_and_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("digits.safetensors");
    let wanted = fs::read(fixture("digits.npy")).unwrap();
    for (variant, threads) in [("portable", "1"), ("portable", "2"), ("", "1"), ("", "2")] {
        let out = folder.path().join(format!("{variant}{threads}.npy"));
        let mut command = chainrule(
            "pixelcnn",
            &["sample", text(&model), "--count", "3", "--class", "3", "--seed", "5"],
        );
        command.args(["--threads", threads, "--quiet", "--npy", text(&out)]);
        if !variant.is_empty() {
            command.env("CHAINRULE_SIMD", variant);
        }
        assert!(command.output().unwrap().status.success());
        assert_eq!(fs::read(&out).unwrap(), wanted, "{variant} {threads}");
    }
}

#[test]
fn the_three_samplers_draw_the_same_images() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("digits.safetensors");
    let wanted = fs::read(fixture("digits.npy")).unwrap();
    for sampler in ["exact", "cached", "plain"] {
        let out = folder.path().join("x.npy");
        let args = [
            "sample",
            text(&model),
            "--count",
            "3",
            "--class",
            "3",
            "--seed",
            "5",
            "--sampler",
            sampler,
        ];
        succeed(&[&args[..], &["--quiet", "--npy", text(&out)]].concat());
        assert_eq!(fs::read(&out).unwrap(), wanted, "{sampler}");
    }
}

#[test]
fn pictures_are_compressed_restored_and_completed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = fixture("digits.safetensors");
    let levels =
        ndarray::Array3::from_shape_fn((8, 8, 1), |(y, x, _)| ((3 * y + 2 * x) % 17) as u16);
    pixelcnn::data::write_image(&path("a.png"), levels.view(), 17).unwrap();
    succeed(&[
        "compress",
        text(&model),
        text(&path("a.png")),
        "--out",
        text(&path("a.chr")),
        "--quiet",
    ]);
    succeed(&[
        "decompress",
        text(&model),
        text(&path("a.chr")),
        "--out",
        text(&path("back")),
        "--quiet",
    ]);
    assert_eq!(pixelcnn::data::read_image(&path("back/a.png"), 17, 1).unwrap(), levels);

    let (image, npy) = (path("a.png"), path("c.npy"));
    succeed(&[
        "complete",
        text(&model),
        "--image",
        text(&image),
        "--rows",
        "4",
        "--count",
        "5",
        "--npy",
        text(&npy),
        "--quiet",
    ]);
    let endings = pixelcnn::data::read_npy(&npy).unwrap().levels;
    assert_eq!(endings.dim(), (5, 8, 8, 1));
    for ending in endings.outer_iter() {
        assert_eq!(ending.slice(ndarray::s![..4, .., ..]), levels.slice(ndarray::s![..4, .., ..]));
    }
}

#[test]
fn a_sound_checkpoint_passes_its_audit() {
    let report =
        json(&["audit", text(&fixture("digits.safetensors")), "--positions", "0", "--json"]);
    let laws = report["laws"].as_array().unwrap();
    assert!(laws.len() >= 6 && laws.iter().all(|law| law["holds"] == true), "{report}");
    assert_eq!(report["blind_spot_percent"], 0.);
}

#[test]
fn attention_is_trained_audited_and_compressed_with_by_flags_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (model, npy) = (path("run"), path("x.npy"));
    let set = ["--set", "model.attention_every=2", "--set", "model.attention_heads=4"];
    let train =
        ["train", "--preset", "gated", "--num-steps", "3", "--out", text(&model), "--quiet"];
    let alone = ["--threads", "1"];
    succeed(&[&train[..], &set, &alone].concat());
    assert_eq!(json(&["info", text(&model), "--json"])["attention_layers"], 2);
    let audit = ["audit", text(&model), "--positions", "8", "--json"];
    let report = json(&[&audit[..], &alone].concat());
    let laws = report["laws"].as_array().unwrap();
    assert!(laws.iter().all(|law| law["holds"] == true), "{report}");
    assert_eq!(report["seen_percent"], 100.);
    assert_eq!(report["blind_spot_percent"], 0.);
    succeed(&["sample", text(&model), "--count", "3", "--quiet", "--npy", text(&npy)]);
    let (file, back) = (path("x.chr"), path("back"));
    succeed(&["compress", text(&model), text(&npy), "--out", text(&file), "--quiet"]);
    succeed(&["decompress", text(&model), text(&file), "--out", text(&back), "--quiet"]);
    assert_eq!(fs::read(back.join("images.npy")).unwrap(), fs::read(&npy).unwrap());
}

#[test]
fn what_images_do_not_bring_and_heads_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let train = ["train", "--preset", "gated", "--out", text(&out), "--quiet"];
    let refused = |set: &[&str]| fail(&[&train[..], set].concat(), 2);
    let heads = ["--set", "model.attention_every=2", "--set", "model.attention_heads=5"];
    let wanted = "model.attention_heads is 5, but must be a divisor of the 32 channels";
    assert!(refused(&heads).contains(wanted));
    let map = refused(&["--set", "model.context_channels=2"]);
    assert!(map.contains("these images come without context maps"), "{map}");
}
