//! Language models: what a user types and sees, models from the wild, wrong input.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::{chainrule, fail_at, fixture, root, succeed_at, text};

fn succeed(args: &[&str]) -> String {
    succeed_at("gpt", args)
}

fn fail(args: &[&str], status: i32) -> String {
    fail_at("gpt", args, status)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeed(args)).expect("one JSON object")
}

/// A model that transformers or the gguf package made.
fn delivered(name: &str) -> String {
    text(&root().join("tests/fixtures/gpt").join(name)).to_owned()
}

/// A model of bytes so small that a step takes a few milliseconds, trained on the file `data`.
fn train<'a>(data: &'a Path, out: &'a Path, more: &'a str) -> Vec<&'a str> {
    let small = "train --preset char-small --tokenizer bytes --threads 1 --quiet --batch-size 4 --eval-examples 2 \
        --set model.layers=2 --set model.d_model=24 --set model.heads=3 --set model.kv_heads=3 \
        --set model.d_head=8 --set model.d_ff=32 --set model.context=32";
    small
        .split_whitespace()
        .chain(["--data", text(data), "--out", text(out)])
        .chain(more.split_whitespace())
        .collect()
}

/// A text that repeats itself with changes, long enough for three splits.
fn prose() -> String {
    let days =
        (0..400).map(|i| format!("The {i}th day was like day {}, and so was the night.", i / 3));
    days.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_run_is_trained_measured_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("book.txt"), folder.path().join("run"));
    fs::write(&data, prose()).unwrap();
    succeed(&train(&data, &out, "--num-steps 6 --save-every 3 --num-samples 1"));
    let sample = out.join("samples/step-000006.txt");
    assert!(sample.exists(), "{:?}", fs::read_dir(out.join("samples")).map(Iterator::count));
    let report = json(&["evaluate", text(&out), "--json"]);
    for field in [
        "model",
        "dataset",
        "split",
        "examples",
        "dims",
        "nats",
        "bits_per_dim",
        "bound",
        "weights",
    ] {
        assert!(!report[field].is_null(), "{field}: {report}");
    }
    let bits = report["bits_per_byte"].as_f64().unwrap();
    assert!((3. ..8.5).contains(&bits), "{bits}");
    let laws = json(&["audit", text(&out), "--positions", "3", "--tokens", "8", "--json"]);
    assert!(laws["laws"].as_array().unwrap().iter().all(|law| law["holds"] == true), "{laws}");
    let info = json(&["info", text(&out), "--json"]);
    assert!(info["parameters"].as_u64() > Some(10_000), "{info}");
}

/// The bytes of all tensors of a checkpoint.
fn tensors(file: &Path) -> Vec<u8> {
    let bytes = fs::read(file).expect("training leaves checkpoints");
    let header = bytes.first_chunk().map(|&it| u64::from_le_bytes(it)).expect("a header") as usize;
    bytes[8 + header..].to_owned()
}

#[test]
fn a_resumed_run_keeps_its_model_and_data_and_runs_of_others_are_sent_to_their_command() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("book.txt"), folder.path().join("run"));
    fs::write(&data, prose()).unwrap();
    succeed(&train(&data, &out, "--num-steps 1 --num-samples 0"));
    let before = fs::read(out.join("config.json")).unwrap();
    for (flag, value) in
        [("--set", "model.layers=5"), ("--data", "other"), ("--set", "data.limit=7")]
    {
        let line = fail(&["train", "--resume", text(&out), "--num-steps", "2", flag, value], 2);
        let wanted = format!(
            "{flag} is {value}, but must be left out: a resumed run keeps its model and data"
        );
        assert!(line.contains(&wanted), "{line}");
    }
    assert_eq!(fs::read(out.join("config.json")).unwrap(), before);

    let digits = fixture("digits.safetensors");
    let wanted = format!("try `chainrule pixelcnn info {}`", text(&digits));
    for engine in ["torch", "fused", "exact"] {
        for verb in ["evaluate", "logits"] {
            let flags = [verb, text(&digits), "--engine", engine];
            let more: &[&str] =
                if verb == "logits" { &["--tokens", "x", "--out", "x"] } else { &[] };
            let line = fail(&[&flags, more].concat(), 1);
            assert!(line.contains(&wanted), "{line}");
        }
    }
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("book.txt");
    fs::write(&data, prose()).unwrap();
    let [once, twice] = ["once", "twice"].map(|name| folder.path().join(name));
    let more = "--num-samples 0 --save-every 3 --set model.dropout=0.2 --precision f32";
    succeed(&train(&data, &once, &format!("{more} --num-steps 6")));
    succeed(&train(&data, &twice, &format!("{more} --num-steps 3")));
    succeed(&["train", "--resume", text(&twice), "--num-steps", "6", "--quiet"]);
    for file in ["model.safetensors", "last.safetensors"] {
        assert!(tensors(&once.join(file)) == tensors(&twice.join(file)), "{file}");
    }
}

