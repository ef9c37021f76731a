//! `csrc/cuda/quantise.cu`: the nearest codes of a codebook on a GPU, and what chose them.
//! Letters: N vectors, G codebooks, K codes each, D numbers a code.
//!
//! `argmin_k |e_k|^2 - 2 <x, e_k>`, the lower of equals: x `[N, G D]` of T, e `[G, K, D]` in f32, codes `[N, G]` in int64; no
//! table `[N, K]` of distances is written. A block of 64 vectors reads all codes of a codebook, and its vectors once for
//! every 64 codes: `4 ceil(N / 64) G K D` bytes of codes and `ceil(K / 64) N G D` numbers of vectors, from the cache but for
//! the first time, and `8 N G` bytes are written. It does `2 N G K D` operations, and a 64th more for `|e_k|^2`. A thread
//! reads 8 floats of shared memory for 16 products and as many sums: where K is a few hundred, shared memory and arithmetic
//! should bind. It is float32 on plain cores, since rounding to tensor cores' types would change codes.
//!
//! Counts and sums take a second pass: each block sums what chose the same code among its 64 vectors, which it reads once
//! more, and writes D floats a code that was chosen, `4 N G D` bytes at most, and 8 bytes a vector and codebook that say
//! whose; a warp a code then reads those sums and, for every 128 numbers of D, `4 N` bytes of marks: `4 N G K ceil(D / 128)`
//! bytes in all, from the cache. It adds `2 N G D` numbers at most, so the reading of marks and sums should bind. No number
//! is added where the order of blocks decides, so sums have one order and the same bits each time; libtorch's `index_add` on
//! a GPU does not promise that. Not run on a GPU.

use tch::{Kind, Tensor};

use super::{Arg, Element, Gpu, QUANTISE, Shape, THREADS, element};
use crate::kernels::ffi::TorchError;

/// Vectors of a block, `TILE` of the source.
const TILE: i64 = 64;

/// Sizes of a lookup.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    element: Element,
    vectors: i64,
    books: i64,
    codes: i64,
    dim: i64,
}

impl Sizes {
    /// Of vectors `[N, G D]` and codes `[G, K, D]`.
    fn of(xs: &Tensor, es: &Tensor) -> Result<Self, TorchError> {
        let refusal = || TorchError(format!("no lookup of {xs:?} among {es:?}"));
        let (Ok((vectors, width)), Ok((books, codes, dim))) = (xs.size2(), es.size3()) else {
            return Err(refusal());
        };
        let fits = width == books * dim
            && es.kind() == Kind::Float
            && es.device() == xs.device()
            && (1..=i64::from(u16::MAX)).contains(&books)
            && (1..=i64::from(i32::MAX)).contains(&codes)
            && dim > 0;
        if fits {
            Ok(Self { element: element(xs)?, vectors, books, codes, dim })
        } else {
            Err(refusal())
        }
    }

    /// A block for each of `parts` of every codebook.
    fn blocks(self, parts: i64) -> Shape {
        Shape { grid: [parts.max(1) as u32, self.books as u32, 1], ..Shape::of_rows(1) }
    }

    fn tiles(self) -> Shape {
        self.blocks((self.vectors + TILE - 1) / TILE)
    }
}

/// Sums of what chose the same code in each tile: numbers `[G, N, D]`, and where they stand, of which code, of how many.
#[derive(Debug)]
struct Partial {
    sums: Tensor,
    marks: Tensor,
    members: Tensor,
}

impl Partial {
    fn new(sizes: Sizes, xs: &Tensor) -> Self {
        let Sizes { vectors, books, dim, .. } = sizes;
        let whole = || Tensor::empty([books, vectors], (Kind::Int, xs.device()));
        let sums = Tensor::empty([books, vectors, dim], (Kind::Float, xs.device()));
        Self { sums, marks: whole(), members: whole() }
    }
}

/// The nearest code of each part of vectors `[N, G D]` among `es` `[G, K, D]`, which are f32.
///
/// # Errors
/// When shapes, kinds or devices do not fit, or the kernel cannot run.
///
/// # Shape
/// `[N, G]`, int64.
pub(crate) fn nearest(
    gpu: &'static dyn Gpu,
    xs: &Tensor,
    es: &Tensor,
) -> Result<Tensor, TorchError> {
    let sizes = Sizes::of(xs, es)?;
    tch::no_grad(|| look_up(gpu, sizes, &xs.contiguous(), es, None))
}

