use tch::{Device, Kind, Tensor, nn, nn::Module as _};

use super::{super::emulated::on_every_gpu, ensure_same_values, numbers};
use crate::{
    attention::{Seen, masked},
    feed_forward,
    kernels::{
        cuda,
        step::{Activation, Layer, Map, Place, layer},
    },
    norm::Norm,
    rope::{Rotations, Turn},
};

/// Rows of the cache and its room.
const CACHE: [i64; 2] = [9, 70];

#[derive(Debug, Clone, Copy)]
struct Sizes {
    width: i64,
    heads: [i64; 2],
    head: i64,
    inner: i64,
    /// Root mean square norms, rotations, no biases and a gate; else what GPT-2 has.
    is_llama: bool,
    by_tanh: bool,
}

/// The last one's rows of weights take a warp several turns.
const SIZES: [Sizes; 3] = [
    Sizes { width: 24, heads: [4, 2], head: 8, inner: 16, is_llama: true, by_tanh: false },
    Sizes { width: 33, heads: [3, 3], head: 5, inner: 7, is_llama: false, by_tanh: true },
    Sizes { width: 264, heads: [2, 1], head: 4, inner: 3, is_llama: false, by_tanh: false },
];

/// Matrices and biases, by name: query, key, value, output, gate, up, down.
fn matrices(sizes: Sizes) -> [[i64; 2]; 7] {
    let Sizes { width, heads, head, inner, .. } = sizes;
    let [queries, keys] = heads.map(|it| it * head);
    [
        [queries, width],
        [keys, width],
        [keys, width],
        [width, queries],
        [inner, width],
        [inner, width],
        [width, inner],
    ]
}

/// Inputs, matrices, biases, keys, values, weights and biases of two norms, positions, rows of the cache.
fn inputs(sizes: Sizes, rows: &[i64], (kind, device): (Kind, Device)) -> Vec<Tensor> {
    let of = |sizes: &[i64], step: f64, size: f64| numbers(sizes, step, size, kind, device);
    let mut all = vec![of(&[rows.len() as i64, 1, sizes.width], 0.7, 2.)];
    let matrices = matrices(sizes);
    all.extend((0..).zip(matrices).map(|(i, it)| of(&it, 0.9 + f64::from(i), 0.3)));
    all.extend((0..).zip(matrices).map(|(i, it)| of(&it[..1], 1.9 + f64::from(i), 0.5)));
    let cache = [CACHE[0], sizes.heads[1], CACHE[1], sizes.head];
    all.extend([of(&cache, 0.31, 1.), of(&cache, 0.47, 1.)]);
    all.extend([0.2, 0.4, 0.6, 0.8].map(|step| of(&[sizes.width], step, 0.5) + 1.));
    let index = |of: &dyn Fn(i64) -> i64| {
        Tensor::from_slice(&(0..rows.len() as i64).map(of).collect::<Vec<_>>()).to_device(device)
    };
    all.extend([index(&|i| (67 + 5 * i) % CACHE[1]), index(&|i| rows[i as usize])]);
    all
}

/// What a test of one layer is made of.
#[derive(Debug)]
struct Made {
    norms: [Norm; 2],
    turn: Option<Turn>,
    spans: Tensor,
}

fn made(sizes: Sizes, it: &[Tensor]) -> Made {
    let (device, width) = (it[0].device(), sizes.width);
    let norms = [17, 19].map(|at| {
        let mut vs = nn::VarStore::new(device);
        let new = if sizes.is_llama { Norm::root_mean_square } else { Norm::layer };
        let norm = new(&vs.root(), width, 1e-5);
        vs.freeze();
        vs.set_kind(it[0].kind());
        vs.variables()["weight"].shallow_clone().copy_(&it[at]);
        if let Some(bias) = vs.variables().get("bias") {
            bias.shallow_clone().copy_(&it[at + 1]);
        }
        norm
    });
    let positions = it[21].unsqueeze(-1); // [R, 1]
    let frequencies: Vec<f64> = (0..sizes.head / 2).map(|i| 0.5f64.powi(i as i32)).collect();
    let turn = sizes.is_llama.then(|| Rotations::new(&frequencies, device).at(&positions));
    Made { norms, turn, spans: Tensor::cat(&[(&positions - 40).clamp_min(0), positions + 1], 1) }
}

/// The layer in kernels: its output and what the cache became.
fn fused(sizes: Sizes, it: &[Tensor]) -> Vec<Tensor> {
    let made = made(sizes, it);
    let ys = with_layer(sizes, it, &made, |of, place| layer(&it[0], of, place));
    vec![ys.expect("a kernel takes it"), it[15].shallow_clone(), it[16].shallow_clone()]
}

fn with_layer<R>(
    sizes: Sizes,
    it: &[Tensor],
    made: &Made,
    of: impl FnOnce(&Layer<'_>, &Place<'_>) -> R,
) -> R {
    let map = |i: usize| Map { ws: &it[1 + i], bs: (!sizes.is_llama).then_some(&it[8 + i]) };
    let activation = match sizes {
        Sizes { is_llama: true, .. } => Activation::SwiGlu { gate: map(4) },
        Sizes { by_tanh: true, .. } => Activation::GeluTanh,
        _ => Activation::Gelu,
    };
    let layer = Layer {
        attention_norm: &made.norms[0],
        query: map(0),
        key: map(1),
        value: map(2),
        output: map(3),
        feed_forward_norm: &made.norms[1],
        up: map(5),
        activation,
        down: map(6),
        heads: sizes.heads,
    };
    let seen = Seen { rows: Some(&it[22]), spans: &made.spans, longest: CACHE[1] };
    let turn = made.turn.as_ref();
    of(&layer, &Place { keys: &it[15], values: &it[16], positions: &it[21], seen, turn })
}

