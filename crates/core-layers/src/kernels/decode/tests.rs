//! What holds for every set of instructions: the products of every encoding, the same integers, attention, norms, gates.

use super::{Cache, Heads, Inputs, Norm, Numbers, Packed, Product, Span, Workers};
use crate::{
    encoded::{Bytes, Encoded, Encoding},
    kernels::exact::Variant,
    random::uniform_at,
};

const ALL: [Encoding; 13] = [
    Encoding::F32,
    Encoding::F16,
    Encoding::Bf16,
    Encoding::Q8_0,
    Encoding::Q4_0,
    Encoding::Q4_1,
    Encoding::Q5_0,
    Encoding::Q5_1,
    Encoding::Q4K,
    Encoding::Q5K,
    Encoding::Q6K,
    Encoding::Int8,
    Encoding::Int4,
];

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| uniform_at(seed, "decode", 0, i) as f32 - 0.5).collect()
}

/// A matrix of any bytes, but for scales between 2^-7 and 2 of either sign.
fn matrix(encoding: Encoding, rows: usize, columns: usize) -> Encoded {
    if matches!(encoding, Encoding::F32 | Encoding::F16 | Encoding::Bf16) {
        let plain = Encoded::from_f32(rows, columns, &numbers(1, rows * columns));
        return plain.encode(encoding).unwrap();
    }
    let (values, size) = encoding.block();
    let count = rows * columns / values * size;
    let mut bytes: Vec<u8> =
        (0..count as u64).map(|i| (uniform_at(2, "decode", 1, i) * 256.) as u8).collect();
    let halves: &[usize] = match encoding {
        Encoding::Q4_1 | Encoding::Q5_1 | Encoding::Q4K | Encoding::Q5K => &[0, 2],
        Encoding::Q6K => &[208],
        _ => &[0],
    };
    for block in bytes.chunks_exact_mut(size) {
        for &at in halves {
            let small = block[at + 1] & 0x83; // sign and the lowest bits of the exponent
            block[at + 1] = if matches!(encoding, Encoding::Int8 | Encoding::Int4) {
                small & 0x81 | 0x3c
            } else {
                small | 0x20
            };
        }
    }
    Encoded::new(rows, columns, encoding, Bytes::from(bytes)).unwrap()
}

/// Products by a variant, of columns of activations.
fn products(variant: Variant, threads: usize, weights: &Packed, xs: &[f32]) -> Vec<f32> {
    let columns = xs.len() / weights.inputs();
    let mut workers = Workers::new(variant, threads);
    let mut inputs = Inputs::new(weights.inputs(), columns, &[weights]);
    inputs.floats_mut(columns).copy_from_slice(xs);
    workers.quantise(&mut inputs);
    let mut ys = vec![1.; columns * weights.padded_outs()];
    workers.accumulate(&mut [Product { weights, ys: &mut ys }], &inputs);
    ys
}

fn packed(matrix: &Encoded) -> Packed {
    Packed::all(&[matrix], 2).unwrap().remove(0)
}

#[test]
fn every_encoding_gives_the_sum_of_products_of_what_it_decodes_to() {
    for encoding in ALL {
        let (rows, width) = (37, 512);
        let matrix = matrix(encoding, rows, width);
        let (values, weights) = (matrix.to_f32(), packed(&matrix));
        let group = super::unpack::Integers::of(encoding).map(|it| it.group);
        for (variant, columns) in
            [1, 2, 3, 13].map(|it| (Variant::available(), it)).iter().flat_map(
                |(variants, columns)| variants.iter().map(move |&variant| (variant, *columns)),
            )
        {
            let xs = numbers(3, columns * width);
            let ys = products(variant, 1, &weights, &xs);
            for (xs, ys) in xs.chunks_exact(width).zip(ys.chunks_exact(weights.padded_outs())) {
                for (ws, y) in values.chunks_exact(width).zip(ys) {
                    let mut wanted = 1f64;
                    let mut bound = 1e-5f64; // of rounding, and below of activations: half a step each
                    for (i, (&w, &x)) in ws.iter().zip(xs).enumerate() {
                        let (w, x) = (f64::from(w), f64::from(x));
                        wanted += w * x;
                        bound += 1e-6 * (w * x).abs();
                        if let Some(group) = group {
                            let most =
                                xs[i / group * group..][..group].iter().copied().map(f32::abs);
                            let step = f64::from(most.fold(0., f32::max)) / 127.;
                            bound += 0.5001 * step * w.abs();
                        }
                    }
                    let error = (f64::from(*y) - wanted).abs();
                    assert!(error <= bound, "{encoding} {variant} {columns}: {error} {bound}");
                }
                assert!(
                    ys[rows..].iter().all(|&y| y == 1.),
                    "{encoding} writes beyond its outputs"
                );
            }
        }
    }
}

