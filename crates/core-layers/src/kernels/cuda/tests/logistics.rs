use tch::{Device, Kind, Tensor};

use super::{
    super::emulated::on_every_gpu, KINDS, difference, ensure_twins, numbers, values_and_gradients,
};
use crate::{kernels::without, likelihood::Logistics};

/// Symbols `[N]`, the edges among them, and parameters `[N, M]`.
fn inputs(levels: i64, sizes: [i64; 2], kind: Kind, device: Device) -> Vec<Tensor> {
    let places = Tensor::arange(sizes[0], (Kind::Int64, Device::Cpu));
    let symbols = (places * (levels / 3 + 1)).remainder(levels);
    let log_scales = numbers(&sizes, 0.9, 2., Kind::Double, Device::Cpu);
    let log_scales = (log_scales - 1.).to_kind(kind).to_device(device);
    let [logits, means] =
        [(0.7, 3.), (1.3, 1.)].map(|it| numbers(&sizes, it.0, it.1, kind, device));
    vec![symbols.to_device(device), logits, means, log_scales]
}

fn of(levels: i64) -> impl Fn(&[Tensor]) -> Vec<Tensor> {
    move |it| {
        let [logits, means, log_scales] = [1, 2, 3].map(|i| it[i].shallow_clone());
        vec![Logistics { logits, means, log_scales, levels }.log_prob(&it[0])]
    }
}

#[test]
fn log_probabilities_of_mixtures_are_their_formula() {
    for (levels, positions, components) in
        [(2, 33, 1), (256, 0, 10), (256, 31, 10), (256, 1025, 2), (256, 2, 95), (17, 40, 33)]
    {
        let inputs = |kind, device| inputs(levels, [positions, components], kind, device);
        let what = format!("{levels} levels, {positions} positions, {components} components");
        ensure_twins(&of(levels), &of(levels), &inputs, &what);
    }
}

#[test]
fn bins_of_sixteen_bits_are_told_apart() {
    on_every_gpu(|device, gpu| {
        let mut inputs = inputs(65_536, [40, 3], Kind::Float, device);
        inputs[3] = &inputs[3] * 2. - 9.;
        let found = values_and_gradients(&of(65_536), &inputs);
        let wide: Vec<Tensor> = inputs
            .iter()
            .map(|it| if it.is_floating_point() { it.to_kind(Kind::Double) } else { it.copy() })
            .collect();
        let wanted = without(|| values_and_gradients(&of(65_536), &wide));
        let scales = wide[3].to_device(Device::Cpu).exp();
        for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let unit = if i == 2 { scales.shallow_clone() } else { scales.ones_like() };
            let unit = if i == 0 { unit.select(1, 0) } else { unit };
            let size = wanted.abs().max().double_value(&[]).max(1.);
            let worst = difference(&(found * &unit / size), &(wanted * &unit / size));
            assert!(worst < 1e-5, "{gpu}: {worst} in number {i}");
        }
    });
}

#[test]
fn numbers_that_are_none_pass_through_mixtures() {
    on_every_gpu(|device, gpu| {
        for (kind, _) in KINDS {
            for part in 1..4 {
                let inputs = inputs(256, [5, 3], kind, device);
                let _ = inputs[part].select(0, 2).select(0, 1).fill_(f64::NAN);
                for it in values_and_gradients(&of(256), &inputs) {
                    let is_nan = it.view([5, -1]).isnan().any_dim(-1, false);
                    let found = Vec::<bool>::try_from(is_nan).unwrap();
                    assert_eq!(found, [false, false, true, false, false], "{gpu}, {part}");
                }
            }
        }
    });
}
