use tch::{Device, Kind, Tensor, nn};

use super::{super::emulated::on_every_gpu, KINDS, numbers};
use crate::{
    kernels::{cuda, without},
    quantise::{QuantiserConfig, VectorQuantiser},
};

/// Vectors N, codebooks G, codes K and their numbers D: tails of every tile.
const SIZES: [[i64; 4]; 6] = [
    [0, 1, 5, 3],
    [1, 1, 2, 1],
    [33, 3, 31, 5],
    [65, 2, 65, 33],
    [130, 1, 9, 129],
    [1025, 1, 3, 2],
];

/// A quantiser whose codes are `size` times a sine, whole numbers where that is wanted.
fn quantiser(sizes: [i64; 4], is_whole: bool, device: Device) -> (nn::VarStore, VectorQuantiser) {
    let [_, codebooks, codes, dim] = sizes;
    let vs = nn::VarStore::new(device);
    let config = QuantiserConfig { codes, dim, codebooks, ..QuantiserConfig::default() };
    let quantiser = VectorQuantiser::new(&vs.root(), &config).unwrap();
    let values = values(&[codebooks, codes, dim], 0.7, is_whole, Kind::Float, device);
    tch::no_grad(|| {
        for name in ["codes", "sums"] {
            vs.variables()[name].shallow_clone().copy_(&values);
        }
    });
    (vs, quantiser)
}

fn values(sizes: &[i64], step: f64, is_whole: bool, kind: Kind, device: Device) -> Tensor {
    let values = numbers(sizes, step, 3., kind, device);
    if is_whole { values.round() } else { values }
}

fn vectors([count, codebooks, _, dim]: [i64; 4], is_whole: bool, of: (Kind, Device)) -> Tensor {
    values(&[count, codebooks * dim], 1.3, is_whole, of.0, of.1)
}

#[test]
fn codes_counts_and_sums_of_whole_numbers_are_exactly_the_plain_ones() {
    on_every_gpu(|device, gpu| {
        for sizes in SIZES {
            for (kind, _) in KINDS {
                let xs = vectors(sizes, true, (kind, device));
                let after = || {
                    let (vs, quantiser) = quantiser(sizes, true, device);
                    let codes = quantiser.nearest(&xs);
                    quantiser.update(&xs, &codes);
                    let mut all = vs.variables();
                    ["codes", "counts", "sums"]
                        .map(|it| all.remove(it).unwrap().detach())
                        .into_iter()
                        .chain([codes])
                        .collect::<Vec<_>>()
                };
                assert!(without(after) == after(), "{sizes:?}, {kind:?}, {gpu}");
            }
        }
    });
}

#[test]
fn no_code_is_nearer_than_the_one_found_and_sums_are_those_of_its_vectors() {
    on_every_gpu(|device, gpu| {
        for (kind, _) in KINDS {
            let sizes = [200, 2, 70, 37];
            let xs = vectors(sizes, false, (kind, device));
            let (_vs, quantiser) = quantiser(sizes, false, device);
            let es = quantiser.codebooks();
            let kernels = cuda::of(device).unwrap();
            let run = || cuda::quantise::nearest_and_totals(kernels, &xs, &es).unwrap();
            let (codes, (counts, sums)) = run();
            let parts = xs.to_kind(Kind::Double).view([200, 2, 1, 37]);
            let distances = (parts - es.to_kind(Kind::Double)).square().sum_dim_intlist(
                -1,
                false,
                Kind::Double,
            ); // [N, G, K]
            let found = distances.gather(2, &codes.unsqueeze(-1), false).squeeze_dim(-1);
            let worst = (found - distances.amin(-1, false)).max().double_value(&[]);
            assert!(worst < 1e-4, "{kind:?}, {gpu}: {worst}");
            let chosen = codes.unsqueeze(-1).eq_tensor(&Tensor::arange(70, (Kind::Int64, device))); // [N, G, K]
            assert_eq!(counts, chosen.sum_dim_intlist(0, false, Kind::Float), "{kind:?}, {gpu}");
            let wanted = Tensor::einsum(
                "ngk,ngd->gkd",
                &[chosen.to_kind(Kind::Double), xs.to_kind(Kind::Double).view([200, 2, 37])],
                None::<i64>,
            );
            let worst = (&sums - wanted).abs().max().double_value(&[]);
            assert!(worst < 1e-4, "{kind:?}, {gpu}: {worst}");
            let apart = cuda::quantise::totals(kernels, &xs, &codes, &es).unwrap();
            assert!(apart == (counts.copy(), sums.copy()), "{kind:?}, {gpu}: in two passes");
            let (again, (counts_again, sums_again)) = run();
            assert!(
                again == codes && counts_again == counts && sums_again == sums,
                "{gpu}: other bits"
            );
        }
    });
}

#[test]
fn what_is_no_number_is_nearest_as_in_the_plain_lookup() {
    on_every_gpu(|device, gpu| {
        let sizes = [4, 1, 70, 1];
        let special =
            Tensor::from_slice(&[f32::NAN, 1., f32::INFINITY, -1.]).view([4, 1]).to_device(device);
        for broken in [None, Some(66)] {
            let (vs, quantiser) = quantiser(sizes, true, device);
            if let Some(code) = broken {
                let _ = tch::no_grad(|| vs.variables()["codes"].get(0).get(code).fill_(f64::NAN));
            }
            let wanted = without(|| quantiser.nearest(&special));
            assert_eq!(quantiser.nearest(&special), wanted, "{gpu}, code {broken:?}");
        }
    });
}

#[test]
fn a_lookup_of_what_does_not_fit_is_refused() {
    on_every_gpu(|device, _| {
        let gpu = cuda::of(device).unwrap();
        let of = |sizes: &[i64], kind| Tensor::zeros(sizes, (kind, device));
        let (xs, es) = (of(&[4, 6], Kind::Float), of(&[2, 5, 3], Kind::Float));
        for (xs, es) in [
            (of(&[4, 7], Kind::Float), es.copy()),
            (of(&[4, 6], Kind::Int64), es.copy()),
            (xs.copy(), es.to_kind(Kind::Double)),
            (xs.copy(), of(&[5, 3], Kind::Float)),
        ] {
            assert!(cuda::quantise::nearest(gpu, &xs, &es).is_err(), "{xs:?}, {es:?}");
        }
        if device.is_cuda() {
            let elsewhere = es.to_device(Device::Cpu);
            assert!(cuda::quantise::nearest(gpu, &xs, &elsewhere).is_err(), "{elsewhere:?}");
        }
        for codes in [of(&[4, 2], Kind::Int), of(&[3, 2], Kind::Int64)] {
            assert!(cuda::quantise::totals(gpu, &xs, &codes, &es).is_err(), "{codes:?}");
        }
    });
}
