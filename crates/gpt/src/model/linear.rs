//! A linear map.

use core_layers::kernels::step::Map;
use tch::{Tensor, nn, nn::Module};

/// `y = W x + b`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub(crate) ws: Tensor,
    /// `[out]`.
    pub(crate) bs: Option<Tensor>,
}

impl Linear {
    /// Weights from `N(0, std)`, biases zero.
    pub(crate) fn new(vs: &nn::Path<'_>, sizes: [i64; 2], std: f64, has_biases: bool) -> Self {
        Self {
            ws: vs.var("weight", &sizes, normal(std)),
            bs: has_biases.then(|| vs.zeros("bias", &sizes[..1])),
        }
    }

    /// Its tensors by name.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        std::iter::once(("weight", &self.ws)).chain(self.bs.iter().map(|bs| ("bias", bs)))
    }

    /// Its weights, as a kernel reads them.
    pub(super) fn as_map(&self) -> Map<'_> {
        Map { ws: &self.ws, bs: self.bs.as_ref() }
    }

    /// Several maps of the same input as one product: `[.., sum of outs]`.
    pub(crate) fn joined(maps: &[&Self], xs: &Tensor) -> Tensor {
        let ws: Vec<_> = maps.iter().map(|map| &map.ws).collect();
        let bs: Option<Vec<_>> = maps.iter().map(|map| map.bs.as_ref()).collect();
        xs.linear(&Tensor::cat(&ws, 0), bs.map(|bs| Tensor::cat(&bs, 0)).as_ref())
    }
}

/// `N(0, std)`; nothing is drawn where that is zero.
pub(crate) fn normal(std: f64) -> nn::Init {
    if std > 0. { nn::Init::Randn { mean: 0., stdev: std } } else { nn::Init::Const(0.) }
}

impl Module for Linear {
    /// # Shape
    /// `[.., in]` to `[.., out]`.
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.linear(&self.ws, self.bs.as_ref())
    }
}
