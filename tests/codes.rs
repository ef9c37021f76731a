//! VQ-VAE as a user meets it: the stages, what ties them, and what is refused.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{fail_at, fixture, succeed_at, text};

const FAMILY: &str = "vqvae";

/// A run of two levels of codes on the digits, a few steps a stage.
fn train(out: &Path, more: &[&str]) -> String {
    let out = out.display().to_string();
    let mut args = vec![
        "train",
        "--out",
        &out,
        "--quiet",
        "--threads",
        "1",
        "--num-steps",
        "12",
        "--save-every",
        "6",
        "--prior-steps",
        "6",
        "--limit",
        "100",
        "--set",
        "model.factors=[2,2]",
        "--set",
        "model.channels=16",
        "--set",
        "model.quantiser.codes=16",
        "--set",
        PRIORS,
        "--set",
        "prior_train.save_every=3",
    ];
    args.extend(more);
    succeed_at(FAMILY, &args)
}

const PRIORS: &str = concat!(
    r#"priors=[{"channels":8,"embedding":4,"dilations":[1,1],"kernel_size":3,"class_conditional":true,"#,
    r#""attention_every":1,"attention_heads":2,"context_blocks":0,"dropout":0.1},"#,
    r#"{"channels":8,"embedding":4,"dilations":[1],"kernel_size":3,"class_conditional":true,"#,
    r#""attention_every":0,"attention_heads":1,"context_blocks":1,"dropout":0.0}]"#
);

fn json(args: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&succeed_at(FAMILY, args))?)
}

#[test]
fn a_run_walks_all_stages_and_every_verb_reads_it() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = place.path().join("vq");
    train(&run, &[]);
    let path = |name: &str| place.path().join(name).display().to_string();
    let run = run.display().to_string();
    for name in ["samples.png", "codebook.png", "codes.safetensors", "prior-2x2", "prior-4x4"] {
        ensure!(Path::new(&run).join(name).exists(), "{name} is missing");
    }
    let value = json(&["evaluate", &run, "--limit", "20", "--json", "--quiet"])?;
    ensure!(value["bound"] == "upper" && value["examples"] == 20, "{value}");
    let per_code = value["levels"][1]["prior_nats_per_code"].as_f64().context("a prior")?;
    ensure!(per_code > 0. && per_code < 16f64.ln() * 1.5, "{value}");
    let nats = value["nats"].as_f64().context("a bound")?;
    let priors: f64 = [16., 4.]
        .iter()
        .zip([0, 1])
        .map(|(codes, level)| {
            codes * value["levels"][level]["prior_nats_per_code"].as_f64().unwrap_or(f64::NAN)
        })
        .sum();
    let reconstruction = 64. * value["reconstruction"].as_f64().context("a reconstruction")?;
    ensure!(
        (nats - priors - reconstruction).abs() < 1e-3 * nats,
        "the bound is the sum of its terms: {value}"
    );

    let number = |name: &str| value[name].as_f64().context("a number");
    let variance = 10f64.powf(-number("psnr_db")? / 10.) / number("normalised_error")?;
    ensure!((variance - 0.14).abs() < 0.02, "the pixels of digits vary by {variance}");

    let codebook = json(&["codebook", &run, "--json", "--quiet", "--out", &path("codes.png")])?;
    let counts = codebook["levels"][0]["counts"].as_array().context("counts")?;
    let total: u64 = counts.iter().filter_map(Value::as_u64).sum();
    ensure!(total == 100 * 16, "every code is counted once: {total}");
    succeed_at(FAMILY, &["reconstruct", &run, "--count", "4", "--out", &path("back.png")]);
    succeed_at(FAMILY, &["audit", &run]);
    for sampler in ["plain", "cached", "exact"] {
        let npy = path(&format!("{sampler}.npy"));
        succeed_at(
            FAMILY,
            &[
                "sample",
                &run,
                "--count",
                "3",
                "--seed",
                "5",
                "--sampler",
                sampler,
                "--npy",
                &npy,
                "--quiet",
            ],
        );
    }
    ensure!(fs::read(path("plain.npy"))? == fs::read(path("exact.npy"))?, "plain and exact differ");
    ensure!(
        fs::read(path("cached.npy"))? == fs::read(path("exact.npy"))?,
        "cached and exact differ"
    );

    succeed_at(FAMILY, &["compress", &run, "--split", "test", "--out", &path("t.chr"), "--quiet"]);
    succeed_at(FAMILY, &["decompress", &run, &path("t.chr"), "--out", &path("once"), "--quiet"]);
    let whole = fs::read(path("t.chr"))?;
    for cut in [3, 8, whole.len() / 2, whole.len() - 1] {
        fs::write(path("cut.chr"), &whole[..cut])?;
        fail_at(FAMILY, &["decompress", &run, &path("cut.chr"), "--out", &path("x"), "--quiet"], 1);
    }
    let mut other = whole.clone();
    let last = other.len() - 2;
    other[last] ^= 0x40;
    fs::write(path("cut.chr"), &other)?;
    fail_at(FAMILY, &["decompress", &run, &path("cut.chr"), "--out", &path("x"), "--quiet"], 1);
    Ok(())
}