#[test]
fn all_instructions_sum_the_same_integers() {
    // one group a row, a scale of 1, activations that are whole numbers up to 127: nothing is rounded
    for (encoding, group) in [(Encoding::Q8_0, 32), (Encoding::Int8, 64), (Encoding::Q4_0, 32)] {
        let one = if encoding == Encoding::Int8 { 0x3f80u16 } else { 0x3c00 };
        let (_, size) = encoding.block();
        let mut bytes = matrix(encoding, 256, group).bytes().to_vec();
        for (i, row) in bytes.chunks_exact_mut(size).enumerate() {
            row[..2].copy_from_slice(&one.to_le_bytes());
            if i % 3 == 0 {
                row[2..].fill([0x80, 0x7f, 0xff][i / 3 % 3]); // the extremes
            }
        }
        let matrix = Encoded::new(256, group, encoding, Bytes::from(bytes)).unwrap();
        let xs: Vec<f32> = (0..group).map(|i| [127., -127., 3., -64.][i * 7 / 5 % 4]).collect();
        let weights = packed(&matrix);
        for variant in Variant::available() {
            let ys = products(variant, 1, &weights, &xs);
            for (y, ws) in ys.iter().zip(matrix.to_f32().chunks_exact(group)) {
                let wanted: f32 = 1. + ws.iter().zip(&xs).map(|(w, x)| w * x).sum::<f32>();
                assert_eq!(*y, wanted, "{encoding} on {variant}");
            }
        }
    }
}

#[test]
fn a_column_does_not_depend_on_the_others_nor_on_threads() {
    for encoding in [Encoding::Q4_1, Encoding::Int8, Encoding::F16] {
        let weights = packed(&matrix(encoding, 600, 128));
        let xs = numbers(4, 9 * 128);
        for variant in Variant::available() {
            let all = products(variant, 3, &weights, &xs);
            for (xs, ys) in xs.chunks_exact(128).zip(all.chunks_exact(weights.padded_outs())) {
                assert_eq!(products(variant, 1, &weights, xs), ys, "{encoding} on {variant}");
            }
        }
    }
}

#[test]
fn attention_is_the_mean_of_values_by_the_softmax_of_products() {
    for (numbers_kept, tolerance) in [(Numbers::F32, 2e-6), (Numbers::F16, 2e-3)] {
        for (heads, kv_heads, d_head, band) in
            [(6, 2, 10, None), (4, 4, 64, Some(7)), (8, 1, 80, None), (3, 1, 16, Some(300))]
        {
            for variant in Variant::available() {
                let heads = Heads { heads, kv_heads, d_head, band, scale: 0.7 };
                check_attention(variant, numbers_kept, heads, tolerance);
            }
        }
    }
}

