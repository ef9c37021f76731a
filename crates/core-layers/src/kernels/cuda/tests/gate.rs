use tch::{Kind, Tensor};

use super::{super::emulated::on_every_gpu, AWKWARD, KINDS, difference, ensure_twins, numbers};
use crate::{conv::gate, kernels::without};

#[test]
fn the_gate_is_its_formula() {
    for channels in [1, 3] {
        for places in AWKWARD {
            let inputs = |kind, device| {
                let xs = numbers(&[2, 2 * channels, places], 0.7, 6., kind, device);
                vec![xs, numbers(&[2, 2 * channels], 1.3, 2., kind, device)]
            };
            let of = |it: &[Tensor]| vec![gate(&it[0], Some(&it[1])), gate(&it[0], None)];
            ensure_twins(&of, &of, &inputs, &format!("{channels} channels, {places} places"));
        }
    }
}

#[test]
fn numbers_that_are_none_pass_through_the_gate() {
    let inputs = |kind, device| {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0., 1., -1.];
        let pairs: Vec<f32> =
            special.iter().flat_map(|&a| special.map(|b| [a, b])).flatten().collect();
        vec![Tensor::from_slice(&pairs).reshape([36, 2, 1]).to_kind(kind).to_device(device)]
    };
    on_every_gpu(|device, gpu| {
        for (kind, tolerance) in KINDS {
            let xs = &inputs(kind, device)[0];
            let wanted = without(|| gate(&xs.to_kind(Kind::Double), None));
            let worst = difference(&gate(xs, None).to_kind(Kind::Double), &wanted);
            assert!(worst <= tolerance, "{kind:?}, {gpu}: {worst}");
        }
    });
}
