//! Vector quantisation: the nearest code, gradients past it, and codebooks that follow what they are asked to say.
//!
//! Source: van den Oord et al., "Neural Discrete Representation Learning", 2017, section 3 and appendix A.1,
//! <https://arxiv.org/abs/1711.00937>. Letters: N vectors, G codebooks, K codes each, D numbers a code; a vector has G D
//! numbers, each part of D looked up in a codebook of its own.

mod codebook;
mod config;

use tch::{Device, Kind, Tensor, nn};

pub use codebook::{perplexity, usage};
pub use config::{CodebookUpdate, QuantiserConfig};

use crate::{
    ConfigError,
    autocast::Autocast,
    kernels::cuda::{self, Element, Gpu},
};

/// Codebooks and the counts that move them.
///
/// All three tensors are parameters by name, so that a checkpoint holds them and a resumed run goes on; under
/// [`CodebookUpdate::Ema`] none of them ever has a gradient, so no optimiser moves them.
#[derive(Debug)]
pub struct VectorQuantiser {
    config: QuantiserConfig,
    codes: Tensor,  // e [G, K, D]
    counts: Tensor, // n [G, K]
    sums: Tensor,   // m [G, K, D]
}

/// What a batch of vectors became.
#[derive(Debug)]
pub struct Quantised {
    /// The codes' vectors `[B, G D, H, W]`, whose gradient goes straight through to what was quantised.
    pub vectors: Tensor,
    /// Index of each code `[B, G, H, W]`, int64.
    pub codes: Tensor,
    /// What to add to the loss: commitment, and the codebook's own term where gradients move it.
    pub loss: Tensor,
}

impl VectorQuantiser {
    /// Creates codebooks under `vs`: `e` uniform in +-1/K, as if each code had been used once.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn new(vs: &nn::Path<'_>, config: &QuantiserConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let &QuantiserConfig { codebooks, codes, dim, .. } = config;
        let bound = 1. / codes as f64;
        let vectors =
            vs.var("codes", &[codebooks, codes, dim], nn::Init::Uniform { lo: -bound, up: bound });
        let counts = vs.ones("counts", &[codebooks, codes]);
        let sums = vs.zeros("sums", &[codebooks, codes, dim]);
        tch::no_grad(|| sums.shallow_clone().copy_(&vectors));
        Ok(Self { config: config.clone(), codes: vectors, counts, sums })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &QuantiserConfig {
        &self.config
    }

    /// The vectors of all codes `[G, K, D]`.
    pub fn codebooks(&self) -> Tensor {
        self.codes.detach()
    }

    /// The code nearest to each part of each vector, `argmin_k |x - e_k|^2` and the lowest of equals: `[N, G D]` to
    /// `[N, G]`, int64.
    ///
    /// `|x|^2` is the same for all codes and left out: one product and its bias, `|e_k|^2 - 2 <x, e_k>`, in float32 also
    /// under autocast.
    pub fn nearest(&self, xs: &Tensor) -> Tensor {
        if let Some(gpu) = kernel(xs) {
            return cuda::quantise::nearest(gpu, xs, &self.codes)
                .unwrap_or_else(|error| panic!("a lookup: {error}"));
        }
        tch::no_grad(|| {
            let _f32 = matches!(xs.device(), Device::Cpu | Device::Cuda(_))
                .then(|| Autocast::suspend(xs.device()));
            let parts = self.parts(&xs.detach()); // [G, N, D]
            let nearest: Vec<Tensor> = (0..self.config.codebooks)
                .map(|book| {
                    let codes = self.codes.get(book);
                    let squares =
                        codes.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
                    lowest(&squares.addmm(&parts.get(book), &(codes * -2.).tr()))
                })
                .collect();
            Tensor::stack(&nearest, 1)
        })
    }

    /// The vectors of codes: `[N, G]` to `[N, G D]`.
    pub fn vectors(&self, codes: &Tensor) -> Tensor {
        let all = self.codes.reshape([-1, self.config.dim]); // [G K, D]
        let count = codes.size()[0];
        all.index_select(0, &self.flat(codes).flatten(0, -1)).reshape([count, -1])
    }

    /// The codes' vectors of a map: `[B, G, H, W]` to `[B, G D, H, W]`.
    pub fn decode(&self, codes: &Tensor) -> Tensor {
        let size = codes.size();
        let rows = codes.permute([0, 2, 3, 1]).reshape([-1, size[1]]);
        self.vectors(&rows).reshape([size[0], size[2], size[3], -1]).permute([0, 3, 1, 2])
    }

    /// Quantises a map `[B, G D, H, W]`.
    ///
    /// `vectors = x + sg(e - x)`; `loss = beta mean (x - sg(e))^2`, plus `mean (sg(x) - e)^2` under
    /// [`CodebookUpdate::Gradient`] (the paper's equation 3, with means for sums).
    pub fn forward(&self, xs: &Tensor) -> Quantised {
        let size = xs.size();
        let xs = xs.to_kind(Kind::Float).permute([0, 2, 3, 1]); // [B, H, W, G D]
        let rows = xs.reshape([-1, size[1]]);
        let codes = self.nearest(&rows);
        let vectors = self.vectors(&codes).view_as(&xs);
        let fixed = vectors.detach();
        let distance = |from: &Tensor, to: &Tensor| (from - to).square().mean(Kind::Float);
        let mut loss = distance(&xs, &fixed) * self.config.beta;
        if self.config.update == CodebookUpdate::Gradient {
            loss += distance(&xs.detach(), &vectors);
        }
        Quantised {
            vectors: (&xs + (fixed - &xs).detach()).permute([0, 3, 1, 2]),
            codes: codes.reshape([size[0], size[2], size[3], -1]).permute([0, 3, 1, 2]),
            loss,
        }
    }

    /// `[N, G D]` to `[G, N, D]`.
    fn parts(&self, xs: &Tensor) -> Tensor {
        xs.to_kind(Kind::Float)
            .reshape([-1, self.config.codebooks, self.config.dim])
            .transpose(0, 1)
    }

    /// Codes `[N, G]` as rows of all codebooks under each other.
    fn flat(&self, codes: &Tensor) -> Tensor {
        let offsets = Tensor::arange(self.config.codebooks, (Kind::Int64, codes.device()));
        codes + offsets * self.config.codes
    }
}

/// What looks up and sums vectors like these in kernels, if anything does.
fn kernel(xs: &Tensor) -> Option<&'static dyn Gpu> {
    cuda::of(xs.device()).filter(|_| Element::of(xs.kind()).is_some())
}

/// `argmin` over the last axis of `[N, K]`, the lowest of equals.
///
/// libtorch's own walks number by number; minima of parts of 64 are vectorised, and leave one part of each to walk.
fn lowest(distances: &Tensor) -> Tensor {
    const PART: i64 = 64;
    let (rows, codes) = distances.size2().expect("a row of distances for each vector");
    if codes % PART != 0 || codes == PART {
        return distances.argmin(-1, false);
    }
    let parts = distances.view([rows, -1, PART]);
    let part = parts.amin([-1i64].as_slice(), false).argmin(-1, false); // [N]
    let first = Tensor::arange(rows, (Kind::Int64, distances.device())) * (codes / PART);
    let inside = distances.view([-1, PART]).index_select(0, &(first + &part)).argmin(-1, false);
    part * PART + inside
}

/// The rows of a map: `[B, C, H, W]` to `[B H W, C]`.
pub fn rows(map: &Tensor) -> Tensor {
    let channels = map.size()[1];
    map.permute([0, 2, 3, 1]).reshape([-1, channels])
}

#[cfg(test)]
mod tests;