fn check_attention(variant: Variant, kept: Numbers, heads: Heads, tolerance: f64) {
    let Heads { kv_heads, d_head, scale, .. } = heads;
    let (len, padded, group) = (530, d_head.next_multiple_of(16), heads.heads / kv_heads);
    let (keys, values) = (numbers(5, len * kv_heads * d_head), numbers(6, len * kv_heads * d_head));
    let mut workers = Workers::new(variant, 2);
    let mut cache = Cache::new(kept, len, kv_heads, d_head);
    let rows = keys.chunks_exact(kv_heads * d_head).zip(values.chunks_exact(kv_heads * d_head));
    for (position, (keys, values)) in rows.enumerate() {
        cache.put(workers.kernel(), position, keys, values);
    }
    let (columns, stride) = (7, heads.heads * d_head + 3);
    let queries = numbers(7, columns * stride);
    let spans = [
        Span { cache: &cache, first: 0, columns: 0..1 },
        Span { cache: &cache, first: 253, columns: 1..6 },
        Span { cache: &cache, first: len - 1, columns: 6..7 },
    ];
    let mut found = vec![f32::NAN; columns * heads.heads * padded];
    workers.attend(&heads, &spans, (&queries, stride), &mut found);
    for (column, position) in [0, 253, 254, 255, 256, 257, len - 1].into_iter().enumerate() {
        let from = heads.band.map_or(0, |band| (position + 1usize).saturating_sub(band));
        for head in 0..heads.heads {
            let query = &queries[column * stride + head * d_head..][..d_head];
            let at = |j: usize| (j * kv_heads + head / group) * d_head;
            let score = |j: usize| {
                let products = query.iter().zip(&keys[at(j)..]).map(|(q, k)| f64::from(q * k));
                (f64::from(scale) * products.sum::<f64>()).exp()
            };
            let sum: f64 = (from..=position).map(score).sum();
            for e in 0..d_head {
                let value = |j: usize| score(j) / sum * f64::from(values[at(j) + e]);
                let wanted: f64 = (from..=position).map(value).sum();
                let y = found[(column * heads.heads + head) * padded + e];
                let error = (f64::from(y) - wanted).abs();
                assert!(error < tolerance, "{variant} {heads:?} {position}: {error}");
            }
        }
    }
}

#[test]
fn gates_and_norms_follow_their_formulas() {
    let xs: Vec<f32> = numbers(8, 150).iter().map(|x| 24. * x).chain([-90., 90., 0.]).collect();
    let norm = Norm {
        weight: numbers(9, xs.len()),
        bias: Some(numbers(10, xs.len())),
        epsilon: 1e-5,
        centred: true,
    };
    let wide = |xs: &[f32]| xs.iter().copied().map(f64::from).collect::<Vec<f64>>();
    for variant in Variant::available() {
        let kernel = Workers::new(variant, 1).kernel();
        let mut ys = vec![0.; xs.len()];
        let check = |name: &str, ys: &[f32], of: &dyn Fn(usize, f64) -> f64| {
            for (i, (y, x)) in ys.iter().zip(wide(&xs)).enumerate() {
                let wanted = of(i, x);
                let error = (f64::from(*y) - wanted).abs();
                assert!(error < 2e-6 * (1. + wanted.abs()), "{name} {variant} {x}: {y} {wanted}");
            }
        };
        kernel.swiglu(&xs, &norm.weight, &mut ys);
        check("swiglu", &ys, &|i, x| x / (1. + (-x).exp()) * f64::from(norm.weight[i]));
        kernel.gelu_tanh(&xs, &mut ys);
        let root = (2. / std::f64::consts::PI).sqrt();
        check("gelu_tanh", &ys, &|_, x| {
            0.5 * x * (1. + (root * (x + 0.044_715 * x.powi(3))).tanh())
        });
        kernel.norm(&norm, &xs, &mut ys);
        let count = xs.len() as f64;
        let mean = wide(&xs).iter().sum::<f64>() / count;
        let square = wide(&xs).iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let (weight, bias) = (wide(&norm.weight), wide(norm.bias.as_ref().unwrap()));
        check("norm", &ys, &|i, x| (x - mean) / (square + 1e-5).sqrt() * weight[i] + bias[i]);
    }
}

#[test]
fn caches_take_over_what_others_hold() {
    let kernel = Workers::new(Variant::available()[0], 1).kernel();
    let mut from = Cache::new(Numbers::F16, 40, 2, 10);
    for position in 0..40 {
        let xs = numbers(position as u64, 40);
        from.put(kernel, position, &xs[..20], &xs[20..]);
    }
    let mut to = Cache::new(Numbers::F16, 40, 2, 10);
    to.copy_from(&from, 33);
    let mut workers = Workers::new(Variant::available()[0], 1);
    let heads = Heads { heads: 2, kv_heads: 2, d_head: 10, band: None, scale: 1. };
    let query = numbers(11, 20);
    let results = [&from, &to].map(|cache| {
        let mut ys = vec![0.; 32];
        let span = Span { cache, first: 32, columns: 0..1 };
        workers.attend(&heads, &[span], (&query, 20), &mut ys);
        ys
    });
    assert_eq!(results[0], results[1]);
}