/// The same, with how many vectors chose each code `[G, K]` and their sums `[G, K, D]`.
///
/// # Errors
/// As of [`nearest`].
pub(crate) fn nearest_and_totals(
    gpu: &'static dyn Gpu,
    xs: &Tensor,
    es: &Tensor,
) -> Result<(Tensor, (Tensor, Tensor)), TorchError> {
    let sizes = Sizes::of(xs, es)?;
    tch::no_grad(|| {
        let partial = Partial::new(sizes, xs);
        let codes = look_up(gpu, sizes, &xs.contiguous(), es, Some(&partial))?;
        Ok((codes, add_up(gpu, sizes, &partial, es)?))
    })
}

/// How many of the vectors `[N, G D]` have each of the codes `[N, G]`, and their sums, like `sums` `[G, K, D]`. A code that is
/// none of K is left out.
///
/// # Errors
/// As of [`nearest`].
pub(crate) fn totals(
    gpu: &'static dyn Gpu,
    xs: &Tensor,
    codes: &Tensor,
    sums: &Tensor,
) -> Result<(Tensor, Tensor), TorchError> {
    let sizes = Sizes::of(xs, sums)?;
    let fits = codes.size() == [sizes.vectors, sizes.books]
        && codes.kind() == Kind::Int64
        && codes.device() == xs.device();
    if !fits {
        return Err(TorchError(format!("no sums of {xs:?} by {codes:?}")));
    }
    tch::no_grad(|| {
        let (partial, xs, codes) = (Partial::new(sizes, xs), xs.contiguous(), codes.contiguous());
        if sizes.vectors > 0 {
            let arguments = [
                Arg::Tensor(&xs),
                Arg::Tensor(&codes),
                Arg::Tensor(&partial.sums),
                Arg::Tensor(&partial.marks),
                Arg::Tensor(&partial.members),
                Arg::Int(sizes.vectors),
                Arg::Int(sizes.books),
                Arg::Int(sizes.dim),
            ];
            // SAFETY: the arguments of `alike`; N G codes, N G D numbers of xs and of sums, N G marks and members, in
            // order; a code is compared with others, and is no index.
            unsafe {
                gpu.launch(&QUANTISE, sizes.element, "alike", sizes.tiles(), &arguments)?;
            };
        }
        add_up(gpu, sizes, &partial, sums)
    })
}

fn look_up(
    gpu: &'static dyn Gpu,
    sizes: Sizes,
    xs: &Tensor,
    es: &Tensor,
    partial: Option<&Partial>,
) -> Result<Tensor, TorchError> {
    let codes = Tensor::empty([sizes.vectors, sizes.books], (Kind::Int64, xs.device()));
    if sizes.vectors == 0 {
        return Ok(codes);
    }
    let es = es.contiguous();
    let arguments = [
        Arg::Tensor(xs),
        Arg::Tensor(&es),
        Arg::Tensor(&codes),
        Arg::maybe(partial.map(|it| &it.sums)),
        Arg::maybe(partial.map(|it| &it.marks)),
        Arg::maybe(partial.map(|it| &it.members)),
        Arg::Int(sizes.vectors),
        Arg::Int(sizes.books),
        Arg::Int(sizes.codes),
        Arg::Int(sizes.dim),
    ];
    // SAFETY: the arguments of `nearest`, 16 x 16 threads a block; N G D numbers of xs, G K D of es and N G codes, in order;
    // of `Partial`, all three or none, of its sizes.
    unsafe {
        gpu.launch(&QUANTISE, sizes.element, "nearest", sizes.tiles(), &arguments)?;
    }
    Ok(codes)
}

/// Counts `[G, K]` and sums, like `es`.
fn add_up(
    gpu: &'static dyn Gpu,
    sizes: Sizes,
    partial: &Partial,
    es: &Tensor,
) -> Result<(Tensor, Tensor), TorchError> {
    let options = (Kind::Float, es.device());
    let counts = Tensor::empty([sizes.books, sizes.codes], options);
    let sums = Tensor::empty([sizes.books, sizes.codes, sizes.dim], options);
    let warps = i64::from(THREADS / 32);
    let arguments = [
        Arg::Tensor(&partial.sums),
        Arg::Tensor(&partial.marks),
        Arg::Tensor(&partial.members),
        Arg::Tensor(&counts),
        Arg::Tensor(&sums),
        Arg::Int(sizes.vectors),
        Arg::Int(sizes.codes),
        Arg::Int(sizes.dim),
    ];
    let shape = sizes.blocks((sizes.codes + warps - 1) / warps);
    // SAFETY: the arguments of `totals`, whose marks and members were written for all G N vectors, and sums where a mark is
    // a code; G K counts and G K D sums.
    unsafe {
        gpu.launch(&QUANTISE, sizes.element, "totals", shape, &arguments)?;
    }
    Ok((counts, sums))
}
