//! Every kernel beside its plain twin, where kernels run: see [`on_every_gpu`].
//!
//! Twins are computed in f64 of the very inputs, so that the error found is the kernel's.

mod activation;
mod cross_entropy;
mod decode_attention;
mod decoder_layer;
mod gate;
mod logistics;
mod matvec;
mod norm;
mod program;
mod quantise;
mod rope;
mod wavenet;

use std::{collections::BTreeSet, fs, path::Path};

use tch::{Device, Kind, Tensor};

use super::{
    SOURCES,
    emulated::{Order, emulated, on_every_gpu},
};

/// Sizes that a kernel's tails meet.
pub(super) const AWKWARD: [i64; 5] = [0, 1, 31, 33, 1025];

/// Kinds of tensors that kernels take, and how far a value near one may be from its twin's.
pub(super) const KINDS: [(Kind, f64); 3] =
    [(Kind::Float, 2e-6), (Kind::BFloat16, 8e-3), (Kind::Half, 1e-3)];

/// Numbers that differ and repeat nowhere soon, up to `size`.
pub(super) fn numbers(sizes: &[i64], step: f64, size: f64, kind: Kind, device: Device) -> Tensor {
    let count = sizes.iter().product::<i64>();
    let numbers = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * step).sin() * size;
    numbers.reshape(sizes).to_kind(kind).to_device(device)
}

/// The outputs of `of` and, of a fixed combination of them, the gradients of its inputs; in f64 on the CPU.
pub(super) fn values_and_gradients(
    of: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    inputs: &[Tensor],
) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = inputs
        .iter()
        .map(|it| it.detach().copy().set_requires_grad(it.is_floating_point()))
        .collect();
    let outputs = of(&inputs);
    let weigh = |(i, it): (usize, &Tensor)| {
        let weights = numbers(&it.size(), 0.37 + i as f64, 1., Kind::Double, it.device());
        (it.to_kind(Kind::Double) * weights).sum(Kind::Double)
    };
    let loss: Tensor = outputs
        .iter()
        .filter(|it| it.requires_grad())
        .enumerate()
        .map(|(i, it)| weigh((i, it)))
        .sum();
    let asked: Vec<&Tensor> = inputs.iter().filter(|it| it.requires_grad()).collect();
    let gradients = Tensor::run_backward(&[loss], &asked, false, false);
    let plain = |it: &Tensor| it.detach().to_kind(Kind::Double).to_device(Device::Cpu);
    outputs.iter().chain(&gradients).map(plain).collect()
}

/// The greatest difference, in units of `1 + |wanted|`; infinite where only one of two is a number.
pub(super) fn difference(found: &Tensor, wanted: &Tensor) -> f64 {
    assert_eq!(found.size(), wanted.size());
    if found.numel() == 0 {
        return 0.;
    }
    let same = found.eq_tensor(wanted).logical_or(&found.isnan().logical_and(&wanted.isnan()));
    let difference = (found - wanted).abs() / (wanted.abs() + 1.);
    let difference = difference.nan_to_num(f64::INFINITY, None, None);
    difference.masked_fill(&same, 0.).max().double_value(&[])
}

/// Holds `of` to `twin` in values and gradients, both told the inputs that `inputs` makes for a kind and a device.
pub(super) fn ensure_twins(
    of: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    twin: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    inputs: &dyn Fn(Kind, Device) -> Vec<Tensor>,
    what: &str,
) {
    let widen =
        |it: &Tensor| if it.is_floating_point() { it.to_kind(Kind::Double) } else { it.copy() };
    on_every_gpu(|device, gpu| {
        for (kind, tolerance) in KINDS {
            let inputs = inputs(kind, device);
            let found = values_and_gradients(of, &inputs);
            let wide: Vec<Tensor> = inputs.iter().map(widen).collect();
            let wanted = crate::kernels::without(|| values_and_gradients(twin, &wide));
            assert_eq!(found.len(), wanted.len());
            for (i, (found_one, wanted)) in found.iter().zip(&wanted).enumerate() {
                let worst = difference(found_one, wanted);
                assert!(worst <= tolerance, "{what}, {kind:?}, {gpu}: {worst} in number {i}");
            }
            let again = values_and_gradients(of, &inputs);
            assert!(
                found.iter().zip(&again).all(|(a, b)| difference(a, b) == 0.),
                "{what}, {gpu}: other bits"
            );
        }
    });
}

