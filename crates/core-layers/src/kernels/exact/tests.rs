//! Bits: every variant, number of lanes and shape against the chain that the documentation states.

use super::*;

/// Numbers in -1..1 that differ with `seed`.
pub(super) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

pub(super) fn bits(xs: &[f32]) -> Vec<u32> {
    xs.iter().map(|x| x.to_bits()).collect()
}

/// One kernel for each variant of this processor and each number of lanes.
pub(super) fn kernels() -> Vec<Kernel> {
    let rows = [1, 4, 8, 16];
    Variant::available()
        .into_iter()
        .flat_map(|variant| rows.map(|rows| Kernel::new(variant, rows)))
        .collect()
}

fn weight(tap: usize, k: usize, out: usize) -> f32 {
    ((tap * 7919 + k * 104_729 + out * 1_299_709) % 2003) as f32 / 1001.5 - 1.0
}

/// The definition.
fn chain(
    outs: usize,
    lanes: usize,
    taps: &[(Tap<'_>, usize)],
    columns: usize,
    ys: &mut [f32],
    y_stride: usize,
) {
    for j in 0..columns {
        for o in 0..outs {
            for l in 0..lanes {
                let y = &mut ys[j * y_stride + o * lanes + l];
                for &(tap, inputs) in taps {
                    for k in 0..inputs {
                        *y = weight(tap.index, k, o)
                            .mul_add(tap.xs[j * tap.stride + k * lanes + l], *y);
                    }
                }
            }
        }
    }
}

/// Compares `accumulate` with the chain; `slack` floats lie between columns of the input and of the output.
fn check(kernel: Kernel, outs: usize, inputs: usize, columns: usize, slack: usize) {
    let lanes = kernel.lanes();
    let sizes = [inputs, 2, inputs + 1];
    let packed = Packed::new(outs, &sizes, weight);
    let stride = (inputs + 1) * lanes + slack;
    let y_stride = outs * lanes + slack;
    let xs = numbers(1, (columns + 2) * stride);
    let taps = [2, 0].map(|index| Tap { index, xs: &xs[index * stride..], stride }); // tap 2 looks two columns ahead
    let with_inputs = taps.map(|tap| (tap, sizes[tap.index]));
    let mut expected = numbers(2, columns * y_stride);
    let mut found = expected.clone();

    chain(outs, lanes, &with_inputs, columns, &mut expected, y_stride);
    kernel.accumulate(&packed, &taps, columns, &mut found, y_stride);

    assert_eq!(
        bits(&found),
        bits(&expected),
        "{kernel:?} {outs} outs {inputs} inputs {columns} columns slack {slack}"
    );
}

#[test]
fn a_linear_map_is_its_chain_bit_for_bit() {
    for kernel in kernels() {
        for outs in [1, 3, 16, 17, 128] {
            for inputs in [1, 5, 64] {
                for columns in [1, 2, 3, 5] {
                    check(kernel, outs, inputs, columns, 0);
                    check(kernel, outs, inputs, columns, 3);
                }
            }
        }
    }
}

#[test]
fn a_row_of_columns_is_its_chain_bit_for_bit() {
    for kernel in kernels() {
        check(kernel, 40, 33, 28, 5);
        check(kernel, 200, 3, 28, 0);
    }
}

#[test]
fn a_lane_does_not_see_its_neighbours() {
    for variant in Variant::available() {
        let packed = Packed::new(20, &[9], weight);
        let xs = numbers(3, 16 * 9);
        let alone = |row: usize| {
            let mut ys = vec![0.5; 20];
            let tap = Tap { index: 0, xs: &xs[row * 9..], stride: 9 };
            Kernel::new(variant, 1).accumulate(&packed, &[tap], 1, &mut ys, 20);
            bits(&ys)
        };
        for rows in [2, 6, 16] {
            let kernel = Kernel::new(variant, rows);
            let lanes = kernel.lanes();
            let side_by_side: Vec<f32> =
                (0..9 * lanes).map(|i| xs[i % lanes * 9 + i / lanes]).collect();
            let mut ys = vec![0.5; 20 * lanes];
            let tap = Tap { index: 0, xs: &side_by_side, stride: 9 * lanes };
            kernel.accumulate(&packed, &[tap], 1, &mut ys, 20 * lanes);
            for row in 0..rows {
                let found: Vec<u32> = (0..20).map(|o| ys[o * lanes + row].to_bits()).collect();
                assert_eq!(found, alone(row), "{kernel:?} row {row}");
            }
        }
    }
}

#[test]
fn nan_reaches_its_own_outputs_only() {
    for kernel in kernels() {
        let lanes = kernel.lanes();
        let packed = Packed::new(17, &[4], weight);
        let mut xs = vec![1.0; 3 * 4 * lanes];
        xs[4 * lanes] = f32::NAN; // column 1, input 0, lane 0
        let mut ys = vec![0.0; 3 * 17 * lanes];
        kernel.accumulate(
            &packed,
            &[Tap { index: 0, xs: &xs, stride: 4 * lanes }],
            3,
            &mut ys,
            17 * lanes,
        );
        for (i, y) in ys.iter().enumerate() {
            assert_eq!(y.is_nan(), i / (17 * lanes) == 1 && i % lanes == 0, "{kernel:?} place {i}");
        }
    }
}

#[test]
fn fill_repeats_the_bias_in_every_lane_of_its_columns() {
    let kernel = Kernel::new(Variant::Portable, 4);
    let mut ys = [9.0; 24];
    kernel.fill(&[1.0, 2.0], 2, &mut ys, 12);
    assert_eq!(ys[..12], [1., 1., 1., 1., 2., 2., 2., 2., 9., 9., 9., 9.]);
    assert_eq!(ys[..12], ys[12..]);
}

/// One number that changes if any bit does (FNV-1a).
fn digest(xs: &[f32]) -> u64 {
    xs.iter().flat_map(|x| x.to_bits().to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn the_bits_are_those_that_written_files_rely_on() {
    let xs: Vec<f32> = numbers(11, 300).iter().map(|x| x * 20.0).collect();
    for kernel in kernels() {
        let of = |function: fn(&Kernel, &mut [f32])| {
            let mut ys = xs.clone();
            function(&kernel, &mut ys);
            ys.retain(|y| !y.is_nan()); // logarithms of negative numbers
            digest(&ys)
        };
        let mut gated = vec![0.0; 144];
        kernel.gate(&xs[..288], 144 / kernel.lanes(), 1, &mut gated, 0);
        let (mut probs, mut log_probs) = (xs.clone(), vec![0.0; 256]);
        kernel.softmax(&xs, &mut probs);
        kernel.discretised_logistics(&[0.1, 0.7], &[-0.3, 0.6], &[-3.0, -1.5], &mut log_probs);
        let found = [
            of(Kernel::exp),
            of(Kernel::ln),
            of(Kernel::sigmoid),
            of(Kernel::elu),
            digest(&gated),
            digest(&probs),
            digest(&log_probs),
        ];
        let expected = [
            0x1fad_a295_6aff_90b6,
            0xfbfa_a7b0_4263_13bb,
            0x3b86_cc2e_ce9d_ebb3,
            0x20e5_46d1_6c20_31ba,
            0x64aa_6854_aae1_2a1f,
            0xe490_26e8_df91_c824,
            0x4e35_0a12_bc94_f1d4,
        ];
        assert_eq!(found, expected, "{kernel:?}");
    }
}

#[test]
fn split_gives_each_image_its_channels() {
    for kernel in kernels() {
        let lanes = kernel.lanes();
        for channels in [0, 1, 5, 32] {
            let xs: Vec<f32> = (0..channels * lanes).map(|i| i as f32).collect();
            let mut out = vec![0.0; xs.len()];
            kernel.split(&xs, &mut out);
            let expected: Vec<f32> =
                (0..xs.len()).map(|i| xs[i % channels * lanes + i / channels]).collect();
            assert_eq!(bits(&out), bits(&expected), "{kernel:?} {channels}");
        }
    }
}

#[test]
#[should_panic(expected = "tap 0 reads 9 floats, but xs has 8")]
fn an_input_that_ends_too_early_is_refused() {
    let packed = Packed::new(1, &[3], weight);
    let tap = Tap { index: 0, xs: &[0.0; 8], stride: 3 };
    Kernel::new(Variant::Portable, 1).accumulate(&packed, &[tap], 3, &mut [0.0; 3], 1);
}

#[test]
#[should_panic(expected = "ys has 2 floats, but 3 are written")]
fn an_output_that_ends_too_early_is_refused() {
    let packed = Packed::new(1, &[1], weight);
    let tap = Tap { index: 0, xs: &[0.0; 3], stride: 1 };
    Kernel::new(Variant::Portable, 1).accumulate(&packed, &[tap], 3, &mut [0.0; 2], 1);
}

#[test]
#[should_panic(expected = "xs has 8")]
fn a_stride_that_overflows_is_refused() {
    let packed = Packed::new(1, &[1], weight);
    let tap = Tap { index: 0, xs: &[0.0; 8], stride: usize::MAX / 2 + 2 };
    Kernel::new(Variant::Portable, 1).accumulate(&packed, &[tap], 3, &mut [0.0; 3], 1);
}
