//! NADE, MADE and the PixelCNN family.

pub mod data;
