//! What cannot come to a good end is said at once, in one line.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{chainrule, fail_at, fixture, succeed_at, text};

fn json(family: &str, args: &[&str]) -> Value {
    serde_json::from_str(&succeed_at(family, args)).expect("one JSON object")
}

#[test]
fn wrong_usage_names_flag_value_and_rule() {
    for (family, args, wanted) in [
        ("pixelcnn", &["sample"][..], "<MODEL> is missing, but must be given"),
        ("pixelcnn", &["sample", "m", "--count", "x"], "--count is x, but must be a whole number"),
        ("pixelcnn", &["evaluate", "m", "--split", "all"], "--split is all, but must be one of "),
        ("wavenet", &["sample", "m", "--secnods", "1"], "a similar one is --seconds"),
        ("wavenet", &["sample", "m", "--temperature", "hot"], "--temperature is hot, but must be"),
        ("wavenet", &["sing"], "the command is sing, but must be one that --help lists"),
        ("wavenet", &["complete", "m", "--out", "x.wav"], "--audio <WAV>, --keep-seconds"),
    ] {
        let line = fail_at(family, args, 2);
        assert!(line.contains(wanted), "{line}");
    }
    for args in [&["--help"][..], &["sample", "--help"], &["train", "--help"]] {
        assert!(succeed_at("wavenet", args).contains("Usage:"));
    }
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (nowhere, here) = (path("none/x"), folder.path());
    fs::write(path("file"), "").unwrap();
    for (family, model, input) in
        [("pixelcnn", "digits", path("x.png")), ("wavenet", "voice", path("x.wav"))]
    {
        let [model, chr] =
            [format!("{model}.safetensors"), format!("{model}.chr")].map(|it| fixture(&it));
        let (model, chr) = (text(&model), text(&chr));
        for out in [&nowhere, here] {
            for args in [
                ["sample", model, "--npy", text(out)].as_slice(),
                &["sample", model, "--out", text(out)],
                &["compress", model, text(&input), "--out", text(out)],
                &["audit", model, "--out", text(out)],
            ] {
                let line = fail_at(family, args, 2);
                assert!(line.contains(&format!("is {}, but must be", text(out))), "{line}");
            }
        }
        let file = path("file");
        for args in [
            ["decompress", model, chr, "--out", text(&file)].as_slice(),
            &["train", "--out", text(&file)],
            &["demo", "--out", text(&file)],
        ] {
            let line = fail_at(family, args, 2);
            assert!(line.contains("but must be a folder, but"), "{line}");
        }
    }
    let model = fixture("digits.safetensors");
    let heat_map = ["evaluate", text(&model), "--heat-map", text(&nowhere)];
    assert!(fail_at("pixelcnn", &heat_map, 2).contains("--heat-map is "));
    let model = fixture("voice.safetensors");
    let spectrogram = ["sample", text(&model), "--spectrogram", text(&nowhere)];
    assert!(fail_at("wavenet", &spectrogram, 2).contains("--spectrogram is "));
}

#[test]
fn one_example_has_no_standard_error() {
    for (family, model) in [("pixelcnn", "digits"), ("wavenet", "voice")] {
        let model = fixture(&format!("{model}.safetensors"));
        let evaluate = ["evaluate", text(&model), "--limit", "1"];
        let report = json(family, &[&evaluate[..], &["--json"]].concat());
        assert!(report["nats_se"].is_null() && report["bits_per_dim_se"].is_null(), "{report}");
        let said = succeed_at(family, &evaluate);
        assert!(said.contains(" +- - nats per ") && said.contains(" over 1 test "), "{said}");
    }
}

#[test]
fn speakers_are_matched_by_name() {
    let model = fixture("voice.safetensors");
    let names = json("wavenet", &["info", text(&model), "--json"])["label_names"].clone();
    let second = names[1].as_str().expect("the voice has two speakers").to_owned();
    let limit = |more| [&["--limit", "2", "--json"][..], more].concat();
    let both = json("wavenet", &[&["evaluate", text(&model)][..], &limit(&[])].concat());
    let of_one = limit(&["--speakers", &second]);
    let one = json("wavenet", &[&["evaluate", text(&model)][..], &of_one].concat());
    let bits = |report: &Value| report["bits_per_dim"].as_f64().unwrap();
    assert!((bits(&one) / bits(&both) - 1.).abs() < 0.2, "{one} {both}");
    let classified = json("wavenet", &[&["classify", text(&model)][..], &of_one].concat());
    assert_eq!(classified["label_names"], names);
    let row = |of: usize| -> u64 {
        let row = classified["confusion"][of].as_array().unwrap();
        row.iter().map(|it| it.as_u64().unwrap()).sum()
    };
    assert_eq!((row(0), row(1)), (0, 2), "{classified}");

    let folder = tempfile::tempdir().unwrap();
    let stranger = folder.path().join("stranger");
    for (split, length) in [("train", 3000), ("valid", 3100), ("test", 3200)] {
        let within = stranger.join(split).join("nobody");
        fs::create_dir_all(&within).unwrap();
        let sound: Vec<f32> = (0..length).map(|t| (t as f32 * 0.1).sin() / 2.).collect();
        wavenet::data::wav::write(&within.join("x.wav"), &sound, 8000).unwrap();
    }
    let line = fail_at("wavenet", &["evaluate", text(&model), "--data", text(&stranger)], 1);
    assert!(line.contains("the speaker nobody is none of the model's: "), "{line}");
    fs::remove_dir_all(stranger.join("valid")).unwrap();
    let out = folder.path().join("run");
    let train = ["train", "--data", text(&stranger), "--out", text(&out)];
    let line = fail_at("wavenet", &train, 1);
    assert!(
        line.contains("its valid split is empty (2 clips: 1 train, 0 valid, 1 test)"),
        "{line}"
    );
    assert!(!out.exists());
}

#[test]
fn what_sample_wrote_is_completed_and_a_sheet_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = fixture("digits.safetensors");
    let (sheet, npy, endings) = (path("sheet.png"), path("drawn.npy"), path("endings.npy"));
    let drawn =
        ["sample", text(&model), "--count", "3", "--out", text(&sheet), "--npy", text(&npy)];
    succeed_at("pixelcnn", &drawn);
    let complete = |image: &Path, more: &[&str]| -> Vec<String> {
        let common = ["complete", text(&model), "--image", text(image), "--rows", "4", "--npy"];
        let all = [&common[..], &[text(&endings), "--count", "2", "--quiet"], more].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let run = |args: Vec<String>| chainrule("pixelcnn", &[]).args(args).output().unwrap();
    assert!(run(complete(&npy, &["--index", "2"])).status.success());
    let top = |file: &Path, image: usize| {
        let levels = pixelcnn::data::read_npy(file).unwrap().levels;
        levels.slice(ndarray::s![image, ..4, .., ..]).to_owned()
    };
    assert_eq!(top(&endings, 1), top(&npy, 2));
    for (args, wanted) in [
        (complete(&npy, &["--index", "3"]), "--index is 3, but must be below 3: "),
        (complete(&sheet, &[]), "the model's images 8 x 8; instead of a sheet of images give"),
        (complete(&sheet, &["--index", "0"]), "--index is 0, but must be left out: only an array"),
    ] {
        let output = run(args);
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && line.contains(wanted), "{line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    }
}
