//! WaveNet: what a user types and sees, wrong input, known entropies.

use std::{
    f64::consts::LN_2,
    fs,
    io::Read as _,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use wavenet::data::{mu_law, wav};

use crate::{chainrule, fail_at, fixture, root, succeed_at, text};

fn succeed(args: &[&str]) -> String {
    succeed_at("wavenet", args)
}

fn fail(args: &[&str], status: i32) -> String {
    fail_at("wavenet", args, status)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeed(args)).expect("one JSON object")
}

/// Flags of a run in the folder `out`.
fn train<'a>(out: &'a Path, more: &'a str) -> Vec<&'a str> {
    let common = "train --preset demo --threads 1 --quiet --out";
    common.split(' ').chain([text(out)]).chain(more.split_whitespace()).collect()
}

/// A network so small that a step takes a few milliseconds, and little to validate on.
const SMALL: &str = "--set model.dilations=[1,2,4] --set model.residual_channels=6 --set model.gate_channels=6 \
    --window 400 --batch-size 2 --limit 6 --eval-examples 1";
/// One that learns simple sounds.
const ABLE: &str = "--set model.dilations=[1,2,4,8,16] --set model.residual_channels=16 --set model.gate_channels=16 \
    --window 1000 --batch-size 2 --num-samples 0 --ema-decay 0 --eval-examples 0 --set model.speakers=0";

#[test]
fn a_run_is_trained_measured_and_heard() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let flags = format!("{SMALL} --num-steps 6 --save-every 3 --num-samples 1");
    succeed(&train(&out, &flags));
    assert!(
        out.join("samples/step-000006.wav").exists()
            && out.join("samples/step-000006.png").exists()
    );
    let report = json(&["evaluate", text(&out), "--limit", "2", "--baselines", "--json"]);
    let bits = report["bits_per_dim"].as_f64().unwrap();
    assert!((5. ..8.1).contains(&bits), "{bits}");
    for field in [
        "model",
        "dataset",
        "split",
        "examples",
        "dims",
        "nats",
        "nats_se",
        "bound",
        "weights",
        "bits_per_dim_se",
    ] {
        assert!(!report[field].is_null(), "{field}");
    }
    assert_eq!(report["baselines_bits_per_dim"][0]["bits_per_dim"].as_f64(), Some(8.));
    let laws = json(&["audit", text(&out), "--positions", "3", "--json"]);
    assert!(laws["laws"].as_array().unwrap().iter().all(|law| law["holds"] == true), "{laws}");
    assert_eq!(laws["receptive_field"], 8);
    assert_eq!(
        json(&["info", text(&out), "--json"])["receptive_field_milliseconds"].as_f64(),
        Some(1.)
    );
}

#[test]
fn presets_are_described() {
    let error = fail(&["info", "--preset", "x"], 2);
    let names = error.split("one of ").nth(1).expect("the presets are listed");
    for name in names.trim().split(", ") {
        let parameters = json(&["info", "--preset", name, "--json"])["parameters"].as_u64();
        assert!(parameters > Some(0), "{name}");
    }
    for (preset, field) in [("speech", 3070), ("ibab", 5117), ("demo", 512)] {
        assert_eq!(json(&["info", "--preset", preset, "--json"])["receptive_field"], field);
    }
}

#[test]
fn a_seed_speaks_the_same_in_every_variant_and_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("voice.safetensors");
    let mut first: Option<Vec<u8>> = None;
    for (variant, threads) in [("portable", "1"), ("", "1"), ("", "2")] {
        let out = folder.path().join("x.npy");
        let flags = ["sample", text(&model), "--count", "3", "--seconds", "0.05", "--seed", "5"];
        let mut command = chainrule("wavenet", &flags);
        command.args(["--threads", threads, "--quiet", "--npy", text(&out)]);
        if !variant.is_empty() {
            command.env("CHAINRULE_SIMD", variant);
        }
        assert!(command.output().unwrap().status.success());
        let levels = fs::read(&out).unwrap();
        assert_eq!(*first.get_or_insert(levels.clone()), levels, "{variant} {threads}");
    }
    for sampler in ["cached", "plain"] {
        let out = folder.path().join("y.npy");
        let flags = ["sample", text(&model), "--count", "3", "--seconds", "0.05", "--seed", "5"];
        let mut command = chainrule("wavenet", &flags);
        command.args(["--sampler", sampler, "--quiet", "--npy", text(&out)]);
        assert!(command.output().unwrap().status.success());
        assert_eq!(Some(fs::read(&out).unwrap()), first, "{sampler}");
    }
}

/// A short clip of mu-law levels as a WAV file.
fn clip(path: &Path, samples: usize) -> Vec<f32> {
    let level =
        |t: usize| (128. + 40. * (t as f64 * 0.13).sin() + 20. * (t as f64 * 0.031).cos()) as u16;
    let sound: Vec<f32> = (0..samples).map(|t| mu_law::decode(level(t), 256)).collect();
    wav::write(path, &sound, 8000).expect("a clip is written");
    sound
}