#[test]
fn a_file_comes_back_from_the_codec_on_every_variant() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("book.txt"), folder.path().join("run"));
    fs::write(&data, prose()).unwrap();
    succeed(&train(&data, &out, "--num-steps 3 --num-samples 0"));
    let original = folder.path().join("any.bin");
    let bytes: Vec<u8> = (0..700u32).map(|i| (i * i / 7) as u8).collect();
    fs::write(&original, &bytes).unwrap();
    let packed = folder.path().join("any.chr");
    succeed(&["compress", text(&out), text(&original), "--out", text(&packed), "--quiet"]);
    for variant in ["portable", ""] {
        let back = folder.path().join("back");
        let flags = ["decompress", text(&out), text(&packed), "--out", text(&back), "--quiet"];
        let mut command = chainrule("gpt", &flags);
        if !variant.is_empty() {
            command.env("CHAINRULE_SIMD", variant);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read(back.join("any.bin")).unwrap(), bytes, "{variant}");
        fs::remove_dir_all(&back).unwrap();
    }
    let mut damaged = fs::read(&packed).unwrap();
    let middle = damaged.len() - 40;
    damaged[middle] ^= 1;
    fs::write(&packed, damaged).unwrap();
    let flags = ["decompress", text(&out), text(&packed), "--out", text(folder.path()), "--quiet"];
    let line = fail(&flags, 1);
    assert!(line.contains("any.chr"), "{line}");
}

#[test]
fn presets_are_described_to_the_last_parameter() {
    for (preset, parameters) in
        [("gpt2", 124_439_808), ("llama-7b", 6_738_415_616u64), ("smollm2-135m", 134_515_008)]
    {
        let info = json(&["info", "--preset", preset, "--json"]);
        assert_eq!(info["parameters"], parameters, "{preset}");
        assert!(!info["model"].is_null() && !info["config"].is_null(), "{preset}");
    }
    let error = fail(&["info", "--preset", "x"], 2);
    let names = error.split("one of ").nth(1).expect("the presets are listed");
    for name in names.trim().split(", ") {
        let parameters = json(&["info", "--preset", name, "--json"])["parameters"].as_u64();
        assert!(parameters > Some(0), "{name}");
    }
}

#[test]
fn a_prompt_goes_on_the_same_way_by_a_seed() {
    let model = delivered("gguf-text/model.gguf");
    let written = |more: &[&str]| {
        let flags = ["generate", &model, "the", "--max-tokens", "12", "--json"];
        json(&[&flags, more].concat())
    };
    let greedy = |engine| written(&["--temperature", "0", "--engine", engine]);
    let fused = greedy("fused");
    for field in
        ["text", "tokens", "prefill_tokens_per_second", "decode_tokens_per_second", "finish_reason"]
    {
        assert!(!fused[field].is_null(), "{field}: {fused}");
    }
    assert_eq!(greedy("torch")["tokens"], greedy("exact")["tokens"]);
    let drawn = |seed: &str| written(&["--seed", seed, "--temperature", "1.5"])["tokens"].clone();
    assert_eq!(drawn("3"), drawn("3"));
    assert_ne!(drawn("3"), drawn("4"));
    let plain = succeed(&["generate", &model, "the", "--max-tokens", "12", "--temperature", "0"]);
    assert_eq!(
        Some(plain.trim_end_matches('\n')),
        fused["text"].as_str().map(|it| it.trim_end_matches('\n'))
    );
}

