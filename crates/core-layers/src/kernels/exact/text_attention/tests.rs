//! Attention over one text against the chains that the module states, bit for bit.

use super::super::Variant;
use super::super::tests::{bits, kernels, numbers};
use super::*;

/// The definition of one head over a span of keys and values `[j][D]`.
fn chain(query: &[f32], keys: &[&[f32]], values: &[&[f32]], span: Range<usize>) -> Vec<f32> {
    let scale = 1.0 / (query.len() as f32).sqrt();
    let score = |j: usize| {
        query.iter().zip(keys[j]).fold(0.0f32, |sum, (q, k)| (q * scale).mul_add(*k, sum))
    };
    let scores: Vec<f32> = span.clone().map(score).collect();
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|s| maths::exp(s - greatest)).collect();
    let mut parts = [0.0; BLOCK];
    for (j, weight) in span.clone().zip(&weights) {
        parts[j % BLOCK] += weight;
    }
    for distance in [8, 4, 2, 1] {
        for i in 0..distance {
            parts[i] += parts[i + distance];
        }
    }
    let sum = |c: usize| {
        span.clone().zip(&weights).fold(0.0f32, |sum, (j, w)| w.mul_add(values[j][c], sum))
    };
    (0..query.len()).map(|c| sum(c) / parts[0]).collect()
}

/// A past of `len` positions, its keys and its values `[position][K D]`.
fn past(len: usize, kv_heads: usize, depth: usize) -> (TextPast, Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut past = TextPast::new(kv_heads, depth);
    let column = |seed| numbers(seed, kv_heads * depth).iter().map(|x| x * 3.0).collect();
    let keys: Vec<Vec<f32>> = (0..len as u64).map(|j| column(1000 + j)).collect();
    let values: Vec<Vec<f32>> = (0..len as u64).map(|j| column(2000 + j)).collect();
    for (key, value) in keys.iter().zip(&values) {
        past.push(key, value);
    }
    (past, keys, values)
}

#[test]
fn attention_over_a_text_is_its_chain_bit_for_bit_in_every_variant() {
    for (kv_heads, share, depth) in
        [(1, 1, 1), (2, 1, 3), (3, 3, 16), (1, 9, 33), (4, 2, 32), (1, 1, 64), (1, 2, 130)]
    {
        let heads = kv_heads * share;
        let (past, keys, values) = past(150, kv_heads, depth);
        let queries: Vec<f32> = numbers(3, heads * depth).iter().map(|x| x * 3.0).collect();
        for span in [0..1, 0..16, 0..37, 20..37, 31..32, 3..150] {
            let mut wanted = Vec::new();
            for head in 0..heads {
                let cut = |all: &'_ [Vec<f32>]| -> Vec<Vec<f32>> {
                    all.iter().map(|it| it[head / share * depth..][..depth].to_vec()).collect()
                };
                let (keys, values) = (cut(&keys), cut(&values));
                let (keys, values): (Vec<&[f32]>, Vec<&[f32]>) =
                    keys.iter().zip(&values).map(|(k, v)| (&k[..], &v[..])).unzip();
                let query = &queries[head * depth..][..depth];
                wanted.extend(chain(query, &keys, &values, span.clone()));
            }
            for variant in Variant::available() {
                let mut ys = vec![f32::NAN; heads * depth];
                let kernel = Kernel::new(variant, 1);
                kernel.attend_text(&past, span.clone(), &queries, &mut Vec::new(), &mut ys);
                assert_eq!(
                    bits(&ys),
                    bits(&wanted),
                    "{variant} {kv_heads} {share} {depth} {span:?}"
                );
            }
        }
    }
}

#[test]
fn what_was_forgotten_and_what_comes_later_leaves_no_trace() {
    let kernel = kernels()[0];
    let attend = |past: &TextPast| {
        let mut ys = vec![0.0; 8];
        kernel.attend_text(past, 0..20, &numbers(3, 8), &mut vec![f32::NAN; 3], &mut ys);
        bits(&ys)
    };
    let (short, ..) = past(20, 2, 4);
    let (mut long, ..) = past(90, 2, 4);
    assert_eq!(attend(&short), attend(&long));
    long.truncate(20);
    assert_eq!(attend(&short), attend(&long));
    long.truncate(19);
    long.push(&[f32::NAN; 8], &[0.0; 8]);
    assert_ne!(attend(&short), attend(&long.clone()));
}

#[test]
fn the_bits_are_those_that_written_files_rely_on() {
    let (past, ..) = past(40, 2, 4);
    let wanted = [0xbf20_b62c, 0xbeb5_4a9e, 0x3f0b_8a36, 0x3f7d_3276];
    for kernel in kernels() {
        let mut ys = vec![0.0; 16];
        kernel.attend_text(&past, 5..40, &numbers(3, 16), &mut Vec::new(), &mut ys);
        assert_eq!(bits(&ys)[..4], wanted, "{kernel:?}");
    }
}

#[test]
#[should_panic(expected = "3..5 of 4")]
fn a_span_beyond_the_past_is_refused() {
    let (past, ..) = past(4, 1, 2);
    kernels()[0].attend_text(&past, 3..5, &[0.0; 2], &mut Vec::new(), &mut [0.0; 2]);
}
