//! How fast text is decoded, one JSON object a measurement, and the table of such lines.
//!
//! `cargo run --release -p gpt --example decode -- speed MODEL [--weights int8] [--threads 2]`: packing, reading a prompt of 221
//! tokens, writing 128; of several repetitions the median. `flat MODEL`: memory after 10 and after 1,000 short texts. `memory`:
//! bytes a second that the kernels' way of reading gets from memory. `table FILE`: medians, and ratios to llama.cpp.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::{collections::BTreeMap, fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use core_layers::{
    checkpoint,
    encoded::{Encoded, Encoding},
    kernels::{
        decode::{Packed, Workers},
        exact::Variant,
    },
};
use gpt::{
    formats::{self, Delivered},
    sample::{Decode as _, FusedEngine, FusedOptions},
    weights::Weights,
};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Speed,
    Flat,
    Memory,
    Table,
}

#[derive(Debug, Parser)]
struct Args {
    /// What to measure.
    what: What,
    /// The model, or the lines of a table.
    path: Option<PathBuf>,
    /// Matrices in another encoding: int8, int4...; as delivered without.
    #[arg(long)]
    weights: Option<String>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Threads that compute something else at the same time.
    #[arg(long, default_value_t = 0)]
    busy: usize,
    /// Text of which the prompt's tokens are the first.
    #[arg(long, default_value = "README.md")]
    text: PathBuf,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 221)]
    prompt: usize,
    /// Tokens that are written.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Repetitions, of which the median counts.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for _ in 0..args.busy {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    match args.what {
        What::Speed => speed(&args),
        What::Flat => flat(&args),
        What::Memory => memory(&args),
        What::Table => table(&args),
    }
}

impl Args {
    fn path(&self) -> Result<&PathBuf> {
        self.path.as_ref().context("no path was given")
    }

    /// The model, its matrices in the encoding that was asked for.
    fn open(&self) -> Result<Delivered> {
        let mut delivered = formats::open(self.path()?, checkpoint::Weights::Ema)?;
        if let Some(name) = &self.weights {
            let encoding =
                Encoding::of_name(name).with_context(|| format!("no encoding {name}"))?;
            for (name, it) in &mut delivered.weights.0 {
                if it.rows() > 1 && !name.starts_with("position") {
                    let plain = Encoded::from_f32(it.rows(), it.columns(), &it.to_f32());
                    *it =
                        plain.encode(encoding).with_context(|| format!("{name} as {encoding}"))?;
                }
            }
        }
        Ok(delivered)
    }

    fn engine(&self, delivered: &Delivered) -> Result<FusedEngine> {
        let context = Some((self.prompt + self.tokens).min(delivered.config.context as usize));
        let options = FusedOptions { threads: self.threads, context, ..FusedOptions::detect()? };
        FusedEngine::new(&delivered.config, &delivered.weights, options)
    }

    fn prompt(&self, delivered: &Delivered) -> Result<Vec<u32>> {
        let mut tokens = delivered.tokenizer.encode(&fs::read_to_string(&self.text)?);
        tokens.truncate(self.prompt);
        ensure!(tokens.len() == self.prompt, "{} is too short", self.text.display());
        Ok(tokens)
    }
}

fn best(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |it| it.0 as u32)
}

fn median(mut xs: Vec<f64>) -> f64 {
    xs.sort_by(f64::total_cmp);
    xs.get(xs.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Megabytes of this process in memory that no file backs, and large pages among them.
fn resident() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let of = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let number =
            line.and_then(|it| it.split_whitespace().nth(1)).and_then(|it| it.parse().ok());
        number.unwrap_or(0) / 1024
    };
    Ok((of("Anonymous:"), of("AnonHugePages:")))
}

fn speed(args: &Args) -> Result<()> {
    let start = Instant::now();
    let delivered = args.open()?;
    let opened = start.elapsed().as_secs_f64();
    let prompt = args.prompt(&delivered)?;
    let start = Instant::now();
    let engine = args.engine(&delivered)?;
    let packed = start.elapsed().as_secs_f64();
    let Delivered { weights, .. } = delivered;
    drop::<Weights>(weights); // the engine has what it needs
    let (mut reading, mut writing) = (Vec::new(), Vec::new());
    let mut text = Vec::new();
    for _ in 0..args.repeats {
        let mut session = engine.session(1);
        let mut logits = Vec::new();
        let start = Instant::now();
        session.feed(0, &prompt, 1, &mut logits);
        reading.push(prompt.len() as f64 / start.elapsed().as_secs_f64());
        text.clear();
        let start = Instant::now();
        for _ in 0..args.tokens {
            let token = best(&logits);
            text.push(token);
            session.step(&[0], &[token], &mut logits);
        }
        writing.push(args.tokens as f64 / start.elapsed().as_secs_f64());
    }
    let (anonymous, large) = resident()?;
    println!(
        "{}",
        json!({
            "bench": "decode", "engine": "fused", "weights": args.weights.as_deref().unwrap_or("delivered"),
            "threads": args.threads, "busy": args.busy, "decode_tokens_per_second": median(writing),
            "prefill_tokens_per_second": median(reading), "prompt": prompt.len(), "bytes_a_token": engine.bytes(),
            "open_seconds": opened, "pack_seconds": packed, "resident_megabytes": anonymous,
            "large_page_megabytes": large, "text": text,
        })
    );
    Ok(())
}

