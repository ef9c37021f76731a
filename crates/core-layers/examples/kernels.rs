//! What each kernel brings, one JSON object a measurement: microseconds forward and backward of the layer with kernels on and
//! off (its plain twin), at the shapes of the families' training steps, and of a copy of as many bytes as it must move,
//! which is the roofline of what memory binds.
//!
//! `cargo run --release -p core-layers --example kernels -- [--kernel NAME] [--device cpu|cuda] [--threads T]`, and
//! `kernels table FILE` prints such lines, and those of `scripts/yardstick/kernels.py`, as a table.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use core_layers::{
    Conditionals, attention,
    autocast::Precision,
    conv,
    device::{DeviceChoice, keep_memory, set_threads},
    feed_forward, kernels,
    likelihood::Logistics,
    norm::Norm,
    quantise::{QuantiserConfig, VectorQuantiser},
    rope::Rotations,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn, nn::Module};

#[derive(Debug, Parser)]
struct Args {
    /// Only this kernel.
    #[arg(long)]
    kernel: Option<String>,
    /// Where tensors live.
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// Threads of the CPU.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Repetitions, of which the best counts.
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints lines as a table.
    Table {
        /// Lines of this program and of its yardstick.
        file: PathBuf,
    },
}

/// What is measured, of the inputs of a subject.
type Layer = dyn Fn(&[Tensor]) -> Tensor;
/// Device, threads and kernel.
type Key = (String, u64, String);
/// What was measured, in the order of the table.
const COLUMNS: [&str; 5] = ["plain_us", "eager_us", "compiled_us", "ours_us", "copy_us"];

/// Shapes, and what was measured under each column.
#[derive(Default)]
struct Row {
    shapes: String,
    columns: [Vec<f64>; COLUMNS.len()],
}

/// A layer at the shapes of a training step.
struct Subject {
    name: &'static str,
    shapes: String,
    inputs: Vec<Tensor>,
    /// Bytes that a forward and a backward pass must move at the least.
    bytes: usize,
    run: Box<Layer>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Command::Table { file }) = &args.command {
        return table(file);
    }
    keep_memory();
    set_threads(args.threads)?;
    let device = args.device.open()?;
    for make in
        [gate, layer_norm, rms_norm, swiglu, gelu, rotary_attention, cross_entropy, mixture, lookup]
    {
        let subject = make(device);
        if args.kernel.as_deref().is_none_or(|it| it == subject.name) {
            measure(&args, device, &subject);
        }
    }
    Ok(())
}

fn measure(args: &Args, device: Device, subject: &Subject) {
    let ours = best(args.repeats, device, || step(subject));
    let plain = best(args.repeats, device, || kernels::without(|| step(subject)));
    let bytes = Tensor::empty([subject.bytes as i64 / 2], (Kind::Uint8, device));
    let copy = best(args.repeats, device, || bytes.copy());
    let microseconds = |seconds: f64| (seconds * 1e7).round() / 10.;
    println!(
        "{}",
        json!({
            "bench": "kernel", "kernel": subject.name, "shapes": subject.shapes, "device": args.device.to_string(),
            "threads": args.threads, "bytes": subject.bytes, "ours_us": microseconds(ours),
            "plain_us": microseconds(plain), "copy_us": microseconds(copy),
        })
    );
}

/// Forward and, where there is a gradient, backward.
fn step(subject: &Subject) -> Tensor {
    let ys = (subject.run)(&subject.inputs);
    let asked: Vec<&Tensor> = subject.inputs.iter().filter(|it| it.requires_grad()).collect();
    if asked.is_empty() {
        return ys;
    }
    Tensor::run_backward(&[ys], &asked, false, false).remove(0)
}

/// The least seconds of a call, over `repeats` runs of a hundredth of a second and more.
fn best(repeats: usize, device: Device, mut work: impl FnMut() -> Tensor) -> f64 {
    let mut run = |count: usize| {
        let start = Instant::now();
        let mut last = None;
        (0..count).for_each(|_| last = Some(work()));
        if device != Device::Cpu
            && let Some(last) = last
        {
            let _ = last.flatten(0, -1).narrow(0, 0, 1).to_device(Device::Cpu); // waits for the device
        }
        start.elapsed().as_secs_f64() / count as f64
    };
    let count = (2e-2 / run(2).max(1e-7)).ceil().clamp(1., 1e4) as usize;
    (0..repeats).map(|_| run(count)).fold(f64::INFINITY, f64::min)
}

