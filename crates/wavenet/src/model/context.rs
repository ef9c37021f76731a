//! What a sound is conditioned on.

use core_layers::Context;
use ndarray::{Array3, ArrayView2, Axis};

/// Frames of zeros before and behind the features: what the condition's network sees beyond a clip's ends.
pub(crate) const MARGIN: usize = 2;

/// Speaker, features and length of each clip.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SoundContext {
    rows: usize,
    speakers: Option<Vec<u32>>,
    features: Option<Array3<f32>>, // [B, MARGIN + frames + MARGIN, F]
    lengths: Option<Vec<usize>>,
}

impl SoundContext {
    /// `rows` clips of which nothing is said.
    pub fn none(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }

    /// The speaker of each clip.
    ///
    /// # Panics
    /// If there are not as many as rows.
    #[must_use]
    pub fn with_speakers(mut self, speakers: Vec<u32>) -> Self {
        assert_eq!(speakers.len(), self.rows, "every clip has a speaker");
        self.speakers = Some(speakers);
        self
    }

    /// The features `[frames, F]` of each clip; frame f describes samples `f hop .. (f + 1) hop`. Shorter clips are
    /// followed by zeros.
    ///
    /// # Panics
    /// If there are not as many as rows, or widths differ.
    #[must_use]
    pub fn with_features(self, features: &[ArrayView2<'_, f32>]) -> Self {
        let padded: Vec<_> = features.iter().map(|it| (it.view(), MARGIN as isize)).collect();
        let frames = features.iter().map(ArrayView2::nrows).max().unwrap_or(0);
        self.with_windows(&padded, frames + 2 * MARGIN)
    }

    /// Frames of each clip from a frame on (negative: zeros come first), `frames` of them with the margins.
    pub(crate) fn with_windows(
        mut self,
        windows: &[(ArrayView2<'_, f32>, isize)],
        frames: usize,
    ) -> Self {
        assert_eq!(windows.len(), self.rows, "every clip has features");
        let width = windows.first().map_or(0, |(it, _)| it.ncols());
        let mut all = Array3::zeros((self.rows, frames, width));
        for (mut to, (from, zeros)) in all.outer_iter_mut().zip(windows) {
            for (frame, mut to) in to.outer_iter_mut().enumerate() {
                let from = usize::try_from(frame as isize - zeros)
                    .ok()
                    .filter(|&f| f < from.nrows())
                    .map(|f| from.row(f));
                if let Some(from) = from {
                    to.assign(&from);
                }
            }
        }
        self.features = Some(all);
        self
    }

    /// Samples of each clip, where they differ.
    ///
    /// # Panics
    /// If there are not as many as rows.
    #[must_use]
    pub fn with_lengths(mut self, lengths: Vec<usize>) -> Self {
        assert_eq!(lengths.len(), self.rows, "every clip has a length");
        self.lengths = Some(lengths);
        self
    }

    /// The speaker of each row.
    pub fn speakers(&self) -> Option<&[u32]> {
        self.speakers.as_deref()
    }

    /// The features of each row with their margins: `[B, MARGIN + frames + MARGIN, F]`.
    pub(crate) fn features(&self) -> Option<&Array3<f32>> {
        self.features.as_ref()
    }
}

impl Context for SoundContext {
    fn rows(&self) -> usize {
        self.rows
    }

    fn select(&self, rows: &[usize]) -> Self {
        Self {
            rows: rows.len(),
            speakers: self.speakers.as_ref().map(|all| rows.iter().map(|&row| all[row]).collect()),
            features: self.features.as_ref().map(|all| all.select(Axis(0), rows)),
            lengths: self.lengths.as_ref().map(|all| rows.iter().map(|&row| all[row]).collect()),
        }
    }

    fn length(&self, row: usize) -> Option<usize> {
        self.lengths.as_ref().map(|all| all[row])
    }
}