/// The same of the operations that define it.
fn plain(sizes: Sizes, it: &[Tensor]) -> Vec<Tensor> {
    let (made, rows) = (made(sizes, it), it[0].size()[0]);
    let (keys, values) = (it[15].copy(), it[16].copy());
    let map =
        |i: usize, xs: &Tensor| xs.linear(&it[1 + i], (!sizes.is_llama).then_some(&it[8 + i]));
    let normed = made.norms[0].forward(&it[0]);
    let heads = |i: usize| map(i, &normed).view([rows, 1, -1, sizes.head]).transpose(1, 2); // [R, heads, 1, E]
    let turned = |xs: Tensor| made.turn.as_ref().map_or(xs.shallow_clone(), |it| it.forward(&xs));
    for (cache, new) in [(&keys, turned(heads(1))), (&values, heads(2))] {
        let at = [Some(&it[22]), None, Some(&it[21])];
        let _ = cache.shallow_clone().index_put_(&at, &new.squeeze_dim(2), false);
    }
    let places = Tensor::arange(CACHE[1], (Kind::Int64, keys.device()));
    let (first, end) = (made.spans.narrow(1, 0, 1), made.spans.narrow(1, 1, 1));
    let mask = places.ge_tensor(&first).logical_and(&places.lt_tensor(&end)); // [R, N]
    let of_rows = |it_: &Tensor| it_.index_select(0, &it[22]);
    let mask = mask.unsqueeze(1).unsqueeze(1);
    let found = masked(&turned(heads(0)), &of_rows(&keys), &of_rows(&values), Some(&mask));
    let xs = &it[0] + map(3, &found.reshape([rows, 1, -1]));
    let normed = made.norms[1].forward(&xs);
    let up = map(5, &normed);
    let inner = match sizes {
        Sizes { is_llama: true, .. } => feed_forward::swiglu(&map(4, &normed), &up),
        Sizes { by_tanh: true, .. } => feed_forward::gelu_tanh(&up),
        _ => up.gelu("none"),
    };
    vec![xs + map(6, &inner), keys, values]
}

#[test]
fn a_fused_layer_is_its_operations_and_keeps_what_they_keep() {
    let all = [0, 1, 2, 3, 4, 8, 7, 6];
    for (sizes, rows) in
        [(SIZES[0], &[2][..]), (SIZES[0], &[8, 3, 5]), (SIZES[1], &all), (SIZES[2], &[0, 1])]
    {
        let of = |it: &[Tensor]| fused(sizes, it);
        let twin = |it: &[Tensor]| plain(sizes, it);
        let inputs = |kind, device| inputs(sizes, rows, (kind, device));
        ensure_same_values(&of, &twin, &inputs, &format!("{sizes:?}, rows {rows:?}"));
    }
}

#[test]
fn a_number_that_is_none_stays_in_its_row() {
    on_every_gpu(|device, gpu| {
        let all = inputs(SIZES[0], &[4, 6], (Kind::Float, device));
        let _ = all[0].get(1).fill_(f64::NAN);
        let ys = &fused(SIZES[0], &all)[0];
        let are_none = Vec::<bool>::try_from(ys.isnan().view([2, -1]).all_dim(1, false)).unwrap();
        assert_eq!(are_none, [false, true], "{gpu}");
        assert_eq!(ys.get(0).isfinite().all().int64_value(&[]), 1, "{gpu}");
    });
}

#[test]
fn a_layer_that_does_not_fit_is_refused_and_one_that_is_too_large_left_to_libtorch() {
    on_every_gpu(|device, _| {
        let gpu = cuda::of(device).unwrap();
        let run = |rows: &[i64], index: usize, with: &dyn Fn(&Tensor) -> Tensor| {
            let mut all = inputs(SIZES[1], rows, (Kind::Float, device));
            let made = made(SIZES[1], &all);
            all[index] = with(&all[index]);
            with_layer(SIZES[1], &all, &made, |of, place| {
                cuda::decoder_layer::layer(gpu, &all[0], of, place).is_ok()
            })
        };
        assert!(run(&[1, 2], 0, &Tensor::copy));
        for index in [1, 4, 7, 8, 14, 15, 16] {
            assert!(!run(&[1, 2], index, &|it| it.to_kind(Kind::Half)), "the kind of {index}");
            assert!(!run(&[1, 2], index, &|it| it.narrow(0, 0, 1)), "the shape of {index}");
        }
        if device.is_cuda() {
            for index in [1, 8, 15, 16, 21, 22] {
                assert!(!run(&[1, 2], index, &|it| it.to_device(Device::Cpu)), "{index} elsewhere");
            }
        }
        assert!(!run(&[1, 2], 0, &|it| it.to_kind(Kind::Double)));
        assert!(!run(&[1, 2], 21, &|it| it.to_kind(Kind::Int)));
        assert!(!run(&[1, 2], 22, &|it| it.narrow(0, 0, 1)));
        assert!(!run(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 0, &Tensor::copy), "nine rows");
    });
}