fn random(sizes: &[i64], kind: Kind, device: Device) -> Tensor {
    Tensor::randn(sizes, (Kind::Float, device)).to_kind(kind).set_requires_grad(true)
}

/// Bytes of tensors.
fn bytes(of: &[&Tensor]) -> usize {
    of.iter().map(|it| it.numel() * it.kind().elt_size_in_bytes()).sum()
}

/// The gate of `gated-mnist`, 16 images told their class.
fn gate(device: Device) -> Subject {
    let xs = random(&[16, 28, 28, 128], Kind::BFloat16, device).permute([0, 3, 1, 2]).detach();
    let inputs = vec![xs.set_requires_grad(true), random(&[16, 128], Kind::BFloat16, device)];
    let bytes = bytes(&[&inputs[0]]) * 4; // x and y, then x, dy and dx
    let run = |it: &[Tensor]| conv::gate(&it[0], Some(&it[1]));
    Subject {
        name: "gate",
        shapes: "[16, 128, 28, 28] bf16".into(),
        inputs,
        bytes,
        run: Box::new(run),
    }
}

/// A norm of `book-gpt2` or `book-llama`: 12 texts of 256 tokens, 384 wide.
fn norm(name: &'static str, device: Device, of: fn(&nn::Path<'_>, i64, f64) -> Norm) -> Subject {
    let norm = of(&nn::VarStore::new(device).root(), 384, 1e-5);
    let inputs = vec![random(&[12, 256, 384], Kind::Float, device)];
    let bytes = bytes(&[&inputs[0]]) * 4; // x in f32, y in bf16, then x, dy in bf16 and dx
    let run = move |it: &[Tensor]| {
        let _bf16 = Precision::Bf16.autocast(it[0].device());
        norm.forward(&it[0])
    };
    Subject { name, shapes: "[12, 256, 384] f32 to bf16".into(), inputs, bytes, run: Box::new(run) }
}

fn layer_norm(device: Device) -> Subject {
    norm("layer norm", device, Norm::layer)
}

fn rms_norm(device: Device) -> Subject {
    norm("rms norm", device, Norm::root_mean_square)
}

/// Between the matrices of `book-llama`.
fn swiglu(device: Device) -> Subject {
    let inputs: Vec<Tensor> =
        (0..2).map(|_| random(&[12, 256, 1024], Kind::BFloat16, device)).collect();
    let bytes = bytes(&[&inputs[0]]) * 8;
    let run = |it: &[Tensor]| feed_forward::swiglu(&it[0], &it[1]);
    Subject {
        name: "swiglu",
        shapes: "2 of [12, 256, 1024] bf16".into(),
        inputs,
        bytes,
        run: Box::new(run),
    }
}

/// Between the matrices of `book-gpt2`.
fn gelu(device: Device) -> Subject {
    let inputs = vec![random(&[12, 256, 1536], Kind::BFloat16, device)];
    let bytes = bytes(&[&inputs[0]]) * 5;
    let run = |it: &[Tensor]| feed_forward::gelu_tanh(&it[0]);
    Subject {
        name: "gelu",
        shapes: "[12, 256, 1536] bf16".into(),
        inputs,
        bytes,
        run: Box::new(run),
    }
}

/// RoPE and causal attention of `book-llama`: 6 heads, 2 of keys and values, 64 wide.
fn rotary_attention(device: Device) -> Subject {
    let frequencies: Vec<f64> = (0..32).map(|i| 1e4f64.powf(-f64::from(i) / 32.)).collect();
    let turn = Rotations::new(&frequencies, device).at(&Tensor::arange(256, (Kind::Int64, device)));
    let inputs = vec![random(&[12, 256, 640], Kind::BFloat16, device)];
    let bytes = bytes(&[&inputs[0]]) * 4;
    let run = move |it: &[Tensor]| attention::joint(&it[0], Some(&turn), [6, 2], 0.);
    Subject {
        name: "rope, attention",
        shapes: "[12, 256, 640] bf16".into(),
        inputs,
        bytes,
        run: Box::new(run),
    }
}

