use tch::{Kind, Tensor};

use super::{super::emulated::on_every_gpu, AWKWARD, KINDS, difference, ensure_twins, numbers};
use crate::{
    feed_forward::{gelu_tanh, swiglu},
    kernels::without,
};

#[test]
fn activations_are_their_formulas() {
    for count in AWKWARD {
        let make = |kind, device| {
            let of = |step, size| numbers(&[2, count], step, size, kind, device);
            vec![of(0.7, 5.), of(1.3, 2.)]
        };
        let of = |it: &[Tensor]| vec![gelu_tanh(&it[0]), swiglu(&it[0], &it[1])];
        ensure_twins(&of, &of, &make, &format!("{count} numbers"));
    }
}

#[test]
fn numbers_that_do_not_lie_in_order_are_activated_as_well() {
    let make = |kind, device| {
        let of = |step, size| numbers(&[7, 10], step, size, kind, device);
        vec![of(0.7, 5.), of(1.3, 2.)]
    };
    let of = |it: &[Tensor]| {
        let halves = it[0].chunk(2, 1);
        vec![swiglu(&halves[0], &halves[1]), gelu_tanh(&it[1].tr()), gelu_tanh(&halves[1])]
    };
    ensure_twins(&of, &of, &make, "halves and a transpose");
}

#[test]
fn numbers_that_are_none_pass_through_activations() {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0., 1., -1., 30., -30.];
    let pairs = special.iter().flat_map(|&a| special.map(|b| [a, b]));
    let pairs = Tensor::from_slice(&pairs.flatten().collect::<Vec<_>>()).view([64, 2]);
    on_every_gpu(|device, gpu| {
        for (kind, tolerance) in KINDS {
            let pairs = pairs.to_kind(kind).to_device(device);
            let both = |pairs: &Tensor| {
                let (a, b) = (pairs.select(1, 0), pairs.select(1, 1));
                [gelu_tanh(&a), swiglu(&a, &b)].map(|it| it.to_kind(Kind::Double))
            };
            let wanted = without(|| both(&pairs.to_kind(Kind::Double)));
            for (found, wanted) in both(&pairs).iter().zip(&wanted) {
                let worst = difference(found, wanted);
                assert!(worst <= tolerance, "{kind:?}, {gpu}: {worst}");
            }
        }
    });
}
