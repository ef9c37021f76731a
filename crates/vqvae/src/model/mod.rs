//! The networks of the first stage. Letters: B batch, C colours, H rows, W columns, L levels, M channels, D numbers a code,
//! G codebooks.

mod autoencoder;
mod classifier;
mod layers;
#[cfg(test)]
mod tests;
mod vae;

pub use autoencoder::{Autoencoder, Latent, Losses, Outputs};
pub use classifier::{Classifier, ClassifierConfig};
pub use vae::{Vae, VaeLoss};