#[test]
fn settings_that_nobody_can_follow_are_refused() {
    let model = delivered("gguf-text/model.gguf");
    for (flag, value) in [
        ("--temperature", "-1"),
        ("--top-p", "0"),
        ("--min-p", "2"),
        ("--repetition-penalty", "0"),
        ("--logit-bias", "99999=1"),
        ("--max-tokens", "x"),
        ("--beams", "3"),
    ] {
        let line = fail(&["generate", &model, "the", flag, value], 2);
        assert!(
            line.contains(flag.trim_start_matches('-'))
                || line.contains(&flag[2..].replace('-', "_")),
            "{line}"
        );
    }
    let long = "the ".repeat(4000);
    let line = fail(&["generate", &model, &long], 2);
    assert!(line.contains("context"), "{line}");
}

type Logits = ndarray::Array3<f32>;

/// What an engine says of the tokens in a file; `out` is written.
fn logits(model: &str, tokens: &str, engine: &str, out: &Path) -> Logits {
    succeed(&["logits", model, "--tokens", tokens, "--out", text(out), "--engine", engine]);
    ndarray_npy::read_npy(out).expect("logits are an array")
}

/// No number if any difference is none.
fn greatest_difference(found: &Logits, wanted: &Logits) -> f32 {
    let differences = (found - wanted).mapv(f32::abs);
    let worst = differences.fold(0f32, |worst, &it| worst.max(it));
    if differences.iter().any(|it| it.is_nan()) { f32::NAN } else { worst }
}

#[test]
fn every_engine_writes_the_logits_of_libtorch() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.npy");
    // the bounds of `gpt audit`, by what the fused engine rounds: nothing of singles, keys and values, activations
    for (name, limit) in [("gpt2-tied", 1e-4), ("llama-grouped", 1e-2), ("gguf-text", 1e-1)] {
        let model = if name == "gguf-text" { "gguf-text/model.gguf" } else { name };
        let (model, tokens) = (delivered(model), delivered(&format!("{name}/tokens.npy")));
        let wanted = logits(&model, &tokens, "torch", &out);
        let exact = greatest_difference(&logits(&model, &tokens, "exact", &out), &wanted);
        assert!(exact <= 1e-3, "{name}: {exact}");
        let squares = |it: &Logits| it.iter().map(|&x| f64::from(x * x)).sum::<f64>();
        let fused = logits(&model, &tokens, "fused", &out) - &wanted;
        let fused = (squares(&fused) / squares(&wanted)).sqrt();
        assert!(fused <= limit, "{name}: {fused}");
        let flags = ["logits", &model, "--tokens", &tokens, "--out", text(&out)];
        let refused = ["--engine", "exact", "--precision", "bf16"];
        let line = fail(&[&flags[..], &refused].concat(), 2);
        assert!(
            line.contains("--precision is bf16, but must be left out with the exact"),
            "{line}"
        );
    }
}

#[test]
fn models_travel_between_formats() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["gpt2-tied", "llama-grouped"] {
        let (source, tokens) = (delivered(name), delivered(&format!("{name}/tokens.npy")));
        let [run, back] = [path(&format!("{name}-run")), path(&format!("{name}-back"))];
        succeed(&["import", &source, "--out", text(&run)]);
        succeed(&["export", text(&run), "--out", text(&back)]);
        let logits = |model: &str, out: &str| logits(model, &tokens, "torch", &path(out));
        let here = logits(&source, "a.npy");
        let wanted = ndarray_npy::read_npy(delivered(&format!("{name}/logits.npy"))).unwrap();
        let worst = greatest_difference(&here, &wanted);
        assert!(worst <= 1e-4, "{name}: {worst}");
        assert_eq!(logits(text(&run), "b.npy"), here, "{name} imported");
        assert_eq!(logits(text(&back), "c.npy"), here, "{name} exported");
    }
    let (source, small) = (delivered("gguf-text/model.gguf"), path("small.safetensors"));
    succeed(&["quantize", &source, "--to", "q8_0", "--out", text(&small)]);
    succeed(&["generate", text(&small), "the", "--max-tokens", "2"]);
    let line = fail(&["quantize", &source, "--to", "q8_0", "--out", text(&small)], 2);
    assert!(line.contains("small.safetensors"), "nothing is replaced unasked: {line}");
}

