//! The engine beside the full pass, where kernels run: on the CPU under the emulator, and on a GPU if there is one.

use core_layers::{
    Conditional, audit,
    kernels::emulated::{on_every_gpu, round},
    sampling::draw,
};
use tch::nn;

use super::{
    super::{
        ExactEngine,
        tests::{SAMPLES, configs, context, network},
    },
    *,
};
use crate::model::Clips;

/// The network of `config` with weights that `kind` holds, on the CPU and on `device`.
fn rounded(
    config: &crate::config::WaveNetConfig,
    kind: Kind,
    device: Device,
) -> [(nn::VarStore, WaveNet); 2] {
    [Device::Cpu, device].map(|device| {
        let (mut vs, model) = network(config);
        round(&vs, kind);
        vs.set_device(device);
        (vs, model)
    })
}

#[test]
fn every_sample_has_the_conditionals_of_the_full_pass() {
    on_every_gpu(|device, gpu| {
        for (name, config) in configs() {
            for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
                let [(_, plain), (_vs, model)] = rounded(&config, kind, device);
                let clips = Clips { model: &plain, samples: SAMPLES };
                let engine = CudaEngine::new(&model, SAMPLES, kind, device).unwrap();
                let law = audit::steppers_agree(&clips, &engine, &context(&config, 3), 1);
                // weights are the same in both, all else is f32; far out, a narrow logistic makes more of a rounding
                let limit = if config.head == Head::Softmax { 1e-4 } else { 1e-3 };
                assert!(law.figure < limit, "{name}, {kind:?}, {gpu}: {law:?}");
            }
        }
    });
}

#[test]
fn the_kernel_draws_what_the_host_would() {
    on_every_gpu(|device, gpu| {
        for (name, config) in configs() {
            let [(_, plain), (_vs, model)] = rounded(&config, Kind::Float, device);
            let context = context(&config, 2);
            // a rate at which a clip is several launches
            let model = WaveNet { config: config_of_rate(&config, 400), ..model };
            let engine = CudaEngine::new(&model, SAMPLES, Kind::Float, device).unwrap();
            for (temperature, known) in [(1., 0), (1., 7), (0.7, 3)] {
                let config = SamplingConfig { temperature, ..SamplingConfig::default() };
                let draws = Draws { config, seed: 4, known };
                let given = Array2::from_shape_fn((2, SAMPLES), |(row, t)| {
                    if t < known { (row + 3 * t) as u32 % 12 } else { 0 }
                });
                let [mut found, mut wanted] = [given.clone(), given];
                let mut heard = Vec::new();
                let mut tick = |column: &[u32]| {
                    heard.push(column.to_vec());
                    ControlFlow::Continue(())
                };
                engine.draw(&context, found.view_mut(), draws, &mut tick).unwrap();
                let exact = ExactEngine::new(&plain, SAMPLES).unwrap();
                let mut stepper = exact.stepper(&context);
                draw(stepper.as_mut(), exact.layout(), wanted.view_mut(), 0, draws, &|_| {});
                assert_eq!(found, wanted, "{name}, {temperature}, {known} known, {gpu}");
                let columns: Vec<_> = found.columns().into_iter().map(|it| it.to_vec()).collect();
                assert_eq!(heard, columns, "{name}, {gpu}");
            }
        }
    });
}

fn config_of_rate(
    config: &crate::config::WaveNetConfig,
    sample_rate: u32,
) -> crate::config::WaveNetConfig {
    crate::config::WaveNetConfig { sample_rate, ..config.clone() }
}

#[test]
fn feeding_without_asking_and_asking_twice_change_nothing() {
    on_every_gpu(|device, gpu| {
        let (name, config) = configs().swap_remove(1);
        let [_, (_vs, model)] = rounded(&config, Kind::Float, device);
        let engine = CudaEngine::new(&model, SAMPLES, Kind::Float, device).unwrap();
        let context = context(&config, 1);
        let symbols = audit::random_symbols(engine.layout(), 1, 2);
        let [mut asked, mut silent] = [engine.stepper(&context), engine.stepper(&context)];
        let [mut a, mut b] = [Conditional::default(), Conditional::default()];
        for t in 0..SAMPLES - 1 {
            asked.next(&mut a);
            asked.next(&mut a);
            asked.feed(&[symbols[[0, t]]]);
            silent.feed(&[symbols[[0, t]]]);
        }
        asked.next(&mut a);
        silent.next(&mut b);
        assert_eq!(a, b, "{name}, {gpu}");
    });
}

#[test]
fn the_engine_is_refused_where_no_kernels_run() {
    let (_, config) = configs().swap_remove(0);
    let (_vs, model) = network(&config);
    let error = CudaEngine::new(&model, SAMPLES, Kind::Float, Device::Cpu).unwrap_err();
    assert!(error.is::<ConfigError>());
    let wanted =
        "--sampler is cuda, but must be exact, fast, cached or plain where no CUDA kernels run";
    assert_eq!(error.to_string(), wanted);
}
