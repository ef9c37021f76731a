//! Attention against the chains that the module states, bit for bit.

use super::super::tests::{bits, kernels, numbers};
use super::*;

/// The definition, for one image and one head: keys and values `[j][D]`.
fn chain(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f32> {
    let scale = 1.0 / (query.len() as f32).sqrt();
    let score = |key: &Vec<f32>| {
        query.iter().zip(key).fold(0.0f32, |sum, (q, k)| (q * scale).mul_add(*k, sum))
    };
    let scores: Vec<f32> = keys.iter().map(score).collect();
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|s| maths::exp(s - greatest)).collect();
    let mut parts = [0.0; PARTS];
    for (j, weight) in weights.iter().enumerate() {
        parts[j % PARTS] += weight;
    }
    for distance in [8, 4, 2, 1] {
        for i in 0..distance {
            parts[i] += parts[i + distance];
        }
    }
    let sum = |c: usize| {
        weights.iter().zip(values).fold(0.0f32, |sum, (w, value)| w.mul_add(value[c], sum))
    };
    (0..query.len()).map(|c| sum(c) / parts[0]).collect()
}

/// Column j of image `lane`: `count` numbers that differ with all three.
fn column(what: u64, lane: usize, j: usize, count: usize) -> Vec<f32> {
    let seed = what * 1_000_003 + lane as u64 * 1009 + j as u64;
    numbers(seed, count).iter().map(|x| x * 3.0).collect()
}

/// `[channel][L]` of columns that stand image by image.
fn side_by_side(lanes: usize, of: impl Fn(usize) -> Vec<f32>) -> Vec<f32> {
    let columns: Vec<Vec<f32>> = (0..lanes).map(of).collect();
    (0..columns[0].len()).flat_map(|c| columns.iter().map(move |it| it[c])).collect()
}

#[test]
fn attention_is_its_chain_bit_for_bit_in_every_variant_and_lane() {
    for kernel in kernels() {
        let lanes = kernel.lanes();
        for (heads, depth) in [(1, 1), (2, 3), (3, 16), (1, 33)] {
            let channels = heads * depth;
            let mut past = kernel.past(channels, 37);
            for j in 0..37 {
                let queries = side_by_side(lanes, |lane| column(0, lane, j, channels));
                let mut ys = vec![f32::NAN; queries.len()];
                kernel.attend(&mut past, &queries, 0, heads, &mut ys);
                for lane in 0..lanes {
                    let found: Vec<f32> = ys.iter().skip(lane).step_by(lanes).copied().collect();
                    let cut = |what, head: usize| -> Vec<Vec<f32>> {
                        let of = |j| column(what, lane, j, channels);
                        (0..j).map(|j| of(j)[head * depth..][..depth].to_vec()).collect()
                    };
                    let query = column(0, lane, j, channels);
                    let wanted: Vec<f32> = (0..heads)
                        .flat_map(|head| {
                            let query = &query[head * depth..][..depth];
                            chain(query, &cut(1, head), &cut(2, head))
                        })
                        .map(|y| if j == 0 { 0.0 } else { y })
                        .collect();
                    assert_eq!(bits(&found), bits(&wanted), "{kernel:?} {heads} {depth} {j}");
                }
                let mut both = side_by_side(lanes, |lane| column(1, lane, j, channels));
                both.extend(side_by_side(lanes, |lane| column(2, lane, j, channels)));
                kernel.remember(&mut past, &both);
            }
        }
    }
}

#[test]
fn heads_of_a_part_read_their_own_channels() {
    for kernel in kernels() {
        let lanes = kernel.lanes();
        let mut past = kernel.past(6, 5);
        for j in 0..5 {
            kernel.remember(&mut past, &side_by_side(lanes, |lane| column(1, lane, j, 12)));
        }
        let queries = side_by_side(lanes, |lane| column(0, lane, 0, 6));
        let (mut all, mut part) = (vec![0.0; 6 * lanes], vec![0.0; 2 * lanes]);
        kernel.attend(&mut past, &queries, 0, 3, &mut all);
        kernel.attend(&mut past, &queries[2 * lanes..4 * lanes], 2, 1, &mut part);
        assert_eq!(bits(&part), bits(&all[2 * lanes..4 * lanes]), "{kernel:?}");
    }
}

#[test]
fn the_bits_are_those_that_written_files_rely_on() {
    for kernel in kernels() {
        let lanes = kernel.lanes();
        let mut past = kernel.past(8, 40);
        for j in 0..40 {
            kernel.remember(&mut past, &side_by_side(lanes, |_| column(1, 0, j, 16)));
        }
        let mut ys = vec![0.0; 8 * lanes];
        let queries = side_by_side(lanes, |_| column(0, 0, 0, 8));
        kernel.attend(&mut past, &queries, 0, 2, &mut ys);
        let first: Vec<u32> = ys.iter().step_by(lanes).map(|y| y.to_bits()).collect();
        assert_eq!(
            first,
            [
                0xbf4b_442b,
                0x3dbc_e31f,
                0x3e5c_407e,
                0x3e59_9186,
                0xc002_3d07,
                0x3f9f_8a3b,
                0xbfb7_da62,
                0xbf4e_4756
            ],
            "{kernel:?}"
        );
    }
}

#[test]
#[should_panic(expected = "the past has room")]
fn a_full_past_is_refused() {
    let kernel = kernels()[0];
    kernel.remember(&mut kernel.past(1, 0), &[0.0, 0.0]);
}
