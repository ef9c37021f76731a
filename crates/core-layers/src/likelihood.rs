//! To be written.
use tch::Tensor;
/// Mixtures.
#[derive(Debug)]
pub struct Logistics {
    /// x
    pub logits: Tensor,
}