#[test]
fn a_damaged_model_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(delivered("gguf-text/model.gguf")).unwrap();
    let bad = folder.path().join("bad.gguf");
    for cut in [0, 3, 24, 1000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&bad, &bytes[..cut]).unwrap();
        let line = fail(&["generate", text(&bad), "the"], 1);
        assert!(line.contains("bad.gguf"), "{cut}: {line}");
    }
    let mut huge = bytes;
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes()); // tensors
    fs::write(&bad, huge).unwrap();
    assert!(fail(&["info", text(&bad)], 1).contains("bad.gguf"));
    let line = fail(&["generate", text(&folder.path().join("none")), "the"], 1);
    assert!(line.contains("none"), "{line}");
    for verb in ["generate", "evaluate"] {
        let line = fail(&[verb, &delivered("gpt2-tied"), "the"], 1);
        assert!(line.contains("bytes need 257 tokens"), "a model without a tokenizer: {line}");
    }
}

/// What `gpt` answers to `input` through a pipe, in success.
fn talk(flags: &[&str], input: &[u8]) -> Output {
    let mut child = chainrule("gpt", flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn a_conversation_is_held_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("t.jinja");
    fs::write(&template, "{% for m in messages %}{{ m.content }} {% endfor %}").unwrap();
    let model = delivered("gguf-text/model.gguf");
    let flags = ["chat", &model, "--max-tokens", "3", "--template", text(&template)];
    let output = talk(&flags, b"the\n/reset\nthe\n/quit\n");
    assert!(!output.stdout.is_empty());
}

#[test]
fn a_model_that_learnt_to_talk_still_does_when_it_learns_further() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("book.txt"), folder.path().join("talker"));
    fs::write(&data, prose()).unwrap();
    let flags = "--preset char-small --tokenizer auto --lora-rank 2 --num-steps 2 --save-every 1 --num-samples 0 \
        --batch-size 2 --eval-examples 1 --threads 1 --quiet";
    let model = delivered("gguf-text/model.gguf");
    let paths = ["train", "--from", &model, "--data", text(&data), "--out", text(&out)];
    succeed(&paths.into_iter().chain(flags.split_whitespace()).collect::<Vec<_>>());
    succeed(&["train", "--resume", text(&out), "--num-steps", "4", "--quiet"]);
    talk(&["chat", text(&out), "--max-tokens", "3"], b"the\n");
}

#[test]
fn a_file_is_measured_by_the_engine_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (data, small) = (folder.path().join("book.txt"), folder.path().join("small.safetensors"));
    fs::write(&data, &prose()[..600]).unwrap();
    succeed(&[
        "quantize",
        &delivered("gguf-text/model.gguf"),
        "--to",
        "int8",
        "--out",
        text(&small),
    ]);
    let nats = |more: &[&str]| {
        let flags = ["evaluate", text(&small), text(&data), "--threads", "1", "--json"];
        json(&[&flags, more].concat())["nats_per_token"].as_f64().unwrap()
    };
    let torch = nats(&[]);
    let (exact, fused) = (nats(&["--engine", "exact"]), nats(&["--engine", "fused"]));
    assert!((exact - torch).abs() < 1e-4, "{exact}, not {torch}");
    assert!(fused != exact && (fused - torch).abs() < 0.05, "{fused}, not {torch}");
    for (flag, value) in [("--precision", "bf16"), ("--device", "auto")] {
        let flags = ["evaluate", text(&small), text(&data), "--engine", "fused", flag, value];
        let line = fail(&flags, 2);
        assert!(line.contains("left out with the fused engine"), "{line}");
    }
}

#[test]
fn pieces_of_a_text_are_shown_with_their_numbers() {
    let model = delivered("gguf-text/model.gguf");
    let report = json(&["tokenize", &model, "the day", "--json"]);
    assert!(report["ids"].as_array().is_some_and(|ids| !ids.is_empty()), "{report}");
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("x.html");
    succeed(&["tokenize", &model, "a <b> day", "--html", text(&page)]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<html") && !page.contains("<b> day"), "what was typed is escaped");
}
