//! Wrong input, interrupted and killed runs: one clear line, the last good state kept.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{chainrule, fail, fixture, run, succeed, text};

fn train<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let small = [
        "train",
        "--preset",
        "gated",
        "--set",
        "model.channels=4",
        "--batch-size",
        "4",
        "--threads",
        "1",
    ];
    let quick = ["--num-samples", "0", "--eval-images", "8", "--quiet", "--out", text(out)];
    [&small[..], &quick[..], more].concat()
}

#[test]
fn a_wrong_flag_is_usage_and_names_its_rule() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let line = fail(&train(&out, &["--learning-rate=-1"]), 2);
    assert!(line.contains("train.learning_rate is -1, but must be a positive number"), "{line}");
    let line = fail(&train(&out, &["--set", "model.chanels=3"]), 2);
    assert!(line.contains("model.chanels"), "{line}");
    let line = fail(
        &["sample", text(&fixture("digits.safetensors")), "--class", "10", "--out", "x.png"],
        2,
    );
    assert!(line.contains("--class is 10, but must be 0 to 9"), "{line}");
    assert!(!Path::new("x.png").exists());
    assert_eq!(run(&["sample"]).status.code(), Some(2));
}

#[test]
fn foreign_and_damaged_files_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let model = fs::read(fixture("digits.safetensors")).unwrap();
    let mut damaged: Vec<Vec<u8>> =
        vec![Vec::new(), b"hello".to_vec(), vec![255; 4096], model[..model.len() / 2].to_vec()];
    for at in [0, 7, 9, 200, 3000] {
        let mut edited = model.clone();
        edited[at] ^= 0x41;
        damaged.push(edited);
    }
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        let output = run(&["info", text(&path)]);
        let line = String::from_utf8(output.stderr).unwrap();
        // an edit inside a number may leave another valid checkpoint
        assert!(
            output.status.success() || (line.starts_with("error: ") && line.lines().count() == 1),
            "{line}"
        );
        assert!(output.status.success() || line.contains("x.safetensors"), "{line}");
    }
    let line = fail(&["info", text(&folder.path().join("none"))], 1);
    assert!(line.contains("none"), "{line}");
}

#[test]
fn a_chr_file_is_decoded_to_its_images_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("x.chr"), folder.path().join("out"));
    let model = fixture("digits.safetensors");
    let good = fs::read(fixture("digits.chr")).unwrap();
    for at in (0..good.len()).step_by(good.len() / 24) {
        let mut edited = good.clone();
        edited[at] ^= 0x20;
        fs::write(&path, &edited).unwrap();
        let output =
            run(&["decompress", text(&model), text(&path), "--out", text(&out), "--quiet"]);
        if output.status.success() {
            // the last bits of a stream may stand for the same symbols
            let images = fs::read(out.join("images.npy")).unwrap();
            assert_eq!(images, fs::read(fixture("digits.npy")).unwrap(), "byte {at}");
        } else {
            let line = String::from_utf8(output.stderr).unwrap();
            let is_one_line = line.starts_with("error: ") && line.lines().count() == 1;
            assert!(is_one_line && line.contains("x.chr"), "{line}");
        }
    }
    let other = folder.path().join("other");
    succeed(&train(&other, &["--num-steps", "1"]));
    fs::write(&path, &good).unwrap();
    let line = fail(&["decompress", text(&other), text(&path), "--out", text(&out)], 1);
    assert!(line.contains("was compressed with the model"), "{line}");
}

#[test]
fn a_run_is_not_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&train(&out, &["--num-steps", "1"]));
    let before = fs::read(out.join("model.safetensors")).unwrap();
    let line = fail(&train(&out, &["--num-steps", "1"]), 1);
    assert!(line.contains("--resume") && line.contains("--overwrite"), "{line}");
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), before);
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_state() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let line = fail(
        &train(&out, &["--num-steps", "60", "--learning-rate", "1e38", "--save-every", "1"]),
        1,
    );
    assert!(line.contains("the loss is") && line.contains("last.safetensors"), "{line}");
    succeed(&["info", text(&out)]);
}

#[test]
fn a_killed_run_is_resumed_to_the_bits_of_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let steps = ["--num-steps", "60", "--save-every", "10", "--set", "model.dropout=0.3"];
    succeed(&train(&whole, &steps));
    let mut child = chainrule("pixelcnn", &train(&broken, &steps)).spawn().unwrap();
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
    let losses = |run: &Path| -> Vec<String> {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| line.split(",\"images_per_second\"").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(losses(&whole), losses(&broken));
}

#[test]
fn a_disk_that_fills_keeps_the_last_state_which_goes_on() {
    const LIMIT: u64 = 64 * 512;
    let folder = tempfile::tempdir().unwrap();
    let (whole, filled) = (folder.path().join("whole"), folder.path().join("filled"));
    for run in [&whole, &filled] {
        succeed(&train(run, &["--num-steps", "2", "--save-every", "1"]));
    }
    let last = filled.join("last.safetensors");
    let before = fs::read(&last).unwrap();
    let model = fs::metadata(filled.join("model.safetensors")).unwrap().len();
    assert!(model < LIMIT && LIMIT < before.len() as u64, "the model fits, the state does not");
    let resume = |run| ["train", "--resume", run, "--num-steps", "4", "--quiet"];
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""; // blocks of 512 bytes
    let output = std::process::Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_chainrule"), "pixelcnn"])
        .args(resume(text(&filled)))
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.starts_with("error: ") && line.trim_end().lines().count() == 1, "{line}");
    assert!(line.contains("last.safetensors: cannot be written"), "{line}");
    assert_eq!(fs::read(&last).unwrap(), before);
    for run in [&whole, &filled] {
        succeed(&resume(text(run)));
    }
    assert_eq!(fs::read(whole.join("last.safetensors")).unwrap(), fs::read(&last).unwrap());
}

#[test]
fn an_interrupted_run_saves_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut command =
        chainrule("pixelcnn", &train(&out, &["--num-steps", "100000", "--save-every", "5"]));
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while !out.join("last.safetensors").exists() && since.elapsed() < Duration::from_mins(1) {
        thread::sleep(Duration::from_millis(5));
    }
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{line}");
    assert!(line.contains("stopped at step") && line.contains("--resume"), "{line}");
    succeed(&["info", text(&out)]);
}
