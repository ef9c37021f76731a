//! The exact engine of decoders: f32 of defined bits, the same on every machine, for any batch and any number of threads.
//!
//! Weights of any encoding are decoded to f32. A token's embedding, and where they are learnt its position's, are added; each
//! layer adds to that stream what attention reads, then what the feed-forward network makes, each computed apart from the
//! stream. Linear maps begin with their bias and go on in one chain of fused multiply-adds, inputs ascending
//! ([`Kernel::accumulate`]); norms, rotations, attention and activations are of the orders that
//! [`kernels::exact`](core_layers::kernels::exact) states. So logits depend on the tokens of their own text alone, not on how
//! many were read at once. Rows are columns of the kernels: weights are read once for up to 64 tokens, of one text or of many.
//!
//! [`Kernel::accumulate`]: core_layers::kernels::exact::Kernel::accumulate

mod pass;
mod plan;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod texts;

use std::sync::Arc;

use core_layers::{ConfigError, Context as _, Engine, Layout, Stepper, kernels::exact::Variant};

pub use texts::window;

use super::{Decode, Session};
use crate::{config::DecoderConfig, model::TextContext, weights::Weights};
use plan::Plan;
use session::ExactSession;
use texts::TextStepper;

/// Decoding in f32 of defined bits: the codec's engine.
///
/// As [`Engine`], of texts as long as the context, or of [`ExactEngine::with_length`]; what a token longer than the context
/// sees says [`window`].
#[derive(Debug, Clone)]
pub struct ExactEngine {
    plan: Arc<Plan>,
    variant: Variant,
    layout: Layout,
}

impl ExactEngine {
    /// The engine of a decoder, on this processor's fastest variant or the one that `CHAINRULE_SIMD` names.
    ///
    /// # Errors
    /// If `CHAINRULE_SIMD` names none.
    ///
    /// # Panics
    /// If the weights do not fit, see [`Weights::ensure_fit`].
    pub fn new(config: &DecoderConfig, weights: &Weights) -> Result<Self, ConfigError> {
        Ok(Self::with_variant(config, weights, Variant::detect()?))
    }

    /// The engine of a decoder on a given variant.
    ///
    /// # Panics
    /// As [`ExactEngine::new`]; when stepped, if this processor lacks the variant.
    pub fn with_variant(config: &DecoderConfig, weights: &Weights, variant: Variant) -> Self {
        let layout = Layout::uniform(config.context as usize, config.vocabulary as u32);
        Self { plan: Arc::new(Plan::new(config, weights)), variant, layout }
    }

    /// The same, as an [`Engine`] of texts of `tokens`, which may be more than the context holds.
    #[must_use]
    pub fn with_length(&self, tokens: usize) -> Self {
        let levels = self.plan.config.vocabulary as u32;
        Self { layout: Layout::uniform(tokens, levels), ..self.clone() }
    }
}

impl Decode for ExactEngine {
    fn vocabulary(&self) -> usize {
        self.plan.head.outs
    }

    fn context(&self) -> usize {
        self.plan.config.context as usize
    }

    fn session<'a>(&'a self, rows: usize) -> Box<dyn Session + 'a> {
        Box::new(ExactSession::new(&self.plan, self.variant, rows))
    }
}

impl Engine for ExactEngine {
    type Context = TextContext;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &TextContext) -> Box<dyn Stepper + 'a> {
        let session = ExactSession::new(&self.plan, self.variant, context.rows());
        Box::new(TextStepper::new(session, self.context(), self.plan.config.start))
    }
}
