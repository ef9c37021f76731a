use tch::{Device, Kind, Tensor, nn::Module};

use super::{
    super::emulated::on_every_gpu, AWKWARD, KINDS, difference, ensure_twins, numbers,
    values_and_gradients,
};
use crate::{autocast::Autocast, kernels::without, norm::Norm};

/// A norm of the weights, and where there are any the biases, of `inputs` from place `first` on.
fn norm(inputs: &[Tensor], first: usize) -> Norm {
    Norm::of(inputs[first].shallow_clone(), inputs.get(first + 1).map(Tensor::shallow_clone), 1e-5)
}

/// The sum of the first two inputs, and its norm by the others.
fn sum_and_norm(inputs: &[Tensor]) -> Vec<Tensor> {
    let (sum, normed) = norm(inputs, 2).add(&inputs[0], &inputs[1]);
    vec![sum, normed]
}

/// Numbers, as many to add, weights, and biases in a layer norm. Sums are exact in every kind, so that what is seen is the
/// norm's own error.
fn inputs(rows: i64, width: i64, is_layer: bool, kind: Kind, device: Device) -> Vec<Tensor> {
    let of = |step, size| (numbers(&[rows, width], step, size, kind, device) * 32).round() / 32;
    let vector = |step, at: f64| {
        let varied = numbers(&[width], step, 0.5, Kind::Float, device) + at;
        varied.to_kind(kind)
    };
    let mut all = vec![of(0.7, 2.), of(1.3, 1.), vector(0.9, 1.)];
    all.extend(is_layer.then(|| vector(0.4, 0.)));
    all
}

#[test]
fn norms_are_their_formulas() {
    for is_layer in [true, false] {
        for width in AWKWARD.into_iter().filter(|&it| it > 0) {
            let make = |kind, device| {
                let mut all = inputs(3, width, is_layer, kind, device);
                drop(all.remove(1));
                all
            };
            let of = |it: &[Tensor]| vec![norm(it, 1).forward(&it[0])];
            ensure_twins(&of, &of, &make, &format!("layer {is_layer}, {width} wide"));
        }
    }
}

#[test]
fn sums_and_their_norms_are_their_formulas() {
    for is_layer in [true, false] {
        for (rows, width) in [(0, 6), (1, 33), (11, 31), (9, 130)] {
            let make = |kind, device| inputs(rows, width, is_layer, kind, device);
            ensure_twins(
                &sum_and_norm,
                &sum_and_norm,
                &make,
                &format!("layer {is_layer}, {rows} x {width}"),
            );
        }
    }
}

#[test]
fn rows_that_fill_sixteen_registers_of_a_thread_are_normed() {
    for (is_layer, width) in [(true, 4097), (false, 4100)] {
        let make = |kind, device| inputs(2, width, is_layer, kind, device);
        ensure_twins(&sum_and_norm, &sum_and_norm, &make, &format!("{width} wide"));
    }
}

#[test]
fn under_autocast_the_sum_stays_in_f32_and_its_norm_is_what_products_read() {
    on_every_gpu(|device, gpu| {
        for (rows, width, is_layer) in [(5, 33, true), (9, 64, false), (1, 4099, true)] {
            let mut inputs = inputs(rows, width, is_layer, Kind::Float, device);
            inputs[1] = inputs[1].to_kind(Kind::BFloat16);
            let run = || {
                let _autocast = Autocast::new(device);
                let (sum, normed) = norm(&inputs, 2).add(&inputs[0], &inputs[1]);
                assert_eq!([&sum, &normed].map(Tensor::kind), [Kind::Float, Kind::BFloat16]);
                values_and_gradients(&sum_and_norm, &inputs)
            };
            let wide: Vec<Tensor> = inputs.iter().map(|it| it.to_kind(Kind::Double)).collect();
            let wanted = without(|| values_and_gradients(&sum_and_norm, &wide));
            let (found, again) = (run(), run());
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let tolerance = if i == 0 { 1e-7 } else { 8e-3 };
                let worst = difference(found, wanted);
                assert!(worst <= tolerance, "{gpu}, {width} wide: {worst} in number {i}");
            }
            assert!(found.iter().zip(&again).all(|(a, b)| difference(a, b) == 0.), "other bits");
        }
    });
}

#[test]
fn what_is_no_number_spoils_its_row_only() {
    on_every_gpu(|device, gpu| {
        for is_layer in [true, false] {
            for (kind, tolerance) in KINDS {
                let inputs = inputs(3, 33, is_layer, kind, device);
                let _ = inputs[0].get(0).get(7).fill_(f64::NAN);
                let _ = inputs[1].get(2).get(32).fill_(f64::INFINITY);
                let wide: Vec<Tensor> = inputs.iter().map(|it| it.to_kind(Kind::Double)).collect();
                let wanted = without(|| sum_and_norm(&wide));
                for (found, wanted) in sum_and_norm(&inputs).iter().zip(&wanted) {
                    let worst = difference(&found.to_kind(Kind::Double), wanted);
                    assert!(worst <= 2. * tolerance, "{kind:?}, {gpu}: {worst}");
                }
            }
        }
    });
}
