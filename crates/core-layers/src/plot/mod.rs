//! Pictures of numbers, as PNG: curves and heat maps. Nothing on the machine is needed, not even a font.

mod axis;
mod canvas;
mod curve;
mod heat_map;
mod learning;

pub use axis::Scale;
pub use curve::{Chart, Series};
pub use heat_map::heat_map;
pub use learning::learning_curve;
