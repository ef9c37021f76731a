//! `csrc/cuda/norm.cu`: layer norms and root mean square norms on a GPU, of `x` or of `x + r`. Letters: R rows, D width, P
//! parts of the rows.
//!
//! `y = (s - m) q w + b` with `s = x + r`, m the mean of s over D (0 without biases) and
//! `q = 1 / sqrt(mean((s - m)^2) + epsilon)`: x, r, s and y `[R, D]`, w and b `[D]` in f32.
//!
//! One pass reads x, and r where it is added, and writes y, and s: 2 numbers or 4 a number of y, and 8 bytes a row of m and q.
//! Its gradient reads s and the gradient of y, and that of s, and writes that of x, and that of r where the two differ in
//! kind: 3 numbers, 4 or 5; those of x and s are of f32 where they run in it between layers of T. It also writes and reads
//! sums of the gradients of weights and biases, 2 P D floats each way, with `P = min(ceil(R / 8), 2^18 / threads)`, a thread
//! for every 4 numbers of a row, or 1024: for few rows that is `R D` bytes each way. About 9 operations a number forward and
//! 14 in the gradient, so memory should bind. Not run on a GPU.
//!
//! The parts are of rows that depend on R and D only, and are added in order: the same bits every time.

use tch::{Kind, Tensor};

use super::{Arg, Element, Gpu, NORM, Shape, element};
use crate::{
    autocast,
    kernels::{ffi::TorchError, gradient::with_gradient},
};

/// The widest rows that one block holds: 16 numbers a thread.
const WIDEST: i64 = 1 << 14;

/// Weights `[D]`, and biases `[D]` where the mean is subtracted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) ws: &'a Tensor,
    pub(crate) bs: Option<&'a Tensor>,
    pub(crate) epsilon: f64,
}

/// What a norm of `xs` is given in: as on the CPU, under autocast what products read.
fn kind(xs: &Tensor) -> Kind {
    let of_products = autocast::kind_of_products(xs.device());
    of_products.filter(|_| xs.kind() == Kind::Float).unwrap_or(xs.kind())
}

/// Whether [`norm`] and [`add`] can take `xs` `[.., D]`, and what is added to it: of its shape, and of the kind of the norm.
pub(crate) fn takes(xs: &Tensor, residual: Option<&Tensor>, affine: Affine<'_>) -> bool {
    let width = xs.size().last().copied().unwrap_or(0);
    let is_vector = |it: &Tensor| it.size() == [width] && it.device() == xs.device();
    Element::of(xs.kind()).is_some()
        && (1..=WIDEST).contains(&width)
        && is_vector(affine.ws)
        && affine.bs.is_none_or(is_vector)
        && residual.is_none_or(|it| {
            it.size() == xs.size() && it.kind() == kind(xs) && it.device() == xs.device()
        })
}

/// The norm of `xs` over the last axis; in bfloat16 under autocast.
///
/// # Errors
/// When [`takes`] is false, or the kernel cannot run.
pub(crate) fn norm(
    gpu: &'static dyn Gpu,
    xs: &Tensor,
    affine: Affine<'_>,
) -> Result<Tensor, TorchError> {
    let pass = Pass::new(gpu, xs, None, affine)?;
    let (ws, bs) = vectors(affine);
    let made = pass.forward(xs, None, &ws, bs.as_ref(), affine.epsilon)?;
    let backward = move |saved: &[Tensor], grads: &[Tensor]| {
        let [dxs, _, dws, dbs] = pass.backward(saved, &grads[0], None)?;
        Ok([dxs, dws].into_iter().chain(pass.is_centred.then_some(dbs)).collect())
    };
    let inputs: Vec<&Tensor> = [xs, &ws].into_iter().chain(&bs).collect();
    let [ys] = with_gradient(&inputs, &made.saved(), [made.ys.shallow_clone()], backward)?;
    Ok(ys)
}

