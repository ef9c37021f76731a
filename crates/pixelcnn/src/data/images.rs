//! Images of one split.
//! Letters: N images, H rows, W columns, C channels.

use core_layers::dataset::Split;
use ndarray::{Array3, Array4, Axis};

/// Images as whole numbers, with what is known of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// Levels `[N, H, W, C]`, each smaller than the data's `num_levels`.
    pub levels: Array4<u16>,
    /// The class of each image, an index into the data's `label_names`.
    pub labels: Option<Vec<u32>>,
    /// Base names of the files they come from; empty where there are none.
    pub names: Vec<String>,
    /// A map that each image is conditioned on.
    pub maps: Option<CodeMaps>,
}

/// Maps of codes, each standing for a vector: what the images of a lower level are conditioned on.
/// Letters: G codes a place, K codes, D numbers each, h rows, w columns.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeMaps {
    /// Codes `[N, h, w, G]`.
    pub codes: Array4<u16>,
    /// The vector of each code `[G, K, D]`.
    pub vectors: Array3<f32>,
}

impl CodeMaps {
    /// The maps of the images `rows`: `[rows, G D, h, w]`.
    pub fn maps(&self, rows: &[usize]) -> Array4<f32> {
        let (_, h, w, _) = self.codes.dim();
        let (books, _, dim) = self.vectors.dim();
        Array4::from_shape_fn((rows.len(), books * dim, h, w), |(row, channel, y, x)| {
            let (book, i) = (channel / dim, channel % dim);
            self.vectors[[book, self.codes[[rows[row], y, x, book]] as usize, i]]
        })
    }
}

impl Images {
    /// Images without names.
    pub fn new(levels: Array4<u16>, labels: Option<Vec<u32>>) -> Self {
        Self { levels, labels, names: Vec::new(), maps: None }
    }

    /// Images N.
    pub fn len(&self) -> usize {
        self.levels.len_of(Axis(0))
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values of one image: H W C.
    pub fn dims(&self) -> usize {
        self.levels.shape()[1..].iter().product()
    }

    /// The images at the given indices, in that order.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let pick = |names: &Vec<String>| indices.iter().map(|&i| names[i].clone()).collect();
        Self {
            levels: self.levels.select(Axis(0), indices),
            labels: self.labels.as_ref().map(|labels| indices.iter().map(|&i| labels[i]).collect()),
            names: if self.names.is_empty() { Vec::new() } else { pick(&self.names) },
            maps: self.maps.as_ref().map(|it| CodeMaps {
                codes: it.codes.select(Axis(0), indices),
                vectors: it.vectors.clone(),
            }),
        }
    }

    /// Parts them by runs of ten ([`Split::of_index`]), in the order of [`Split::ALL`].
    pub(super) fn part(&self) -> [Self; 3] {
        Split::ALL.map(|split| self.select(&split.indices(self.len(), Split::of_index)))
    }

    /// The same images with other levels of the same shape.
    pub(super) fn with_levels(&self, levels: Array4<u16>) -> Self {
        Self { levels, ..self.clone() }
    }

    /// Keeps the first `count` images.
    pub(super) fn truncate(&mut self, count: usize) {
        if count < self.len() {
            *self = self.select(&(0..count).collect::<Vec<_>>());
        }
    }
}