#[test]
fn recordings_are_compressed_restored_and_completed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = fixture("voice.safetensors");
    let (a, b) = (path("a.wav"), path("b.wav"));
    clip(&a, 700);
    clip(&b, 1100);
    let chr = path("ab.chr");
    succeed(&["compress", text(&model), text(&a), text(&b), "--out", text(&chr), "--quiet"]);
    succeed(&["decompress", text(&model), text(&chr), "--out", text(&path("back")), "--quiet"]);
    for name in ["a.wav", "b.wav"] {
        assert_eq!(
            wav::read(&path("back").join(name)).unwrap(),
            wav::read(&path(name)).unwrap(),
            "{name}"
        );
    }
    let ending = path("ending.wav");
    let flags = ["--keep-seconds", "0.05", "--seconds", "0.08", "--out", text(&ending), "--quiet"];
    succeed(&[&["complete", text(&model), "--audio", text(&a)], &flags[..]].concat());
    let (given, completed) = (wav::read(&a).unwrap(), wav::read(&ending).unwrap());
    assert_eq!(completed.samples.len(), 640);
    assert_eq!(completed.samples[..400], given.samples[..400], "what was given stays");
    assert_ne!(completed.samples[400..], given.samples[400..640]);

    // what the levels cannot hold is refused, unless it may be rounded
    let fine = path("fine.wav");
    wav::write(&fine, &vec![0.123_456; 300], 8000).unwrap();
    let compress = ["compress", text(&model), text(&fine), "--out", text(&chr)];
    let line = fail(&compress, 1);
    assert!(line.contains("fine.wav: sample 0 is none of the model's 256 levels"), "{line}");
    succeed(&[&compress[..], &["--quantise"]].concat());
}

#[test]
fn a_file_of_version_1_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (model, file) = (fixture("voice.safetensors"), fixture("voice.chr"));
    succeed(&["decompress", text(&model), text(&file), "--out", text(folder.path()), "--quiet"]);
    let restored = fs::read(folder.path().join("voice.wav")).unwrap();
    assert_eq!(restored, fs::read(fixture("voice.wav")).unwrap());
}

#[test]
fn sound_of_16_bits_is_restored_on_any_processor() {
    let folder = tempfile::tempdir().unwrap();
    let [model, file, wanted] = ["safetensors", "chr", "wav"]
        .map(|end| root().join(format!("tests/fixtures/v2/sound.{end}")));
    for variant in ["portable", ""] {
        let flags = ["decompress", text(&model), text(&file), "--out", text(folder.path())];
        let mut command = chainrule("wavenet", &flags);
        if !variant.is_empty() {
            command.env("CHAINRULE_SIMD", variant);
        }
        assert!(command.arg("--quiet").output().unwrap().status.success());
        let restored = fs::read(folder.path().join("sound.wav")).unwrap();
        assert_eq!(restored, fs::read(&wanted).unwrap(), "{variant}");
    }
    let mut old = fs::read(&file).unwrap();
    old[4] = 1; // as version 1 coded it
    let path = folder.path().join("old.chr");
    fs::write(&path, old).unwrap();
    let line = fail(&["decompress", text(&model), text(&path), "--out", text(folder.path())], 1);
    let said = "old.chr: has format version 1, files of this model are read in 2";
    assert!(line.contains(said), "{line}");
}

