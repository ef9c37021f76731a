//! Drawing images: the plain sampler that mirrors the formula, and the steppers that are fast.

mod cached;
mod context;
mod cuda;
mod cursor;
mod draw;
mod estimators;
mod exact;
mod laws;
mod plan;

pub use cached::CachedEngine;
pub use cuda::CudaEngine;
pub use draw::{Drawing, Sampler};
pub use laws::laws;

use core_layers::{
    Autoregressive, ConfigError, Context as _, Engine, Layout, Stepper, kernels::exact::Variant,
};

use crate::model::{Estimator, ImageContext, Model};
use estimators::{MadePlan, NadePlan};
use exact::ExactStepper;
use plan::Plan;

/// Steppers in f32 of defined bits: the same on every machine, for any batch and any number of threads. The codec's
/// engine, and the default sampler on the CPU.
#[derive(Debug)]
pub struct ExactEngine {
    layout: Layout,
    variant: Variant,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Nade(NadePlan),
    Made(MadePlan),
    Convolutional(Box<Plan>),
}

impl ExactEngine {
    /// The engine of `model` on this processor's fastest variant, or the one that `CHAINRULE_SIMD` names.
    ///
    /// # Errors
    /// If `CHAINRULE_SIMD` names none.
    pub fn new(model: &Model) -> Result<Self, ConfigError> {
        Ok(Self::with_variant(model, Variant::detect()?))
    }

    /// The engine of `model` on a given variant.
    ///
    /// # Panics
    /// When stepped, if this processor lacks the variant.
    pub fn with_variant(model: &Model, variant: Variant) -> Self {
        let kind = match model.estimator() {
            Estimator::Nade(nade) => Kind::Nade(NadePlan::new(nade, model.config().image())),
            Estimator::Made(made) => Kind::Made(MadePlan::new(made, model.config().image())),
            Estimator::Convolutional(model) => Kind::Convolutional(Box::new(Plan::new(model))),
        };
        Self { layout: model.layout(), variant, kind }
    }
}

impl Engine for ExactEngine {
    type Context = ImageContext;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &ImageContext) -> Box<dyn Stepper + 'a> {
        match &self.kind {
            Kind::Nade(plan) => Box::new(plan.stepper(self.variant, context.rows())),
            Kind::Made(plan) => Box::new(plan.stepper(self.variant, context.rows())),
            Kind::Convolutional(plan) => Box::new(ExactStepper::new(plan, self.variant, context)),
        }
    }
}

#[cfg(test)]
mod tests;
