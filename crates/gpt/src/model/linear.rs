//! A linear map.

use std::cell::OnceCell;

use core_layers::{
    encoded::Encoded,
    kernels::{packed::PackedMatrix, step::Map},
};
use tch::{Tensor, nn, nn::Module};

/// `y = W x + b`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub(crate) ws: Tensor,
    /// `[out]`.
    pub(crate) bs: Option<Tensor>,
    packed: OnceCell<PackedMatrix>, // the same weights as they were delivered
}

impl Linear {
    /// Weights from `N(0, std)`, biases zero.
    pub(crate) fn new(vs: &nn::Path<'_>, sizes: [i64; 2], std: f64, has_biases: bool) -> Self {
        Self {
            ws: vs.var("weight", &sizes, normal(std)),
            bs: has_biases.then(|| vs.zeros("bias", &sizes[..1])),
            packed: OnceCell::new(),
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

    /// Keeps `delivered`, what its weights were decoded from, for few vectors on a GPU, where that is blocks that a kernel reads.
    pub(super) fn pack(&self, delivered: &Encoded) {
        if let Some(packed) = PackedMatrix::new(delivered, self.ws.device()) {
            let _ = self.packed.set(packed);
        }
    }

    pub(super) fn is_packed(&self) -> bool {
        self.packed.get().is_some()
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
        match self.packed.get().filter(|it| it.takes(xs)) {
            Some(packed) => {
                let ys = packed.forward(xs);
                self.bs.as_ref().map_or(ys.shallow_clone(), |bs| ys + bs)
            }
            None => xs.linear(&self.ws, self.bs.as_ref()),
        }
    }
}
