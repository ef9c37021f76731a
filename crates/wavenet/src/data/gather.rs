//! Recordings to clips: resampled, trimmed, chosen, quantised and described; what is left out is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use core_layers::checkpoint::sha256;
use core_layers::cli::counted;
use core_layers::dataset::{FileDigest, Split, data_hash};
use ndarray::{Array2, s};

use super::condition::{characters, num_frames};
use super::features::read_features;
use super::mel::mel;
use super::{Clip, Condition, DataConfig, Dataset, Quantizer, Sound, trim, wav};

/// Most files that a report names for one reason.
const MAX_NAMED: usize = 3;

/// One recording on its way to a clip.
pub(super) struct Recording {
    pub(super) speaker: u32,
    pub(super) name: String,
    /// Where the source itself says it.
    pub(super) split: Option<Split>,
    pub(super) sound: Sound,
    pub(super) text: Option<String>,
    /// Where its features would be.
    pub(super) npy: Option<PathBuf>,
}

/// Clips gathered so far.
pub(super) struct Gathering<'a> {
    config: &'a DataConfig,
    sample_rate: u32,
    hop: usize,
    quantizer: Quantizer,
    num_features: usize,
    clips: Vec<(Split, Clip)>,
    seen: BTreeSet<[u8; 32]>, // sha256 of levels
    recordings: usize,
    read_seconds: f64,
    left_out: BTreeMap<String, Vec<String>>, // names by reason
    clipped: usize,
}

/// What a source says about itself.
pub(super) struct Source {
    pub(super) name: String,
    /// One line: what the recordings are.
    pub(super) rule: String,
    pub(super) speakers: Vec<String>,
    pub(super) files: Vec<FileDigest>,
}

impl<'a> Gathering<'a> {
    /// Nothing gathered yet; clips will have this rate.
    pub(super) fn new(config: &'a DataConfig, sample_rate: u32) -> Self {
        Self {
            config,
            sample_rate,
            hop: config.hop_at(sample_rate),
            quantizer: config.quantizer(),
            num_features: 0,
            clips: Vec::new(),
            seen: BTreeSet::new(),
            recordings: 0,
            read_seconds: 0.0,
            left_out: BTreeMap::new(),
            clipped: 0,
        }
    }

    /// Counts a recording that is not even read.
    pub(super) fn leave_out(&mut self, name: &str, reason: impl Into<String>) {
        self.recordings += 1;
        self.note(name, reason);
    }

    fn note(&mut self, name: &str, reason: impl Into<String>) {
        self.left_out.entry(reason.into()).or_default().push(name.into());
    }

    /// Takes a recording, or leaves it out for a reason of its own.
    ///
    /// # Errors
    /// Features that are missing or do not fit.
    pub(super) fn add(&mut self, recording: Recording) -> Result<()> {
        let Recording { speaker, name, split, sound, text, npy } = recording;
        self.recordings += 1;
        self.read_seconds += sound.seconds();
        let samples = sound.resampled(self.sample_rate).with_context(|| name.clone())?.samples;
        let mut range = trim::trim(&samples, self.sample_rate, self.config.trim_db);
        if self.config.condition == Condition::Npy {
            range = range.start / self.hop * self.hop
                ..range.end.next_multiple_of(self.hop).min(samples.len());
        }
        let kept = &samples[range.clone()];
        let seconds = kept.len() as f64 / f64::from(self.sample_rate);
        let DataConfig { min_seconds, max_seconds, .. } = *self.config;
        if kept.is_empty() {
            self.note(&name, "silent (no 10 ms above -60 dB of full scale)");
        } else if seconds < min_seconds {
            self.note(&name, format!("shorter than {min_seconds} s"));
        } else if max_seconds > 0.0 && seconds > max_seconds {
            self.note(&name, format!("longer than {max_seconds} s"));
        } else if self.config.condition == Condition::Characters && text.is_none() {
            self.note(&name, "without a transcript");
        } else {
            let levels = self.quantizer.encode_all(kept);
            let bytes: Vec<u8> = levels.iter().flat_map(|level| level.to_le_bytes()).collect();
            if !self.seen.insert(sha256(&bytes)) {
                self.note(&name, "the very sound of another");
                return Ok(());
            }
            let frames = num_frames(kept.len(), self.hop.max(1));
            let features = match self.config.condition {
                Condition::None => None,
                Condition::Characters => {
                    Some(characters(text.as_deref().unwrap_or_default(), frames))
                }
                Condition::Mel => {
                    let bands = self.config.mel_bands as usize;
                    Some(mel(kept, self.sample_rate, self.hop, bands))
                }
                Condition::Npy => {
                    let path = npy.with_context(|| {
                        format!("data.condition is npy, but {} has no such files", self.config.data)
                    })?;
                    let whole = read_features(&path, samples.len(), self.hop)?;
                    let first = range.start / self.hop;
                    Some(whole.slice(s![first..first + frames, ..]).to_owned())
                }
            };
            self.ensure_width(features.as_ref(), &name)?;
            self.clipped += usize::from(kept.iter().any(|x| x.abs() > 1.0));
            let split = split.unwrap_or_else(|| Split::of_name(&name));
            self.clips.push((split, Clip { name, speaker, levels, features, text }));
        }
        Ok(())
    }

