//! What the loss of 16-bit sound costs in a training step, one JSON object: by the kernel of mixtures of logistics and by its
//! formula in libtorch operations, in CPU time of one thread, taken in turns; random weights and sound.
//!
//! `cargo run --release -p wavenet --example loss -- [REPEATS]`: the preset `speech-16bit`. Of several repetitions the best
//! counts.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::fs;

use anyhow::{Context as _, Result, bail};
use core_layers::{
    Conditionals,
    device::{keep_memory, set_threads},
    kernels,
    likelihood::Logistics,
};
use serde_json::json;
use tch::{Device, Kind, Tensor, nn};
use wavenet::{
    config::preset,
    model::{SoundContext, WaveNet},
};

fn main() -> Result<()> {
    let repeats = std::env::args().nth(1).map_or(Ok(3), |it| it.parse())?;
    set_threads(1)?;
    keep_memory();
    tch::manual_seed(0);
    let run = preset("speech-16bit").context("the preset")?;
    let vs = nn::VarStore::new(Device::Cpu);
    let model = WaveNet::new(&vs.root(), &run.model)?;
    let sizes = [run.train.batch_size as i64, i64::from(run.data.window)];
    let xs = Tensor::randint(run.model.levels, sizes, (Kind::Int64, Device::Cpu));
    let context = SoundContext::none(run.train.batch_size);
    let context = context.with_speakers(vec![0; run.train.batch_size]);
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
        "bench": "loss", "model": "speech-16bit", "values": xs.numel(), "threads": 1,
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