/// Holds what has no gradients, `of`, to `twin`, as [`ensure_twins`] does.
pub(super) fn ensure_same_values(
    of: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    twin: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    inputs: &dyn Fn(Kind, Device) -> Vec<Tensor>,
    what: &str,
) {
    let widen =
        |it: &Tensor| if it.is_floating_point() { it.to_kind(Kind::Double) } else { it.copy() };
    on_every_gpu(|device, gpu| {
        for (kind, tolerance) in KINDS {
            let inputs = inputs(kind, device);
            // a cache is written in place: each run has its own
            let run = || of(&inputs.iter().map(Tensor::copy).collect::<Vec<_>>());
            let found = run();
            let wide: Vec<Tensor> = inputs.iter().map(widen).collect();
            let wanted = crate::kernels::without(|| twin(&wide));
            assert_eq!(found.len(), wanted.len());
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let worst = difference(&found.to_kind(Kind::Double), wanted);
                assert!(worst <= tolerance, "{what}, {kind:?}, {gpu}: {worst} in number {i}");
            }
            let is_again = found.iter().zip(run()).all(|(a, b)| difference(a, &b) == 0.);
            assert!(is_again, "{what}, {gpu}: other bits");
        }
    });
}

#[test]
fn every_file_of_kernels_is_known() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("csrc/cuda");
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|it| it.unwrap().file_name().to_str()?.strip_suffix(".cu").map(str::to_owned))
        .collect();
    assert_eq!(files, SOURCES.iter().map(|it| it.name.to_owned()).collect());
}

#[test]
fn the_emulator_sees_barriers_that_not_all_threads_reach() {
    use super::{Arg, Element, Shape, Source};
    const BROKEN: Source = Source {
        name: "broken",
        text: "CL_KERNEL half() { if (threadIdx.x < 40) __syncthreads(); }\nCL_EXPORT(half)\n\
               CL_KERNEL mixed() { if (threadIdx.x < 32) __syncthreads(); else warp_sum(1.0f); __syncthreads(); }\n\
               CL_EXPORT(mixed)\n\
               CL_KERNEL racing(float* out) { CL_DYNAMIC_SHARED(float, all); all[threadIdx.x] = 1.0f; \
               float sum = 0.0f; for (int i = 0; i < 64; i++) sum += all[i]; out[threadIdx.x] = sum; }\nCL_EXPORT(racing)",
    };
    let out = Tensor::zeros([64], (Kind::Float, Device::Cpu));
    let run = |name: &str, shape: Shape, arguments: &[Arg<'_>]| {
        emulated(Order::Forward, || {
            let gpu = super::of(Device::Cpu).unwrap();
            #[expect(unsafe_code, reason = "a kernel of this test")]
            // SAFETY: the arguments are the kernel's, and `out` has as many numbers as threads.
            unsafe {
                gpu.launch(&BROKEN, Element::F32, name, shape, arguments)
            }
        })
    };
    let block = |threads| Shape { grid: [1; 3], block: [threads, 1, 1], shared: 256 };
    for name in ["half", "mixed"] {
        let error = run(name, block(64), &[]).unwrap_err().to_string();
        assert!(error.contains("barrier"), "{error}");
    }
    assert!(
        run("none", block(64), &[]).unwrap_err().to_string().contains("no kernel is called none")
    );
    run("racing", block(64), &[Arg::Tensor(&out)]).unwrap();
    assert_ne!(out, Tensor::full([64], 64., (Kind::Float, Device::Cpu)), "a missing barrier shows");
}
