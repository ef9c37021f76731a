//! Matrices of quantised blocks on a device, as GPUs read them: whole numbers in one tensor, scales in another, so that 16
//! bytes of numbers can be read at once. Nothing is quantised again. Letters: R vectors.
//!
//! `y = W x` with `w = d q` or `d q + m`: numbers q `[rows, columns bits / 8]` bytes, scales d and least values m
//! `[rows, columns / block]` of 2 bytes each, x `[R, columns]`, y `[R, rows]`. Up to eight vectors on a GPU read only those:
//! `kernels/cuda/matvec.rs` counts bytes and operations. Elsewhere the matrix is decoded by libtorch operations, several
//! tensors of its size in f32, and multiplied, `2 R rows columns` operations.

use tch::{Device, Kind, Tensor};

use super::cuda;
use crate::encoded::{Encoded, Encoding};

/// A matrix `[rows, columns]` of blocks, `d q` or `d q + m`.
#[derive(Debug)]
pub struct PackedMatrix {
    pub(crate) layout: Layout,
    pub(crate) rows: i64,
    pub(crate) columns: i64,
    pub(crate) numbers: Tensor,       // [rows, columns bits / 8], uint8
    pub(crate) scales: Tensor,        // [rows, columns / block], bf16 or f16
    pub(crate) least: Option<Tensor>, // likewise
}

/// How blocks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Values of a block.
    pub(crate) block: i64,
    /// Bits of a whole number.
    pub(crate) bits: i64,
    /// Kind of scales.
    pub(crate) scale: Kind,
    has_least: bool,
}

impl Layout {
    /// That of an encoding, where scales and numbers stand apart.
    fn of(encoding: Encoding) -> Option<Self> {
        let (block, bits, scale, has_least) = match encoding {
            Encoding::Int8 => (64, 8, Kind::BFloat16, false),
            Encoding::Int4 => (64, 4, Kind::BFloat16, false),
            Encoding::Q8_0 => (32, 8, Kind::Half, false),
            Encoding::Q4_0 => (32, 4, Kind::Half, false),
            Encoding::Q4_1 => (32, 4, Kind::Half, true),
            _ => return None,
        };
        Some(Self { block, bits, scale, has_least })
    }
}

impl PackedMatrix {
    /// The matrix on `device`; none unless it is int8, int4, `q8_0`, `q4_0` or `q4_1`.
    pub fn new(matrix: &Encoded, device: Device) -> Option<Self> {
        let layout = Layout::of(matrix.encoding())?;
        let (_, size) = matrix.encoding().block();
        let head = if layout.has_least { 4 } else { 2 }; // bytes before the numbers
        let blocks = matrix.bytes().chunks_exact(size);
        let part = |from: usize, to: usize| -> Vec<u8> {
            blocks.clone().flat_map(|it| &it[from..to]).copied().collect()
        };
        let (rows, columns) = (matrix.rows() as i64, matrix.columns() as i64);
        let scales = |from: usize| {
            let sizes = [rows, columns / layout.block];
            Tensor::from_data_size(&part(from, from + 2), &sizes, layout.scale).to_device(device)
        };
        let bytes = [rows, columns * layout.bits / 8];
        let numbers = Tensor::from_data_size(&part(head, size), &bytes, Kind::Uint8);
        Some(Self {
            layout,
            rows,
            columns,
            numbers: numbers.to_device(device),
            scales: scales(0),
            least: layout.has_least.then(|| scales(2)),
        })
    }

    /// Whether a kernel multiplies `xs` by it as it is.
    pub fn takes(&self, xs: &Tensor) -> bool {
        cuda::of(xs.device()).is_some() && cuda::matvec::takes(self, xs)
    }

    /// The product `W x`; for up to eight vectors on a GPU without decoding the matrix to memory.
    ///
    /// # Shape
    /// `[.., columns]` to `[.., rows]`.
    ///
    /// # Panics
    /// If shapes, kinds or devices do not fit.
    pub fn forward(&self, xs: &Tensor) -> Tensor {
        if let Some(gpu) = cuda::of(xs.device()).filter(|_| cuda::matvec::takes(self, xs)) {
            return cuda::matvec::product(gpu, self, xs)
                .unwrap_or_else(|error| panic!("a product: {error}"));
        }
        let no_bias: Option<Tensor> = None;
        xs.linear(&self.decoded(xs.kind()), no_bias)
    }

    /// Its values `[rows, columns]`, computed in f32 at least.
    pub fn decoded(&self, kind: Kind) -> Tensor {
        let wide = if kind == Kind::Double { Kind::Double } else { Kind::Float };
        let Layout { block, bits, .. } = self.layout;
        let sizes = [self.rows, self.columns / block, block * bits / 8];
        let bytes = self.numbers.view(sizes).to_kind(wide); // [rows, blocks, bytes]
        let numbers = if bits == 8 {
            &bytes - bytes.gt(127.).to_kind(wide) * 256.
        } else {
            let high = (&bytes / 16.).floor();
            let all = Tensor::cat(&[&bytes - &high * 16., high], -1);
            if self.least.is_none() { all - 8. } else { all }
        }; // [rows, blocks, block]
        let spread = |it: &Tensor| it.to_kind(wide).unsqueeze(-1);
        let values = numbers * spread(&self.scales);
        let values = match &self.least {
            Some(least) => values + spread(least),
            None => values,
        };
        values.view([self.rows, self.columns]).to_kind(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_matrix_holds_exactly_what_was_delivered() {
        let values: Vec<f32> = (0..3 * 128).map(|i| (i as f32 * 0.7).sin() * 3.).collect();
        let plain = Encoded::from_f32(3, 128, &values);
        let mut packed_ones = 0;
        for encoding in Encoding::ALL {
            let Some(matrix) = plain.encode(encoding) else { continue };
            let Some(packed) = PackedMatrix::new(&matrix, Device::Cpu) else { continue };
            packed_ones += 1;
            let wanted = Tensor::from_slice(&matrix.to_f32()).view([3, 128]);
            assert_eq!(packed.decoded(Kind::Float), wanted, "{encoding}");
            let xs = Tensor::randn([2, 5, 128], (Kind::Float, Device::Cpu));
            assert_eq!(packed.forward(&xs), xs.matmul(&wanted.tr()), "{encoding}");
        }
        assert_eq!(packed_ones, 5);
    }
}
