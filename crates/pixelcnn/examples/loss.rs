//! What the loss of photographs by mixtures of logistics costs in a training step, one JSON object: by the kernel and by its formula in
//! libtorch operations, in CPU time of one thread, taken in turns; random weights and images.
//!
//! `cargo run --release -p pixelcnn --example loss -- [REPEATS]`: the preset `photos-logistics`. Of several repetitions the best
//! counts.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::fs;

use anyhow::{Context as _, Result, bail};
use core_layers::{
    Autoregressive as _, Conditionals,
    device::{keep_memory, set_threads},
    kernels,
    likelihood::Logistics,
};
use pixelcnn::{
    config::preset,
    model::{ImageContext, Model},
};
use serde_json::json;
use tch::{Device, Kind, Tensor, nn};

fn main() -> Result<()> {
    let repeats = std::env::args().nth(1).map_or(Ok(3), |it| it.parse())?;
    set_threads(1)?;
    keep_memory();
    tch::manual_seed(0);
    let run = preset("photos-logistics").context("the preset")?;
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &run.model)?;
    let image = run.model.image();
    let sizes = [run.train.batch_size as i64, image.dims()];
    let xs = Tensor::randint(image.levels, sizes, (Kind::Int64, Device::Cpu));
    let context = ImageContext::none(run.train.batch_size);
    let forward = || {
        let _autocast = run.train.precision.autocast(Device::Cpu);
        match model.forward(&model.embed(&xs), &context, true) {
            Conditionals::Logistics(it) => Ok(it),
            Conditionals::Logits(_) => bail!("no mixture"),
        }
    };
    let [mut steps, mut losses] = [[f64::INFINITY; 2]; 2];
    for _ in 0..repeats {
        for (i, is_plain) in [false, true].into_iter().enumerate() {
            let start = cpu_ms()?;
            learn(&forward()?, &xs, is_plain);
            steps[i] = steps[i].min(cpu_ms()? - start);
            let Logistics { logits, means, log_scales, levels } = forward()?;
            let [logits, means, log_scales] =
                [logits, means, log_scales].map(|it| it.detach().set_requires_grad(true));
            let start = cpu_ms()?;
            learn(&Logistics { logits, means, log_scales, levels }, &xs, is_plain);
            losses[i] = losses[i].min(cpu_ms()? - start);
        }
    }
    let figures = json!({
        "bench": "loss", "model": "photos-logistics", "values": xs.numel(), "threads": 1,
        "loss_cpu_ms": losses[0], "plain_loss_cpu_ms": losses[1],
        "step_cpu_ms": steps[0], "plain_step_cpu_ms": steps[1],
    });
    println!("{figures}");
    Ok(())
}

/// The loss and all gradients; the optimiser is left out.
fn learn(mixtures: &Logistics, xs: &Tensor, is_plain: bool) {
    let log_prob = || mixtures.log_prob(xs);
    let log_prob = if is_plain { kernels::without(log_prob) } else { log_prob() };
    log_prob.mean(Kind::Float).neg().backward();
}

/// How long this thread had a core, in milliseconds.
fn cpu_ms() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().context("a number")?.parse()?;
    Ok(nanoseconds / 1e6)
}