/// `xs + residual`, and its norm.
///
/// # Errors
/// When [`takes`] is false, or the kernel cannot run.
pub(crate) fn add(
    gpu: &'static dyn Gpu,
    xs: &Tensor,
    residual: &Tensor,
    affine: Affine<'_>,
) -> Result<[Tensor; 2], TorchError> {
    let pass = Pass::new(gpu, xs, Some(residual), affine)?;
    let (ws, bs) = vectors(affine);
    let made = pass.forward(xs, Some(residual), &ws, bs.as_ref(), affine.epsilon)?;
    let backward = move |saved: &[Tensor], grads: &[Tensor]| {
        let [dxs, dresidual, dws, dbs] = pass.backward(saved, &grads[1], Some(&grads[0]))?;
        Ok([dxs, dresidual, dws].into_iter().chain(pass.is_centred.then_some(dbs)).collect())
    };
    let inputs: Vec<&Tensor> = [xs, residual, &ws].into_iter().chain(&bs).collect();
    let outputs = [&made.sums, &made.ys].map(Tensor::shallow_clone);
    with_gradient(&inputs, &made.saved(), outputs, backward)
}

/// What a norm and its gradient share.
#[derive(Debug, Clone, Copy)]
struct Pass {
    gpu: &'static dyn Gpu,
    element: Element,
    /// Which kernels: of f32 between layers that compute in less, and of wide rows.
    suffix: &'static str,
    threads: u32,
    rows: i64,
    width: i64,
    is_centred: bool,
}

/// What a forward pass makes.
struct Made {
    sums: Tensor,  // like xs; xs itself where nothing is added
    stats: Tensor, // [R, 2], f32: mean and 1 / std
    ys: Tensor,
    ws: Tensor,
}

impl Made {
    /// What the gradient reads.
    fn saved(&self) -> [&Tensor; 3] {
        [&self.sums, &self.stats, &self.ws]
    }
}

impl Pass {
    fn new(
        gpu: &'static dyn Gpu,
        xs: &Tensor,
        residual: Option<&Tensor>,
        affine: Affine<'_>,
    ) -> Result<Self, TorchError> {
        if !takes(xs, residual, affine) {
            return Err(TorchError(format!("no norm of {xs:?} and {residual:?}")));
        }
        let made = Tensor::empty([0], (kind(xs), xs.device()));
        let (element, width) = (element(&made)?, affine.ws.numel() as i64);
        let is_wide = width > 4 * 1024;
        let suffix = match (xs.kind() == made.kind(), is_wide) {
            (true, false) => "",
            (true, true) => "_wide",
            (false, false) => "_of_floats",
            (false, true) => "_of_floats_wide",
        };
        let threads = if is_wide { 1024 } else { ((width + 127) / 128 * 32) as u32 };
        let (rows, is_centred) = (xs.numel() as i64 / width, affine.bs.is_some());
        Ok(Self { gpu, element, suffix, threads, rows, width, is_centred })
    }

    fn shape(&self, blocks: i64) -> Shape {
        Shape { block: [self.threads, 1, 1], ..Shape::of_rows(blocks) }
    }

    /// In how many parts rows are summed: eight rows each, or as many as fill a GPU.
    fn parts(&self) -> i64 {
        ((self.rows + 7) / 8).min((1 << 18) / i64::from(self.threads))
    }