#[test]
fn what_is_given_of_a_picture_stays() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = place.path().join("vq");
    train(&run, &[]);
    let path = |name: &str| place.path().join(name).display().to_string();
    let run = run.display().to_string();
    succeed_at(FAMILY, &["sample", &run, "--count", "2", "--npy", &path("two.npy"), "--quiet"]);
    let two: ndarray::Array4<u16> = ndarray_npy::read_npy(path("two.npy"))?;
    let (image, npy) = (path("two.npy"), path("c.npy"));
    let complete = ["complete", &run, "--image", &image, "--rows", "5", "--count", "3"];
    let written = ["--npy", &npy, "--quiet"];
    succeed_at(FAMILY, &[&complete[..], &["--index", "1"], &written].concat());
    let line = fail_at(FAMILY, &[&complete[..], &["--index", "2"], &written].concat(), 2);
    ensure!(line.contains("--index is 2, but must be below 2"), "{line}");
    let completed: ndarray::Array4<u16> = ndarray_npy::read_npy(path("c.npy"))?;
    for image in completed.outer_iter() {
        ensure!(
            image.slice(ndarray::s![..5, .., ..]) == two.slice(ndarray::s![1, ..5, .., ..]),
            "given rows moved"
        );
    }
    Ok(())
}

#[test]
fn a_run_stopped_in_any_stage_and_resumed_has_the_bits_of_an_unbroken_one() -> Result<()> {
    let place = tempfile::tempdir()?;
    let (whole, broken) = (place.path().join("whole"), place.path().join("broken"));
    // a rate that does not depend on how many steps there will be
    let constant = [
        "--set",
        r#"train.schedule.decay={"kind":"constant"}"#,
        "--set",
        r#"prior_train.schedule.decay={"kind":"constant"}"#,
    ];
    train(&whole, &constant);
    let half = ["--set", "train.num_steps=6", "--stage", "autoencoder"];
    train(&broken, &[&constant[..], &half[..]].concat());
    let name = broken.display().to_string();
    let resume = |more: &[&str]| {
        succeed_at(FAMILY, &[&["train", "--resume", &name, "--quiet"], more].concat());
    };
    resume(&["--num-steps", "12", "--stage", "autoencoder"]);
    resume(&["--stage", "codes"]);
    resume(&["--stage", "prior", "--prior-steps", "3"]);
    resume(&["--prior-steps", "6"]);
    for file in [
        "autoencoder/model.safetensors",
        "codes.safetensors",
        "prior-2x2/model.safetensors",
        "prior-4x4/model.safetensors",
    ] {
        ensure!(fs::read(whole.join(file))? == fs::read(broken.join(file))?, "{file} differs");
    }
    Ok(())
}

