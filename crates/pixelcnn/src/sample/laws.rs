//! The laws that a model and its steppers keep.

use anyhow::Result;
use core_layers::audit::{self, Law};
use tch::Device;

use super::{CachedEngine, ExactEngine};
use crate::model::{ImageContext, Model};

/// Tries every law on random images under `context`: causality at `positions` positions, the sum of probabilities, steppers
/// against the full pass, batches, the codec.
///
/// # Errors
/// A codec that fails, rather than loses.
pub fn laws(
    model: &Model,
    context: &ImageContext,
    device: Device,
    positions: usize,
    seed: u64,
) -> Result<Vec<Law>> {
    let exact = ExactEngine::new(model)?;
    let mut laws = vec![
        audit::causality(model, context, positions, seed),
        audit::sums_to_one(model, context, seed),
        audit::steppers_agree(model, &exact, context, seed),
        audit::batch_invariance(&exact, context, seed),
        audit::codec_round_trip(&exact, context, seed)?,
    ];
    if let Ok(cached) = CachedEngine::new(model, device) {
        let law = audit::steppers_agree(model, &cached, context, seed);
        laws.insert(3, Law { name: "cached steppers give the full pass", ..law });
    }
    Ok(laws)
}
