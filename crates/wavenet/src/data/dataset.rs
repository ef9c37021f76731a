//! A data set: clips of levels in three splits, and how they came about.

use anyhow::{Context as _, Result};
use core_layers::dataset::Split;
use ndarray::Array2;

use super::Encoding;

/// One recording, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Its name; clips of different speakers with one name hold the same words.
    pub name: String,
    /// Who speaks: an index into [`Dataset::speakers`].
    pub speaker: u32,
    /// Its samples, each `0..num_levels`.
    pub levels: Vec<u16>,
    /// What the model is told about it, `[F, features]` with `F = ceil(T / hop)`; none where there is no condition.
    pub features: Option<Array2<f32>>,
    /// What is said, where it is known.
    pub text: Option<String>,
}

/// Clips in three splits, and how they came about.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The set's name: `voice`, or the base name of a folder.
    pub name: String,
    /// One line: how the clips were read, trimmed, quantised and split.
    pub protocol: String,
    /// How samples became levels.
    pub encoding: Encoding,
    /// Levels L of a sample.
    pub num_levels: u32,
    /// Samples per second, Hz.
    pub sample_rate: u32,
    /// Names of the speakers, sorted; at least one.
    pub speakers: Vec<String>,
    /// Samples per frame of the condition; 0 where there is none.
    pub hop: usize,
    /// Features of a frame; 0 where there is no condition.
    pub num_features: usize,
    /// Clips to fit.
    pub train: Vec<Clip>,
    /// Clips that choose between checkpoints.
    pub valid: Vec<Clip>,
    /// Clips that are reported.
    pub test: Vec<Clip>,
    /// sha256, in hex, over the files, the decoder's version and the protocol.
    pub hash: String,
    /// Entropy of the source, nats per sample, where it is known.
    pub entropy_nats: Option<f64>,
    /// Lines for the user: what was kept, and what was left out and why.
    pub report: Vec<String>,
}

impl Dataset {
    /// The clips of a split.
    pub fn split(&self, split: Split) -> &[Clip] {
        match split {
            Split::Train => &self.train,
            Split::Valid => &self.valid,
            Split::Test => &self.test,
        }
    }

    /// Refuses a set of which a split has no clips.
    ///
    /// # Errors
    /// One line that says which, how many clips there are, and what to do.
    pub fn ensure_split(&self, split: Split) -> Result<()> {
        let counts = Split::ALL.map(|split| self.split(split).len());
        let advice = format!(
            "names decide, so add clips, rename some, or sort them into folders train, valid and test ({})",
            self.report.join("; ")
        );
        split.ensure_some(&self.name, counts, "clip", &advice)
    }

    /// The same set with speakers numbered as in `names`, those of a network.
    ///
    /// # Errors
    /// A speaker whom the network does not know.
    pub fn with_speakers_of(mut self, names: &[String]) -> Result<Self> {
        let place = |speaker: &String| {
            let place = names.iter().position(|name| name == speaker).map(|place| place as u32);
            place.with_context(|| {
                let known = names.join(", ");
                format!("{}: the speaker {speaker} is none of the model's: {known}", self.name)
            })
        };
        let places = self.speakers.iter().map(place).collect::<Result<Vec<u32>>>()?;
        for clip in self.train.iter_mut().chain(&mut self.valid).chain(&mut self.test) {
            clip.speaker = places[clip.speaker as usize];
        }
        self.speakers = names.to_vec();
        Ok(self)
    }

    /// How long the clips of a split are together, seconds.
    pub fn seconds(&self, split: Split) -> f64 {
        let samples: usize = self.split(split).iter().map(|clip| clip.levels.len()).sum();
        samples as f64 / f64::from(self.sample_rate)
    }
}
