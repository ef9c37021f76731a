use tch::{Device, Kind, Tensor};

use super::{super::emulated::on_every_gpu, ensure_same_values, numbers};
use crate::{
    encoded::{Encoded, Encoding},
    kernels::{cuda, packed::PackedMatrix},
};

const ENCODINGS: [Encoding; 5] =
    [Encoding::Int8, Encoding::Int4, Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_1];

fn packed(encoding: Encoding, rows: usize, columns: usize, device: Device) -> PackedMatrix {
    let values = (0..rows * columns).map(|i| (i as f32 * 0.7).sin() + 0.3).collect::<Vec<_>>();
    let matrix = Encoded::from_f32(rows, columns, &values).encode(encoding).unwrap();
    PackedMatrix::new(&matrix, device).unwrap()
}

#[test]
fn a_product_of_blocks_is_that_of_the_decoded_matrix() {
    for encoding in ENCODINGS {
        for (rows, columns, vectors) in [(5, 64, 1), (3, 704, 3), (33, 64, 8), (1, 64, 0)] {
            let inputs =
                |kind, device| vec![numbers(&[vectors, columns as i64], 0.9, 0.2, kind, device)];
            let of = |it: &[Tensor]| {
                vec![packed(encoding, rows, columns, it[0].device()).forward(&it[0])]
            };
            ensure_same_values(
                &of,
                &of,
                &inputs,
                &format!("{encoding}, {rows} x {columns}, {vectors}"),
            );
        }
    }
}

#[test]
fn vectors_that_do_not_fit_in_shared_memory_together_take_turns() {
    let columns = 64 * 80; // 20 KiB a vector: four at once
    let inputs = |kind, device| vec![numbers(&[5, columns], 0.9, 0.02, kind, device)];
    let of = |it: &[Tensor]| {
        vec![packed(Encoding::Int4, 1, columns as usize, it[0].device()).forward(&it[0])]
    };
    ensure_same_values(&of, &of, &inputs, "long rows");
}

#[test]
fn numbers_that_are_none_stay_in_their_vector() {
    on_every_gpu(|device, gpu| {
        let matrix = packed(Encoding::Q4_1, 3, 64, device);
        let xs = numbers(&[2, 64], 0.9, 1., Kind::Float, device);
        let _ = xs.get(1).get(9).fill_(f64::INFINITY);
        let ys = matrix.forward(&xs);
        assert_eq!(ys.get(0).isfinite().all().int64_value(&[]), 1, "{gpu}");
        assert_eq!(ys.get(1).isfinite().any().int64_value(&[]), 0, "{gpu}");
    });
}

#[test]
fn a_product_that_does_not_fit_is_refused() {
    on_every_gpu(|device, _| {
        let (gpu, matrix) = (cuda::of(device).unwrap(), packed(Encoding::Int8, 3, 64, device));
        for (sizes, kind) in [
            ([1, 63], Kind::Float),
            ([9, 64], Kind::Float),
            ([1, 64], Kind::Double),
            ([1, 64], Kind::Int64),
        ] {
            let xs = Tensor::zeros(sizes, (kind, device));
            assert!(cuda::matvec::product(gpu, &matrix, &xs).is_err(), "{xs:?}");
        }
        if device.is_cuda() {
            let xs = Tensor::zeros([1, 64], (Kind::Float, Device::Cpu));
            assert!(cuda::matvec::product(gpu, &matrix, &xs).is_err(), "{xs:?}");
        }
    });
}
