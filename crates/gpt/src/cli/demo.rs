//! The demo: a small decoder on the embedded book, measured against compressors, with prose.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::{
    cli::{DemoArgs, counted},
    dataset::Split,
    device::physical_cores,
    plot::learning_curve,
    run::{METRICS, RunFolder},
    training::Ending,
};
use tch::Device;

use super::{
    rivals,
    train::{fit_to_data, watch},
};
use crate::{
    config,
    data::{self, DataConfig, Tokens},
    evaluate::{self, Documents as _},
    sample::{
        ExactEngine,
        codec::{self, TextCodec},
    },
    text::Tokenizer,
    train::Origin,
    trained::{Trained, Weights},
};

/// Runs the demo.
pub(super) fn run(args: &DemoArgs) -> Result<()> {
    let args = &args.placed();
    println!("The demo: a book, one token at a time, on two cores in about three minutes.");
    println!("All commands: gpt --help. Everything it makes goes to {}/.\n", args.out.display());
    core_layers::cli::ensure_folder("--out", &args.out)?;
    fs::create_dir_all(&args.out)?;
    let trained = fit(args)?;
    let text = table(&trained)?;
    if !args.quick {
        code(&trained, &text)?;
    }
    prose(args)
}

fn fit(args: &DemoArgs) -> Result<Trained> {
    let Some(mut run) = config::run("demo") else { bail!("there is no preset demo") };
    let mut origin = Origin::default();
    for line in fit_to_data(&mut run, &mut origin)? {
        println!("{line}");
    }
    if args.quick {
        run.train.num_steps = 20;
        run.train.eval_examples = 2;
    }
    let path = args.out.join("book");
    println!("Training a decoder: {} steps.", run.train.num_steps);
    let folder = RunFolder::create(&path, true)?;
    if let Ending::Stopped { step } = watch(&run, Some(&origin), &folder, false)? {
        bail!("stopped at step {step}");
    }
    Trained::open(&path, Weights::Ema, Device::Cpu)
}

/// Prints what the test text costs; returns it.
fn table(trained: &Trained) -> Result<Vec<u8>> {
    let about = trained.about.as_ref().context("a run says how it came about")?;
    let auto = DataConfig { tokenizer: "auto".into(), ..about.run.data.clone() };
    let dataset = data::load_for(&auto, Some(&trained.tokenizer))?;
    let test = dataset.split(Split::Test);
    let text = bytes(test, &trained.tokenizer);
    let context = trained.decoder.config().context as usize;
    let windows = evaluate::windows(&test.lengths(), context, context / 2);
    let score = evaluate::score(&trained.decoder, &trained.tokenizer, test, &windows, &mut |_| {});
    let mut rows = rivals::all(&text)?;
    rows.push(("the decoder".into(), score.bits_per_byte()));
    println!(
        "\nThe test text, {} and {}                   bits per byte",
        counted(text.len(), "byte"),
        counted(score.tokens, "token")
    );
    for (name, bits) in rows {
        println!("{}", row(&name, bits));
    }
    Ok(text)
}

fn row(name: &str, bits: f64) -> String {
    format!("  {name:<46} {bits:6.3}  {}", "=".repeat((bits * 8.).round() as usize))
}

/// Compresses the test text by the exact engine, restores it, and prints what the file comes to.
fn code(trained: &Trained, text: &[u8]) -> Result<()> {
    let (config, weights) = (trained.decoder.config(), trained.decoder.weights());
    let codec = TextCodec {
        engine: &ExactEngine::new(config, &weights)?,
        tokenizer: &trained.tokenizer,
        hash: &codec::hash(config, &weights, &trained.tokenizer),
        threads: physical_cores(),
    };
    let file = codec.compress(&codec.spell("test.txt".as_ref(), text)?, &|_| {})?;
    let bits = 8. * file.len() as f64 / text.len() as f64;
    println!("{}", row(&format!("our codec's file ({})", counted(file.len(), "byte")), bits));
    let (_, restored) = codec.decompress(&file, &|_| {})?;
    ensure!(restored == text, "the codec did not restore the test text");
    println!("\nThe file was restored: {}, every bit the same.", counted(text.len(), "byte"));
    Ok(())
}

/// The bytes that tokens stand for.
fn bytes(tokens: &Tokens, tokenizer: &Tokenizer) -> Vec<u8> {
    let spelled = tokens.range(0..tokens.len());
    spelled.flat_map(|token| tokenizer.spelling(token).to_vec()).collect()
}

/// Shows what it writes, and where things lie.
fn prose(args: &DemoArgs) -> Result<()> {
    let run = args.out.join("book");
    let samples = run.join("samples");
    let mut names: Vec<_> = fs::read_dir(&samples)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    if let Some(last) = names.last() {
        println!("\nWhat it writes, drawn token by token:\n");
        for line in fs::read_to_string(last)?.trim_end().lines() {
            println!("  {line}");
        }
    }
    let series = [("training", "train_bits_per_byte"), ("validation", "valid_bits_per_byte")];
    let curve = args.out.join("book-curve.png");
    learning_curve(&curve, &run.join(METRICS), "GPT-2 on a book", "bits per byte", &series)?;
    println!("\nMade in {}/:", args.out.display());
    println!("  book/                the trained model, and its prose while it learnt");
    println!("  book-curve.png       bits per byte while it learnt");
    Ok(())
}
