//! The engine beside the full pass, where kernels run: on the CPU under the emulator, and on a GPU if there is one.

use core_layers::{
    audit,
    kernels::emulated::{on_every_gpu, round},
};
use tch::nn;

use super::{
    super::{
        ExactEngine,
        tests::{configs, network},
    },
    *,
};
use crate::config::ModelConfig;

/// The model of `config` with weights that `kind` holds, on the CPU and on `device`.
fn rounded(config: &ModelConfig, kind: Kind, device: Device) -> [(nn::VarStore, Model); 2] {
    [Device::Cpu, device].map(|device| {
        let (mut vs, model) = network(config);
        round(&vs, kind);
        vs.set_device(device);
        (vs, model)
    })
}

/// Whether kernels cannot step that model.
fn is_refused(name: &str) -> bool {
    ["nade", "made", "attention"].iter().any(|it| name.starts_with(it))
}

#[test]
fn every_value_has_the_conditional_of_the_full_pass() {
    on_every_gpu(|device, gpu| {
        // the order of fibres is the same matter whatever T is
        let all = [Kind::Float, Kind::BFloat16, Kind::Half];
        let kinds = if gpu.contains("Forward") || gpu == "cuda" { &all[..] } else { &all[..1] };
        for (name, config, context) in configs() {
            if is_refused(name) {
                continue;
            }
            for &kind in kinds {
                let [(_, plain), (_vs, model)] = rounded(&config, kind, device);
                let engine = CudaEngine::new(&model, kind, device).unwrap();
                let law = audit::steppers_agree(&plain, &engine, &context, 2);
                // weights are the same in both, all else is f32
                assert!(law.figure < 5e-5, "{name}, {kind:?}, {gpu}: {law:?}");
            }
        }
    });
}

#[test]
fn the_kernel_draws_what_the_host_would() {
    on_every_gpu(|device, gpu| {
        for (name, config, context) in configs() {
            let of_interest = ["residual colour", "gated class", "gated logistics"];
            if !of_interest.contains(&name) {
                continue;
            }
            let [(_, plain), (_vs, model)] = rounded(&config, Kind::Float, device);
            let engine = CudaEngine::new(&model, Kind::Float, device).unwrap();
            let exact = ExactEngine::new(&plain).unwrap();
            for (temperature, known) in [(1., 0), (1., 7), (0.7, 3)] {
                let config = SamplingConfig { temperature, ..SamplingConfig::default() };
                let draws = Draws { config, seed: 4, known };
                let given = Array2::from_shape_fn((3, engine.layout().len()), |(row, value)| {
                    if value < known { (row + value) as u32 % 3 } else { 0 }
                });
                let [mut found, mut wanted] = [given.clone(), given];
                let heard = std::cell::Cell::new(0);
                engine.draw(&context, found.view_mut(), draws, &|count| {
                    heard.set(heard.get() + count);
                });
                let mut stepper = exact.stepper(&context);
                let layout = exact.layout();
                sampling::draw(stepper.as_mut(), layout, wanted.view_mut(), 0, draws, &|_| {});
                assert_eq!(found, wanted, "{name}, {temperature}, {known} known, {gpu}");
                assert_eq!(heard.get(), found.len());
            }
        }
    });
}

#[test]
fn what_kernels_cannot_step_is_refused_in_one_line() {
    on_every_gpu(|device, _| {
        for (name, config, _) in configs() {
            let [_, (_vs, model)] = rounded(&config, Kind::Float, device);
            let refused = CudaEngine::new(&model, Kind::Float, device).err();
            assert_eq!(refused.is_some(), is_refused(name), "{name}: {refused:?}");
            let line = refused.map(|it| it.to_string()).unwrap_or_default();
            assert!(
                line.is_empty() || line.starts_with("--sampler is cuda, but must be "),
                "{line}"
            );
        }
    });
    let (_, config, _) = configs().swap_remove(0);
    let (_vs, model) = network(&config);
    let line = CudaEngine::new(&model, Kind::Float, Device::Cpu).unwrap_err().to_string();
    let wanted = "--sampler is cuda, but must be exact, cached or plain where no CUDA kernels run";
    assert_eq!(line, wanted);
}
