//! NADE, MADE and the PixelCNN family: images, one value at a time.
//!
//! `p(x) = prod_i p(x_i | x_<i, class, context)` over the values of an image in raster order, red before green before
//! blue; NADE and MADE in an order of their own.

pub mod cli;
pub mod config;
pub mod data;
pub mod evaluate;
pub mod model;
pub mod sample;
pub mod train;
pub mod trained;