#[test]
fn files_of_different_runs_do_not_mix() -> Result<()> {
    let place = tempfile::tempdir()?;
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    train(&a, &[]);
    train(&b, &["--seed", "9"]);
    let name = a.display().to_string();
    let prior = "prior-2x2/model.safetensors";
    let kept = fs::read(a.join(prior))?;
    fs::copy(b.join(prior), a.join(prior))?;
    let line = fail_at(FAMILY, &["sample", &name, "--npy", "x.npy", "--quiet"], 1);
    ensure!(line.contains("was trained on the codes of autoencoder"), "{line}");
    let back = place.path().join("back.png").display().to_string();
    succeed_at(FAMILY, &["reconstruct", &name, "--out", &back]); // priors have no part in it
    fs::write(a.join(prior), kept)?;

    fs::copy(b.join("codes.safetensors"), a.join("codes.safetensors"))?;
    let line = fail_at(FAMILY, &["train", "--resume", &name, "--stage", "prior", "--quiet"], 1);
    ensure!(line.contains("the codes are those of autoencoder"), "{line}");
    let codes = fs::read(b.join("codes.safetensors"))?;
    fs::write(a.join("codes.safetensors"), &codes[..codes.len() / 2])?;
    fail_at(FAMILY, &["train", "--resume", &name, "--stage", "prior", "--quiet"], 1);

    let line = fail_at(FAMILY, &["train", "--resume", &name, "--num-steps", "20", "--quiet"], 1);
    ensure!(line.contains("keeps the training of its autoencoder"), "{line}");
    let line = fail_at(FAMILY, &["train", "--resume", &name, "--data", "noise", "--quiet"], 2);
    ensure!(line.contains("--data is noise, but must be left out: a resumed run keeps"), "{line}");
    let new = place.path().join("new").display().to_string();
    let line = fail_at(FAMILY, &["train", "--stage", "prior", "--out", &new], 2);
    ensure!(
        line.contains("--stage is prior, but must be all, autoencoder or classifier"),
        "{line}"
    );
    ensure!(!Path::new(&new).exists(), "a refused run leaves nothing");
    for (flag, value, field) in [
        ("--num-steps", "0", "train.num_steps is 0"),
        ("--learning-rate", "-1", "train.learning_rate is -1"),
    ] {
        let line = fail_at(FAMILY, &["train", flag, value, "--out", &new], 2);
        ensure!(line.contains(field), "{line}");
    }

    let line = fail_at(FAMILY, &["sample", "no/such/run", "--npy", "x.npy"], 1);
    ensure!(line.contains("is no folder of a run"), "{line}");
    let line = fail_at(
        FAMILY,
        &[
            "train",
            "--out",
            &place.path().join("c").display().to_string(),
            "--set",
            "model.factors=[16]",
            "--quiet",
        ],
        2,
    );
    ensure!(line.contains("model.height is 8, but must be a multiple of 16"), "{line}");
    Ok(())
}

#[test]
fn a_run_of_version_1_opens() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = fixture("codes");
    let value = json(&["evaluate", text(&run), "--limit", "50", "--json", "--quiet"])?;
    let close = |value: &Value, wanted: f64| {
        let found = value.as_f64().unwrap_or(f64::NAN);
        ensure!((found - wanted).abs() < 1e-3, "{found}, not {wanted}");
        Ok(())
    };
    close(&value["reconstruction"], 0.3221)?;
    close(&value["levels"][0]["prior_nats_per_code"], 2.6573)?;
    close(&value["levels"][1]["prior_nats_per_code"], 2.4794)?;
    ensure!(value["weights"] == "raw (autoencoder), ema (priors)", "{value}");
    let back = place.path().join("back");
    let chr = fixture("codes.chr");
    succeed_at(FAMILY, &["decompress", text(&run), text(&chr), "--out", text(&back), "--quiet"]);
    let read = |path: &Path| ndarray_npy::read_npy::<_, ndarray::Array4<u16>>(path);
    let (found, wanted) = (read(&back.join("images.npy"))?, read(&fixture("codes.npy"))?);
    ensure!(found.dim() == wanted.dim(), "{:?}", found.dim());
    // the codes are exact; what libtorch makes of them may round to the next level elsewhere
    ensure!(found.iter().zip(&wanted).all(|(&a, &b)| a.abs_diff(b) <= 1), "other pictures");
    Ok(())
}

#[test]
fn a_run_of_another_crate_is_named_with_the_command_that_opens_it() -> Result<()> {
    let place = tempfile::tempdir()?;
    let run = fixture("codes");
    let mut made = Vec::new();
    for (family, model) in [("pixelcnn", "digits"), ("wavenet", "voice")] {
        let folder = place.path().join(family);
        fs::create_dir(&folder)?;
        fs::write(folder.join("config.json"), "{}")?;
        fs::copy(fixture(&format!("{model}.safetensors")), folder.join("model.safetensors"))?;
        made.push((family, folder));
    }
    made.push((FAMILY, run));
    for (family, folder) in &made {
        for (other, _) in made.iter().filter(|(other, _)| other != family) {
            let line = fail_at(other, &["evaluate", text(folder)], 1);
            let try_it = format!("try `chainrule {family} info {}`", text(folder));
            ensure!(
                line.contains(&try_it) && line.contains(&format!(" those of {other}")),
                "{line}"
            );
            let line = fail_at(other, &["train", "--resume", text(folder)], 1);
            ensure!(line.contains(&format!(" of {family}, ")) || other == &FAMILY, "{line}");
        }
        succeed_at(family, &["info", text(folder)]);
    }
    Ok(())
}

