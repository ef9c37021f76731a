use tch::{Device, Kind, Tensor};

use super::{
    super::emulated::on_every_gpu, AWKWARD, difference, ensure_twins, numbers, values_and_gradients,
};
use crate::{
    attention,
    kernels::without,
    rope::{Rotations, Turn},
};

/// The angles of the positions `[T]`, or `[B, T]`, of heads that are `width` wide.
fn angles(positions: &Tensor, width: i64) -> Turn {
    let frequencies: Vec<f64> = (0..width / 2).map(|i| 0.8f64.powi(i as i32)).collect();
    Rotations::new(&frequencies, positions.device()).at(positions)
}

fn arange(sizes: &[i64], device: Device) -> Tensor {
    Tensor::arange(sizes.iter().product::<i64>(), (Kind::Int64, device)).view(sizes) * 3
}

#[test]
fn heads_turn_by_the_formula() {
    for time in AWKWARD {
        let width = if time > 100 { 2 } else { 6 };
        let make = |kind, device| vec![numbers(&[2, 3, time, width], 0.7, 2., kind, device)];
        let of =
            |it: &[Tensor]| vec![angles(&arange(&[time], it[0].device()), width).forward(&it[0])];
        ensure_twins(&of, &of, &make, &format!("{time} positions"));
    }
}

#[test]
fn rows_of_their_own_positions_turn_by_the_formula() {
    let make = |kind, device| vec![numbers(&[3, 2, 5, 24], 0.7, 2., kind, device)];
    let of = |it: &[Tensor]| vec![angles(&arange(&[3, 5], it[0].device()), 24).forward(&it[0])];
    ensure_twins(&of, &of, &make, "positions of three rows");
}

#[test]
fn queries_and_keys_of_a_joint_projection_turn_and_values_stay() {
    for width in [2, 34] {
        let make = |kind, device| vec![numbers(&[2, 5, 7 * width], 0.7, 2., kind, device)];
        let of = |it: &[Tensor]| {
            let split = it[0].view([2, 5, 7, width]);
            let turn = angles(&arange(&[5], split.device()), width);
            vec![turn.of_first(&split, 5).expect("a GPU")]
        };
        let twin = |it: &[Tensor]| {
            let split = it[0].view([2, 5, 7, width]).transpose(1, 2);
            let turned =
                angles(&arange(&[5], split.device()), width).forward(&split.narrow(1, 0, 5));
            vec![Tensor::cat(&[turned, split.narrow(1, 5, 2)], 1).transpose(1, 2)]
        };
        ensure_twins(&of, &twin, &make, &format!("heads {width} wide"));
    }
}

#[test]
fn attention_over_a_turned_projection_is_its_formula() {
    on_every_gpu(|device, gpu| {
        let all = numbers(&[2, 5, 48], 0.7, 2., Kind::Float, device);
        let turn = angles(&arange(&[5], device), 12);
        let of = |it: &[Tensor]| vec![attention::joint(&it[0], Some(&turn), [2, 1], 0.)];
        let found = values_and_gradients(&of, std::slice::from_ref(&all));
        let wanted = without(|| values_and_gradients(&of, &[all.to_kind(Kind::Double)]));
        for (found, wanted) in found.iter().zip(&wanted) {
            let worst = difference(found, wanted);
            assert!(worst < 1e-5, "{gpu}: {worst}");
        }
    });
}