/// The loss of 12 texts of 256 tokens among 4,096.
fn cross_entropy(device: Device) -> Subject {
    let inputs = vec![random(&[12, 256, 4096], Kind::BFloat16, device)];
    let symbols = Tensor::randint(4096, [12, 256], (Kind::Int64, device));
    let bytes = bytes(&[&inputs[0]]) * 3; // once forward; read and written backward
    let run = move |it: &[Tensor]| Conditionals::Logits(it[0].shallow_clone()).log_prob(&symbols);
    Subject {
        name: "cross-entropy",
        shapes: "[12, 256, 4096] bf16".into(),
        inputs,
        bytes,
        run: Box::new(run),
    }
}

/// The loss of `photos-logistics`: 16 images of 32 x 32 x 3, 10 logistics over 256 levels.
fn mixture(device: Device) -> Subject {
    let inputs: Vec<Tensor> =
        (0..3).map(|_| random(&[16, 3072, 10], Kind::Float, device)).collect();
    let symbols = Tensor::randint(256, [16, 3072], (Kind::Int64, device));
    let bytes = bytes(&[&inputs[0]]) * 9;
    let run = move |it: &[Tensor]| {
        let [logits, means, log_scales] = [0, 1, 2].map(|i| it[i].shallow_clone());
        Logistics { logits, means, log_scales: log_scales - 3., levels: 256 }.log_prob(&symbols)
    };
    Subject {
        name: "logistics",
        shapes: "3 of [16, 3072, 10] f32".into(),
        inputs,
        bytes,
        run: Box::new(run),
    }
}

/// The codes of 32 pictures of 8 x 8 among 512, and what moves the codebook.
fn lookup(device: Device) -> Subject {
    let vs = nn::VarStore::new(device);
    let config = QuantiserConfig { codes: 512, dim: 64, ..QuantiserConfig::default() };
    let quantiser = VectorQuantiser::new(&vs.root(), &config).expect("a configuration that fits");
    let inputs = vec![Tensor::randn([2048, 64], (Kind::Float, device))];
    let bytes = bytes(&[&inputs[0]]) + 3 * 512 * 64 * 4;
    let run = move |it: &[Tensor]| {
        let codes = quantiser.nearest(&it[0]);
        quantiser.update(&it[0], &codes);
        codes
    };
    Subject {
        name: "nearest code, EMA",
        shapes: "[2048, 64], [512, 64] f32".into(),
        inputs,
        bytes,
        run: Box::new(run),
    }
}

/// Medians of what was measured of the same, in microseconds.
fn table(file: &Path) -> Result<()> {
    let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
    for (number, line) in fs::read_to_string(file)?.lines().enumerate() {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let (Some("kernel"), Some(threads)) = (line["bench"].as_str(), line["threads"].as_u64())
        else {
            continue;
        };
        let row = rows.entry((text("device"), threads, text("kernel"))).or_default();
        if line["shapes"].is_string() {
            row.shapes = text("shapes");
        }
        for (column, name) in row.columns.iter_mut().zip(COLUMNS) {
            column.extend(line[name].as_f64());
        }
    }
    println!(
        "| forward and backward, microseconds | shapes | device, threads | plain twin | PyTorch eager | torch.compile | ours | a \
         copy of its bytes | ours to the best other |\n|---|---|---|--:|--:|--:|--:|--:|--:|"
    );
    for ((device, threads, kernel), Row { shapes, columns }) in &mut rows {
        let medians = columns.each_mut().map(|it| (!it.is_empty()).then(|| median(it)));
        let others = medians[..3].iter().flatten().copied().fold(f64::INFINITY, f64::min);
        let shown = medians.map(|it| it.map_or("not run".to_owned(), |it| format!("{it:.1}")));
        let ratio = medians[3].map_or_else(String::new, |ours| format!("{:.2}x", others / ours));
        println!("| {kernel} | {shapes} | {device}, {threads} | {} | {ratio} |", shown.join(" | "));
    }
    Ok(())
}

fn median(xs: &mut [f64]) -> f64 {
    xs.sort_by(f64::total_cmp);
    f64::midpoint(xs[(xs.len() - 1) / 2], xs[xs.len() / 2])
}
