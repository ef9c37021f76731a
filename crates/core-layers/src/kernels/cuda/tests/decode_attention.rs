use tch::{Device, Kind, Tensor};

use super::{super::emulated::on_every_gpu, ensure_same_values, numbers};
use crate::{
    attention::{Seen, masked, of_cache},
    kernels::cuda,
};

/// Queries, keys, values, rows of the cache and spans.
fn inputs(sizes: [i64; 5], rows: &[i64], spans: &[i64], of: (Kind, Device)) -> Vec<Tensor> {
    let [heads, kv_heads, cache_rows, room, width] = sizes;
    let count = rows.len() as i64;
    let index = |it: &[i64]| Tensor::from_slice(it).to_device(of.1);
    let cache = |step| numbers(&[cache_rows, kv_heads, room, width], step, 2., of.0, of.1);
    let qs = numbers(&[count, heads, 1, width], 0.9, 3., of.0, of.1);
    vec![qs, cache(0.7), cache(1.1), index(rows), index(spans).view([count, 2])]
}

/// The mask of the same spans.
fn twin(it: &[Tensor]) -> Vec<Tensor> {
    let (ks, vs) = (it[1].index_select(0, &it[3]), it[2].index_select(0, &it[3]));
    let places = Tensor::arange(ks.size()[2], (Kind::Int64, ks.device()));
    let mask = places
        .ge_tensor(&it[4].narrow(1, 0, 1))
        .logical_and(&places.lt_tensor(&it[4].narrow(1, 1, 1)));
    vec![masked(&it[0], &ks, &vs, Some(&mask.unsqueeze(1).unsqueeze(1)))]
}

#[test]
fn attention_over_a_cache_is_that_of_a_mask_for_rows_of_any_span() {
    let everywhere = [0, 0, 0, 1, 3, 34, 0, 130];
    for (heads, kv_heads, width) in [(1, 1, 1), (6, 1, 31), (4, 2, 33), (2, 2, 130)] {
        let inputs = |kind, device| {
            inputs([heads, kv_heads, 5, 130, width], &[4, 0, 2, 2], &everywhere, (kind, device))
        };
        let of = |it: &[Tensor]| {
            let seen = Seen { rows: Some(&it[3]), spans: &it[4], longest: 130 };
            vec![of_cache(&it[0], &it[1], &it[2], &seen).unwrap()]
        };
        ensure_same_values(
            &of,
            &twin,
            &inputs,
            &format!("{heads} of {kv_heads} heads, {width} wide"),
        );
    }
}

#[test]
fn a_row_has_the_same_bits_alone_as_beside_longer_ones() {
    on_every_gpu(|device, gpu| {
        let of = (Kind::Float, device);
        let all = inputs([4, 2, 2, 200, 16], &[0, 1], &[0, 50, 0, 200], of);
        let seen = Seen { rows: None, spans: &all[4], longest: 200 };
        let both = of_cache(&all[0], &all[1], &all[2], &seen).unwrap();
        let (qs, spans) = (all[0].narrow(0, 0, 1), all[4].narrow(0, 0, 1));
        let seen = Seen { rows: None, spans: &spans, longest: 50 };
        let alone = of_cache(&qs, &all[1], &all[2], &seen).unwrap();
        assert_eq!(both.narrow(0, 0, 1), alone, "{gpu}");
    });
}

#[test]
fn what_lies_outside_a_span_is_not_read_and_what_is_no_number_inside_shows() {
    on_every_gpu(|device, gpu| {
        let all = inputs([2, 1, 2, 80, 8], &[0, 1], &[70, 75, 0, 70], (Kind::Float, device));
        let _ = all[2].narrow(2, 75, 5).fill_(f64::NAN);
        let _ = all[1].get(0).narrow(1, 0, 70).fill_(f64::INFINITY);
        let seen = Seen { rows: None, spans: &all[4], longest: 70 };
        let found = || of_cache(&all[0], &all[1], &all[2], &seen).unwrap();
        assert_eq!(found().isfinite().all().int64_value(&[]), 1, "{gpu}");
        let _ = all[2].get(1).narrow(1, 69, 1).fill_(f64::NAN);
        let are_none: Vec<bool> =
            found().isnan().view([2, -1]).all_dim(1, false).try_into().unwrap();
        assert_eq!(are_none, [false, true], "{gpu}");
    });
}

#[test]
fn a_cache_that_does_not_fit_is_refused() {
    on_every_gpu(|device, _| {
        let gpu = cuda::of(device).unwrap();
        let of = || inputs([4, 2, 2, 8, 16], &[0, 1], &[0, 8, 0, 8], (Kind::Float, device));
        let refuse = |index: usize, with: &dyn Fn(&Tensor) -> Tensor| {
            let mut all = of();
            all[index] = with(&all[index]);
            let seen = Seen { rows: Some(&all[3]), spans: &all[4], longest: 8 };
            let found = cuda::decode_attention::attend(gpu, &all[0], &all[1], &all[2], &seen);
            assert!(found.is_err(), "{index}: {:?}", all[index]);
        };
        refuse(0, &|it| it.to_kind(Kind::Double));
        refuse(0, &|it| it.repeat([1, 1, 2, 1]));
        refuse(0, &|it| it.narrow(1, 0, 3));
        refuse(1, &|it| it.to_kind(Kind::Half));
        refuse(2, &|it| it.narrow(2, 0, 7));
        refuse(3, &|it| it.to_kind(Kind::Int));
        if device.is_cuda() {
            (0..5).for_each(|index| refuse(index, &|it| it.to_device(Device::Cpu)));
        }
        refuse(4, &|it| it.narrow(0, 0, 1));
    });
}