#[test]
fn hostile_and_foreign_files_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = fixture("voice.safetensors");
    let good = path("good.wav");
    clip(&good, 600);
    let bytes = fs::read(&good).unwrap();
    let out = path("x.chr");
    for (name, content) in [
        ("empty.wav", Vec::new()),
        ("text.wav", b"hello, world, this is no sound".to_vec()),
        ("header.wav", bytes[..44].to_vec()),
        ("cut.wav", bytes[..300].to_vec()),
    ] {
        fs::write(path(name), content).unwrap();
        let line = fail(&["compress", text(&model), text(&path(name)), "--out", text(&out)], 1);
        assert!(line.contains(name), "{line}");
    }
    let chr = path("good.chr");
    succeed(&["compress", text(&model), text(&good), "--out", text(&chr), "--quiet"]);
    let coded = fs::read(&chr).unwrap();
    for at in (0..coded.len()).step_by(coded.len() / 16) {
        let mut edited = coded.clone();
        edited[at] ^= 0x11;
        fs::write(&chr, &edited).unwrap();
        let output = chainrule(
            "wavenet",
            &["decompress", text(&model), text(&chr), "--out", text(&path("back")), "--quiet"],
        )
        .output()
        .unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            // an edit of a name, say
            let mut restored = fs::read_dir(path("back")).unwrap().map(|it| it.unwrap().path());
            let same =
                |it: &std::path::PathBuf| wav::read(it).unwrap() == wav::read(&good).unwrap();
            assert!(restored.all(|it| same(&it)), "byte {at}: restored to something else");
            continue;
        }
        let one_line = line.starts_with("error: ") && line.trim_end().lines().count() == 1;
        assert!(one_line, "byte {at}: {line}");
    }
    let other = path("other");
    fs::create_dir(&other).unwrap();
    let copy = other.join("good.wav");
    fs::copy(&good, &copy).unwrap();
    let twice = ["compress", text(&model), text(&good), text(&copy), "--out", "x.chr"];
    let line = fail(&twice, 1);
    assert!(line.contains("good.wav would be restored to one name"), "{line}");
    let line = fail(&["info", text(&fixture("digits.safetensors"))], 1);
    assert!(line.contains("holds a model of pixelcnn"), "{line}");
    let line = fail(&["sample", text(&model), "--speaker", "nobody", "--out", "x.wav"], 2);
    assert!(line.contains("--speaker is nobody, but must be"), "{line}");
    let line = fail(&["sample", text(&model), "--text", "hello", "--out", "x.wav"], 2);
    assert!(
        line.contains(
            "--text is given, but must be left out: the model is told nothing but the past"
        ),
        "{line}"
    );
    let flags = ["--audio", text(&good), "--keep-seconds", "9", "--out", "x.wav"];
    let line = fail(&[&["complete", text(&model)], &flags[..]].concat(), 2);
    assert!(line.contains("--keep-seconds is 9, but must be 0 to 0.075"), "{line}");
}

#[test]
fn a_stream_is_heard_while_it_is_spoken_and_may_be_closed() {
    let model = fixture("voice.safetensors");
    let stream =
        |seconds| ["sample", text(&model), "--stream", "--seconds", seconds, "--seed", "3"];
    let whole = chainrule("wavenet", &stream("0.1")).output().unwrap().stdout;
    assert!(whole.starts_with(b"RIFF") && whole.len() == 44 + 2 * 800, "{}", whole.len());
    let mut child = chainrule("wavenet", &stream("600"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = vec![0; 44 + 2 * 800];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first[44..], whole[44..], "the same seed speaks the same");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.starts_with("error: stdout: ") && line.trim_end().lines().count() == 1, "{line}");
}

#[test]
fn a_killed_run_is_resumed_to_the_bits_of_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let flags =
        format!("{SMALL} --num-steps 40 --save-every 5 --num-samples 0 --set model.dropout=0.3");
    succeed(&train(&whole, &flags));
    let mut child = chainrule("wavenet", &train(&broken, &flags)).spawn().unwrap();
    let since = Instant::now();
    while !broken.join("last.safetensors").exists() && since.elapsed() < Duration::from_mins(1) {
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    succeed(&["train", "--resume", text(&broken), "--quiet"]);
    for file in ["model.safetensors", "last.safetensors"] {
        assert_eq!(
            fs::read(whole.join(file)).unwrap(),
            fs::read(broken.join(file)).unwrap(),
            "{file}"
        );
    }
}

/// The last value of a metric of a run.
fn last(out: &Path, field: &str) -> f64 {
    let text = fs::read_to_string(out.join("metrics.jsonl")).expect("a run has metrics");
    let mut values = text.lines().rev().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line[field].as_f64()
    });
    values.next().expect("the field was reported")
}

#[test]
fn noise_stays_at_the_entropy_of_noise() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&train(&out, &format!("{ABLE} --data noise --levels 16 --num-steps 60 --limit 12")));
    let bits = last(&out, "valid_bits_per_dim");
    assert!((3.99..4.1).contains(&bits), "{bits} bits, the entropy is 4");
}

#[test]
fn a_sound_of_known_entropy_is_learnt_to_near_it_and_not_below() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let flags = format!("{ABLE} --data harmonic --num-steps 250 --learning-rate 5e-3 --limit 40");
    succeed(&train(&out, &flags));
    let report = json(&["evaluate", text(&out), "--split", "valid", "--json"]);
    let floor = report["entropy_nats_per_sample"].as_f64().unwrap() / LN_2;
    let (bits, se) =
        (report["bits_per_dim"].as_f64().unwrap(), report["bits_per_dim_se"].as_f64().unwrap());
    assert!(
        bits > floor - 4. * se && bits < floor + 1.,
        "{bits} +- {se} bits, the entropy is {floor}"
    );
}

#[test]
fn a_few_clips_are_learnt_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("run"));
    fs::create_dir(&data).unwrap();
    for name in 0..12 {
        clip(&data.join(format!("{name}.wav")), 2400 + name);
    }
    let data = text(&data);
    let flags = format!("{ABLE} --data {data} --trim-db 0 --num-steps 150 --learning-rate 1e-2");
    succeed(&train(&out, &flags));
    let bits = last(&out, "train_bits_per_dim");
    assert!(bits < 1., "{bits} bits per sample");
}
