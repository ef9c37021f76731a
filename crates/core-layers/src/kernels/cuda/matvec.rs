//! `csrc/cuda/matvec.cu`: products of a matrix of quantised blocks and a few vectors, on a GPU. Inference only.
//! Letters: R vectors.
//!
//! `y = W x` for `W` `[rows, columns]` of 8 or 4 bits, x `[R, columns]` and y `[R, rows]` of T; weights alone are quantised.
//!
//! It reads `rows columns bits / 8` bytes and 2 or 4 a block of scales, once for up to eight vectors of 3072 columns, four of
//! 6144, two of 12,288 or one of 24,576; x is read by every block, 528 of them at most, from the cache. With V vectors at
//! once, 3 filled up to 4 and more than 4 to 8, a weight takes 3 V operations, of which one is for the least values that not
//! all encodings have, beside two (8 bits) or four (4 bits) to unpack it.
//!
//! A weight also takes 4 V bytes of shared memory, for one byte of it or a half: 4 V or 8 V times what comes from memory.
//! Memory should bind for one vector, where shared memory is that much faster, unpacking and shared memory for more. Not run
//! on a GPU.

use tch::{Kind, Tensor};

use super::{Arg, Element, Gpu, MATVEC, MOST_SHARED, Shape, element};
use crate::kernels::{ffi::TorchError, packed::PackedMatrix};

/// Vectors of one product, and of a launch at the most.
const MOST: i64 = 8;
/// Threads of a block, a warp a row, and blocks enough to fill a GPU.
const BLOCK: u32 = 128;
const MOST_BLOCKS: i64 = 528;

/// Whether [`product`] takes as many vectors of this kind and length.
pub(crate) fn takes(matrix: &PackedMatrix, xs: &Tensor) -> bool {
    let vectors = xs.numel() as i64 / matrix.columns.max(1);
    Element::of(xs.kind()).is_some()
        && vectors <= MOST
        && 4 * matrix.columns <= MOST_SHARED as i64
        && !xs.requires_grad()
}

/// `W x` of vectors `[.., columns]`.
///
/// # Errors
/// When shapes, kinds or devices do not fit, or the kernel cannot run.
///
/// # Shape
/// `[.., rows]`.
pub(crate) fn product(
    gpu: &'static dyn Gpu,
    matrix: &PackedMatrix,
    xs: &Tensor,
) -> Result<Tensor, TorchError> {
    let &PackedMatrix { layout, rows, columns, .. } = matrix;
    let element = element(xs)?;
    let fits = xs.size().last() == Some(&columns)
        && xs.device() == matrix.numbers.device()
        && takes(matrix, xs);
    if !fits {
        return Err(TorchError(format!("no product of [{rows}, {columns}] and {xs:?}")));
    }
    tch::no_grad(|| {
        let (mut sizes, flat) = (xs.size(), xs.reshape([-1, columns]).contiguous());
        *sizes.last_mut().expect("an axis of columns") = rows;
        let vectors = flat.size()[0];
        let ys = Tensor::empty([vectors, rows], (xs.kind(), xs.device()));
        let together =
            (0..4).map(|it| MOST >> it).find(|it| it * columns * 4 <= MOST_SHARED as i64);
        let together = together.expect("one vector fits");
        for first in (0..if rows > 0 { vectors } else { 0 }).step_by(together as usize) {
            let count = together.min(vectors - first);
            let [xs, ys] = [&flat, &ys].map(|it| it.narrow(0, first, count));
            let arguments = [
                Arg::Tensor(&xs),
                Arg::Tensor(&matrix.numbers),
                Arg::Tensor(&matrix.scales),
                Arg::maybe(matrix.least.as_ref()),
                Arg::Tensor(&ys),
                Arg::Int(count),
                Arg::Int(rows),
                Arg::Int(columns),
                Arg::Int(layout.block),
                Arg::Int(layout.bits),
                Arg::Int(i64::from(layout.scale == Kind::Half)),
            ];
            let warps = i64::from(BLOCK / 32);
            let grid = [((rows + warps - 1) / warps).min(MOST_BLOCKS) as u32, 1, 1];
            let shared = (4 * columns).cast_unsigned() * count.cast_unsigned().next_power_of_two();
            let shape = Shape { grid, block: [BLOCK, 1, 1], shared: shared as u32 };
            // SAFETY: the arguments of `matvec`; a packed matrix holds whole blocks, `rows columns bits / 8` bytes that start
            // at a multiple of 16, and as many scales as blocks; `count` rows of xs and ys, in order.
            unsafe {
                gpu.launch(&MATVEC, element, "matvec", shape, &arguments)?;
            }
        }
        Ok(ys.view(sizes.as_slice()))
    })
}
