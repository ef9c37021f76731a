//! VQ-VAE and VQ-VAE-2: a picture becomes a few codes, and autoregressive priors say how probable they are.
//!
//! `log p(x) >= log p(x | z) + log p(z)`, with `z` the codes that the encoder chooses, `p(x | z)` a decoder, and
//! `p(z) = prod_l p(z_l | z_above, class)` a PixelCNN for each level, from the top down.

pub mod cli;
pub mod config;
pub mod data;
pub mod evaluate;
pub mod model;
pub mod sample;
pub mod train;
pub mod trained;
