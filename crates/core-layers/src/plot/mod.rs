//! Pictures of numbers, as PNG: curves, heat maps and spectrograms. Nothing on the machine is needed, not even a font.

mod axis;
mod canvas;
mod colours;
mod curve;
mod heat_map;
mod learning;
mod spectrogram;

pub use axis::Scale;
pub use curve::{Chart, Series};
pub use heat_map::heat_map;
pub use learning::learning_curve;
pub use spectrogram::spectrogram;