#[test]
fn outputs_of_codes_are_refused_before_the_work() -> Result<()> {
    let place = tempfile::tempdir()?;
    let path = |name: &str| place.path().join(name).display().to_string();
    fs::write(path("file"), "")?;
    let run = fixture("codes");
    let run = text(&run);
    let line = fail_at(FAMILY, &["train", "--out", &path("file/run")], 2);
    ensure!(line.contains("--out is ") && line.contains("must be a folder, but"), "{line}");
    for verb in ["sample", "reconstruct", "codebook", "fidelity"] {
        let line = fail_at(FAMILY, &[verb, run, "--out", &path("x.jpg")], 2);
        ensure!(line.contains("x.jpg, but must be a name that ends in .png"), "{line}");
    }
    fs::create_dir(path("thesis"))?;
    fs::write(path("thesis/thesis.tex"), "text")?;
    let line = fail_at(FAMILY, &["collapse", "--out", &path("thesis")], 1);
    ensure!(line.contains("holds files, but no run"), "{line}");
    let made = path("c");
    let collapse = ["collapse", "--out", &made, "--num-steps", "1", "--threads", "1", "--quiet"];
    succeed_at(FAMILY, &collapse);
    let line = fail_at(FAMILY, &collapse, 1);
    ensure!(line.contains("holds a run already"), "{line}");
    succeed_at(FAMILY, &[&collapse[..], &["--overwrite"]].concat());
    for verb in ["sample", "decompress", "info"] {
        let help = succeed_at(FAMILY, &[verb, "--help"]);
        ensure!(help.contains("A run folder") && !help.contains("heckpoint"), "{help}");
    }
    let help = succeed_at(FAMILY, &["decompress", "--help"]);
    ensure!(help.contains("<MODEL> <FILE>"), "the model comes first: {help}");
    Ok(())
}

/// Pictures of 8 x 8 pixels in folders of their own.
fn pictures(root: &Path, paths: &[&str]) -> Result<()> {
    for (shade, path) in paths.iter().enumerate() {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        image::GrayImage::from_fn(8, 8, |x, y| image::Luma([((x + y) * 16) as u8 + shade as u8]))
            .save(path)?;
    }
    Ok(())
}

#[test]
fn a_class_without_a_training_picture_is_refused() -> Result<()> {
    let place = tempfile::tempdir()?;
    let (data, out) = (place.path().join("data"), place.path().join("run"));
    pictures(&data, &["train/cat/a.png", "valid/cat/b.png", "valid/dog/c.png", "test/cat/d.png"])?;
    let args = ["train", "--data", text(&data), "--out", text(&out), "--quiet"];
    let wanted =
        "the class dog has no training image (1 valid, 0 test); add some, or leave the class out";
    let line = fail_at(FAMILY, &args, 1);
    ensure!(line.contains(wanted), "{line}");
    let told = [&args[..], &["--preset", "digits"]].concat();
    let line = fail_at("pixelcnn", &told, 1);
    ensure!(line.contains(wanted), "{line}");
    ensure!(!out.exists(), "a refused run leaves nothing");
    Ok(())
}

#[test]
fn no_picture_is_lost_where_two_have_one_name() -> Result<()> {
    let place = tempfile::tempdir()?;
    pictures(place.path(), &["cat/a.png", "dog/a.png"])?;
    let [cat, dog] = ["cat/a.png", "dog/a.png"].map(|it| place.path().join(it));
    let out = place.path().join("x.chr");
    for (family, model) in [(FAMILY, "codes"), ("pixelcnn", "digits.safetensors")] {
        let model = fixture(model);
        let args = ["compress", text(&model), text(&cat), text(&dog), "--out", text(&out)];
        let line = fail_at(family, &args, 1);
        let both = format!("{} and {} would be restored to one name", text(&cat), text(&dog));
        ensure!(line.contains(&both) && !out.exists(), "{line}");
    }
    Ok(())
}
