//! What images are conditioned on.

use core_layers::{ConfigError, Context};
use ndarray::{Array4, Axis};
use tch::{Device, Tensor};

/// Class labels, a spatial context map, both or nothing; one row an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageContext {
    rows: usize,
    labels: Option<Vec<u32>>,
    map: Option<Array4<f32>>, // [B, K, h, w]
}

impl ImageContext {
    /// `rows` images conditioned on nothing.
    pub const fn none(rows: usize) -> Self {
        Self { rows, labels: None, map: None }
    }

    /// An image for each label.
    pub fn labels(labels: Vec<u32>) -> Self {
        Self { rows: labels.len(), labels: Some(labels), map: None }
    }

    /// The same with a context map `[B, K, h, w]`.
    #[must_use]
    pub fn with_map(self, map: Array4<f32>) -> Self {
        Self { map: Some(map), ..self }
    }

    /// The class of each image, if they have one.
    pub fn class(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// The context map `[B, K, h, w]`, if there is one.
    pub fn map(&self) -> Option<&Array4<f32>> {
        self.map.as_ref()
    }

    /// Refuses a context map that is not of `shape`, channels K, rows h and columns w, or is missing, or is there where
    /// none is read.
    ///
    /// # Errors
    /// [`ConfigError`] with both shapes.
    pub fn ensure_map(&self, shape: Option<[usize; 3]>) -> Result<(), ConfigError> {
        let wanted =
            shape.map(|[channels, height, width]| vec![self.rows, channels, height, width]);
        let found = self.map.as_ref().map(|map| map.shape().to_vec());
        let say = |shape: &Option<Vec<usize>>| {
            shape.as_ref().map_or_else(|| "absent".to_owned(), |it| format!("{it:?}"))
        };
        ConfigError::ensure(found == wanted, "context map", say(&found), &say(&wanted))
    }

    /// The labels as a tensor `[B]`.
    pub(super) fn label_tensor(&self, device: Device) -> Option<Tensor> {
        let labels: Vec<i64> =
            self.labels.as_ref()?.iter().map(|&label| i64::from(label)).collect();
        Some(Tensor::from_slice(&labels).to_device(device))
    }

    /// The map as a tensor `[B, K, h, w]`.
    pub(super) fn map_tensor(&self, device: Device) -> Option<Tensor> {
        let map = self.map.as_ref()?.as_standard_layout();
        let sizes: Vec<i64> = map.shape().iter().map(|&size| size as i64).collect();
        Some(Tensor::from_slice(map.as_slice()?).reshape(sizes).to_device(device))
    }
}

impl Context for ImageContext {
    fn rows(&self) -> usize {
        self.rows
    }

    fn select(&self, rows: &[usize]) -> Self {
        Self {
            rows: rows.len(),
            labels: self
                .labels
                .as_ref()
                .map(|labels| rows.iter().map(|&row| labels[row]).collect()),
            map: self.map.as_ref().map(|map| map.select(Axis(0), rows)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_another_shape_is_refused_in_one_line() {
        let context = ImageContext::none(3).with_map(Array4::zeros((3, 2, 4, 5)));
        assert_eq!(context.ensure_map(Some([2, 4, 5])), Ok(()));
        let error =
            |context: &ImageContext, shape| context.ensure_map(shape).unwrap_err().to_string();
        assert_eq!(
            error(&context, Some([2, 5, 4])),
            "context map is [3, 2, 4, 5], but must be [3, 2, 5, 4]"
        );
        assert_eq!(error(&context, None), "context map is [3, 2, 4, 5], but must be absent");
        assert_eq!(
            error(&ImageContext::none(1), Some([2, 5, 4])),
            "context map is absent, but must be [1, 2, 5, 4]"
        );
    }

    #[test]
    fn selected_rows_keep_their_labels_and_maps() {
        let map = Array4::from_shape_fn((3, 1, 2, 2), |(b, _, y, x)| (b * 4 + y * 2 + x) as f32);
        let context = ImageContext::labels(vec![5, 6, 7]).with_map(map).select(&[2, 0, 2]);
        assert_eq!(context.rows(), 3);
        assert_eq!(context.class(), Some(&[7, 5, 7][..]));
        assert_eq!(context.map().map(|map| map[[1, 0, 1, 1]]), Some(3.));
    }
}