fn flat(args: &Args) -> Result<()> {
    let delivered = args.open()?;
    let prompt = args.prompt(&delivered)?;
    let engine = args.engine(&delivered)?;
    let mut session = engine.session(1);
    let mut logits = Vec::new();
    let mut after = BTreeMap::new();
    for text in 1..=1000 {
        session.truncate(0, 0);
        session.feed(0, &prompt[..prompt.len().min(1 + text % 16)], 1, &mut logits);
        for _ in 0..4 {
            let token = best(&logits);
            session.step(&[0], &[token], &mut logits);
        }
        if [10, 100, 1000].contains(&text) {
            after.insert(text.to_string(), resident()?.0);
        }
    }
    println!(
        "{}",
        json!({"bench": "flat", "threads": args.threads, "resident_megabytes_after": after})
    );
    Ok(())
}

fn memory(args: &Args) -> Result<()> {
    let (rows, columns) = (1 << 16, 1 << 9); // 128 MiB
    let zeros = Encoded::from_f32(rows, columns, &vec![0.; rows * columns]);
    let packed = Packed::all(&[&zeros], args.threads)?;
    drop(zeros);
    let mut workers = Workers::new(Variant::detect()?, args.threads);
    let rates = (0..3 * args.repeats.max(3)).map(|_| {
        let start = Instant::now();
        workers.read(&packed[0]);
        packed[0].bytes() as f64 / start.elapsed().as_secs_f64()
    });
    let rates: Vec<f64> = rates.collect();
    let most = rates.iter().copied().fold(0., f64::max);
    println!(
        "{}",
        json!({"bench": "memory", "threads": args.threads, "bytes_per_second": median(rates), "greatest": most})
    );
    Ok(())
}

/// Medians over lines of the same kind, a row each.
fn table(args: &Args) -> Result<()> {
    let mut found: BTreeMap<(String, String, u64), Vec<Value>> = BTreeMap::new();
    for line in fs::read_to_string(args.path()?)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let word = |field: &str| line[field].as_str().unwrap_or("").to_owned();
        if line["bench"] == "decode" || line["bench"] == "memory" {
            let what = if line["bench"] == "memory" { "memory".into() } else { word("engine") };
            let key = (what, word("weights"), line["threads"].as_u64().unwrap_or(0));
            found.entry(key).or_default().push(line);
        }
    }
    let of = |lines: &[Value], field: &str| {
        median(lines.iter().filter_map(|line| line[field].as_f64()).collect())
    };
    println!(
        "| | threads | decode, tokens/s | to llama.cpp | GB/s | of memory's | prefill, tokens/s | to llama.cpp |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for ((engine, weights, threads), lines) in &found {
        if engine == "memory" {
            let rate = of(lines, "bytes_per_second") / 1e9;
            println!("| reading memory | {threads} | | | {rate:.1} | | | |");
            continue;
        }
        let rival = found.iter().find(|(key, _)| key.0 == "llama.cpp" && key.2 == *threads);
        let memory = found.iter().find(|(key, _)| key.0 == "memory" && key.2 == *threads);
        let ratio =
            |field: &str| rival.map_or(f64::NAN, |(_, it)| of(lines, field) / of(it, field));
        let (decode, prefill) = ("decode_tokens_per_second", "prefill_tokens_per_second");
        let rate = of(lines, decode) * of(lines, "bytes_a_token");
        let share = memory.map_or(f64::NAN, |(_, it)| 100. * rate / of(it, "bytes_per_second"));
        let read =
            if rate.is_nan() { " | ".into() } else { format!("{:.1} | {share:.0} %", rate / 1e9) };
        println!(
            "| {engine} {weights} | {threads} | {:.0} | {:.2} | {read} | {:.0} | {:.2} |",
            of(lines, decode),
            ratio(decode),
            of(lines, prefill),
            ratio(prefill)
        );
    }
    Ok(())
}