    /// # Safety
    /// The arguments are the kernel's.
    unsafe fn launch(
        &self,
        name: &str,
        blocks: i64,
        arguments: &[Arg<'_>],
    ) -> Result<(), TorchError> {
        let name = format!("{name}{}", self.suffix);
        // SAFETY: as the caller promises.
        unsafe { self.gpu.launch(&NORM, self.element, &name, self.shape(blocks), arguments) }
    }

    fn forward(
        &self,
        xs: &Tensor,
        residual: Option<&Tensor>,
        ws: &Tensor,
        bs: Option<&Tensor>,
        epsilon: f64,
    ) -> Result<Made, TorchError> {
        let _no_graph = tch::no_grad_guard();
        let (xs, residual) = (xs.contiguous(), residual.map(Tensor::contiguous));
        let (ws, bs) = (ws.contiguous(), bs.map(Tensor::contiguous));
        let sums = residual.as_ref().map_or_else(|| xs.shallow_clone(), |_| xs.empty_like());
        let ys = Tensor::empty(xs.size(), (kind(&xs), xs.device()));
        let stats = Tensor::empty([self.rows, 2], (Kind::Float, xs.device()));
        if self.rows > 0 {
            let arguments = [
                Arg::Tensor(&xs),
                Arg::maybe(residual.as_ref()),
                Arg::Tensor(&ws),
                Arg::maybe(bs.as_ref()),
                Arg::Tensor(&sums),
                Arg::Tensor(&ys),
                Arg::Tensor(&stats),
                Arg::Int(self.rows),
                Arg::Int(self.width),
                Arg::Float(epsilon as f32),
            ];
            // SAFETY: the arguments of `norm_rows`: R D numbers of xs, what is added, sums and ys, in order and of their types;
            // D of ws and bs, f32; and 2 R of stats. Threads hold 4 or 16 numbers each of a row.
            unsafe { self.launch("norm_rows", self.rows, &arguments)? };
        }
        Ok(Made { sums, stats, ys, ws })
    }

    /// The gradients of `xs`, of what was added, of weights and of biases.
    fn backward(
        &self,
        saved: &[Tensor],
        dys: &Tensor,
        dsums: Option<&Tensor>,
    ) -> Result<[Option<Tensor>; 4], TorchError> {
        let (sums, stats, ws) = (&saved[0], &saved[1], &saved[2]);
        let made = self.element.kind();
        let dys = dys.to_kind(made).contiguous();
        let dsums = dsums.map(|it| it.to_kind(sums.kind()).contiguous());
        let dxs = sums.empty_like();
        let is_apart = dsums.is_some() && sums.kind() != made;
        let apart = is_apart.then(|| dys.empty_like());
        let both = Tensor::zeros([2, self.width], (Kind::Float, sums.device())); // dw and db
        if self.rows > 0 {
            let parts = Tensor::empty([self.parts(), 2, self.width], (Kind::Float, sums.device()));
            let arguments = [
                Arg::Tensor(sums),
                Arg::Tensor(stats),
                Arg::Tensor(ws),
                Arg::Tensor(&dys),
                Arg::maybe(dsums.as_ref()),
                Arg::Tensor(&dxs),
                Arg::maybe(apart.as_ref()),
                Arg::Tensor(&parts),
                Arg::Int(self.rows),
                Arg::Int(self.width),
                Arg::Int(i64::from(self.is_centred)),
            ];
            // SAFETY: the arguments of `norm_rows_gradient`: as in `forward`, with gradients like what they are of, and 2 D
            // numbers of parts for each block.
            unsafe { self.launch("norm_rows_gradient", self.parts(), &arguments)? };
            let arguments = [
                Arg::Tensor(&parts),
                Arg::Tensor(&both),
                Arg::Int(self.parts()),
                Arg::Int(2 * self.width),
            ];
            let shape = Shape::of_rows((2 * self.width + 31) / 32);
            // SAFETY: the arguments of `norm_sums`: 2 D columns of each part, and as many sums. Blocks have 8 warps.
            unsafe { self.gpu.launch(&NORM, self.element, "norm_sums", shape, &arguments)? };
        }
        let dresidual = apart.unwrap_or_else(|| dxs.shallow_clone());
        Ok([Some(dxs), Some(dresidual), Some(both.get(0)), Some(both.get(1))])
    }
}

/// Weights and biases in f32; their graph takes the gradient back to their own kind.
fn vectors(affine: Affine<'_>) -> (Tensor, Option<Tensor>) {
    (affine.ws.to_kind(Kind::Float), affine.bs.map(|it| it.to_kind(Kind::Float)))
}
