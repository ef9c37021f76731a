use tch::{Device, Kind, Tensor};

use super::{
    super::emulated::{Order, emulated, on_every_gpu},
    AWKWARD, KINDS, difference, ensure_twins, numbers, values_and_gradients,
};
use crate::{
    cross_entropy::{IGNORED, log_prob, log_prob_and_log_z},
    kernels::without,
};

fn symbols(levels: i64, sizes: &[i64], device: Device) -> Tensor {
    let count = sizes.iter().product::<i64>();
    let all = (Tensor::arange(count, (Kind::Int64, Device::Cpu)) * 7).remainder(levels);
    let ignored = Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(5).eq(3);
    all.masked_fill(&ignored, IGNORED).view(sizes).to_device(device)
}

fn of(it: &[Tensor]) -> Vec<Tensor> {
    log_prob_and_log_z(&it[1], &it[0]).into()
}

#[test]
fn cross_entropy_is_its_formula() {
    for levels in [1, 31, 33, 1025] {
        for positions in AWKWARD.into_iter().filter(|it| *it < 1025 && it * levels < 1100) {
            let inputs = |kind, device| {
                let logits = numbers(&[positions, levels], 0.7, 9., kind, device);
                vec![symbols(levels, &[positions], device), logits]
            };
            ensure_twins(&of, &of, &inputs, &format!("{levels} levels, {positions} positions"));
        }
    }
}

#[test]
fn logits_of_other_strides_and_of_more_axes_are_taken() {
    let inputs = |kind, device| {
        let logits = numbers(&[2, 5, 7], 0.7, 9., kind, device).transpose(0, 2);
        vec![symbols(2, &[7, 5], device), logits]
    };
    ensure_twins(&of, &of, &inputs, "transposed");
}

#[test]
fn numbers_that_are_none_pass_through_cross_entropy() {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let rows: Vec<f32> =
        special.iter().flat_map(|&a| [[a, 1., 2.], [1., a, 0.], [a, a, a]]).flatten().collect();
    let chosen = Tensor::from_slice(&[0i64, 0, 1, 1, 1, 2, 2, IGNORED, 0]);
    on_every_gpu(|device, gpu| {
        for (kind, tolerance) in KINDS {
            let logits = Tensor::from_slice(&rows).view([9, 3]).to_kind(kind).to_device(device);
            let symbols = chosen.to_device(device);
            let wanted = without(|| log_prob(&logits.to_kind(Kind::Double), &symbols));
            let found = log_prob(&logits, &symbols).to_kind(Kind::Double);
            let worst = difference(&found, &wanted);
            assert!(worst <= tolerance, "{kind:?}, {gpu}: {worst}");
        }
    });
}

#[test]
fn a_symbol_that_is_no_level_gives_no_number() {
    on_every_gpu(|device, gpu| {
        let symbols = Tensor::from_slice(&[-1i64, 3, 2]).to_device(device);
        let logits = numbers(&[3, 3], 0.7, 9., Kind::Float, device);
        let found = values_and_gradients(&of, &[symbols, logits]);
        for it in found {
            let is_nan: Vec<bool> = it.isnan().view([3, -1]).all_dim(1, false).try_into().unwrap();
            assert_eq!(is_nan, [true, true, false], "{gpu}");
        }
    });
}

#[test]
fn the_gradient_takes_the_place_of_the_logits() {
    emulated(Order::Forward, || {
        for is_kept in [false, true] {
            let leaf = numbers(&[3, 4], 0.7, 2., Kind::Float, Device::Cpu).set_requires_grad(true);
            let logits = &leaf + Tensor::zeros([3, 4], (Kind::Float, Device::Cpu));
            let place = logits.data_ptr();
            let kept = is_kept.then(|| logits.shallow_clone());
            let loss = log_prob(&logits, &Tensor::from_slice(&[0i64, 2, 3])).sum(Kind::Float);
            drop(logits);
            let found = Tensor::run_backward(&[loss], &[&leaf], false, false);
            assert_eq!(found[0].data_ptr() == place, !is_kept);
            assert!(kept.is_none_or(|it| it.equal(&leaf)));
        }
    });
}