    /// Refuses features that are more or fewer than those of the clips before.
    fn ensure_width(&mut self, features: Option<&Array2<f32>>, name: &str) -> Result<()> {
        let width = features.map_or(0, Array2::ncols);
        if self.clips.is_empty() {
            self.num_features = width;
        }
        let others = self.num_features;
        ensure!(width == others, "{name} has {width} features a frame, those before it {others}");
        Ok(())
    }

    /// Parts, orders and limits the clips.
    pub(super) fn finish(mut self, source: Source) -> Dataset {
        let Source { name, rule, speakers, files } = source;
        let report = self.report();
        self.clips.sort_by_cached_key(|(_, clip)| {
            Split::mixed(&format!("{}/{}", speakers[clip.speaker as usize], clip.name))
        });
        let mut splits = [Vec::new(), Vec::new(), Vec::new()];
        for (split, clip) in self.clips.drain(..) {
            let place = Split::ALL.iter().position(|&other| other == split).unwrap_or(0);
            splits[place].push(clip);
        }
        for clips in &mut splits {
            if self.config.limit > 0 {
                clips.truncate(self.config.limit);
            }
        }
        let protocol = self.protocol(&rule);
        let [train, valid, test] = splits;
        Dataset {
            name,
            hash: data_hash(files, wav::DECODER, &protocol),
            protocol,
            encoding: self.quantizer.encoding(),
            num_levels: self.quantizer.num_levels(),
            sample_rate: self.sample_rate,
            speakers,
            hop: self.hop,
            num_features: self.num_features,
            train,
            valid,
            test,
            entropy_nats: None,
            report,
        }
    }

    fn protocol(&self, rule: &str) -> String {
        let config = self.config;
        let mut parts = vec![rule.to_owned(), format!("{} Hz", self.sample_rate)];
        if config.trim_db > 0.0 {
            parts.push(trim::words(config.trim_db));
        }
        parts.push(format!("{} s and longer", config.min_seconds));
        if config.max_seconds > 0.0 {
            parts.push(format!("at most {} s", config.max_seconds));
        }
        parts.push(self.quantizer.words());
        match config.condition {
            Condition::None => {}
            Condition::Characters => parts.push(format!("characters spread, hop {}", self.hop)),
            Condition::Mel => {
                parts.push(format!("log-mel of {} bands, hop {}", config.mel_bands, self.hop));
            }
            Condition::Npy => parts.push(format!("features of .npy files, hop {}", self.hop)),
        }
        if config.limit > 0 {
            parts.push(format!("the first {} of each split", config.limit));
        }
        parts.join("; ")
    }

    /// What was kept, and what was left out and why.
    fn report(&self) -> Vec<String> {
        let samples: usize = self.clips.iter().map(|(_, clip)| clip.levels.len()).sum();
        let mut lines = vec![format!(
            "{} of {} kept, {:.1} of {:.1} s",
            self.clips.len(),
            counted(self.recordings, "recording"),
            samples as f64 / f64::from(self.sample_rate),
            self.read_seconds
        )];
        for (reason, names) in &self.left_out {
            let mut some = names.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
            if names.len() > MAX_NAMED {
                some += ", ...";
            }
            lines.push(format!("{} left out: {reason}: {some}", names.len()));
        }
        if self.clipped > 0 {
            lines.push(format!("{} kept that exceed full scale, clipped", self.clipped));
        }
        lines
    }
}
