//! A data set, from the source's images to those that a run trains on.

use std::borrow::Cow;

use anyhow::{Result, ensure};
use core_layers::{
    ConfigError,
    dataset::{FileDigest, Split, data_hash},
};

use super::texture::Texture;
use super::{Binarize, DataConfig, Images, binarize};

/// The seed of all that is drawn once: no run's seed reaches it.
pub(super) const FIXED_SEED: u64 = 0x0da7_a5e7;

/// What random numbers are for, by split; each purpose has a stream of its own.
const BINARIZE: [&str; 3] = ["data.binarize.train", "data.binarize.valid", "data.binarize.test"];
/// The same for textures.
pub(super) const TEXTURE: [&str; 3] =
    ["data.texture.train", "data.texture.valid", "data.texture.test"];

/// Images in three splits, and how they came about.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The set's name: `digits`, or the base name of a folder or file.
    pub name: String,
    /// Levels L of a value: each is `0..num_levels`.
    pub num_levels: u32,
    /// What the labels mean; empty where there are none.
    pub label_names: Vec<String>,
    /// One line: how the images were made, re-quantised, binarised and split.
    pub protocol: String,
    /// Images to fit; where they are redrawn each epoch, one draw that no run's seed reaches.
    pub train: Images,
    /// Images that choose between checkpoints.
    pub valid: Images,
    /// Images that are reported.
    pub test: Images,
    /// sha256, in hex, over the files, the decoder's version and the protocol.
    pub hash: String,
    /// Exact entropy of the source, nats per image, where it is known.
    pub entropy_nats: Option<f64>,
    redraw: Redraw,
}

/// What an epoch does to the training images.
#[derive(Debug, Clone)]
enum Redraw {
    Never,
    Binarize { grey: Box<Images>, num_levels: u32 },
    Texture(Texture),
}

/// What the reader of a source hands over: all images, at the source's levels.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) num_levels: u32,
    pub(super) label_names: Vec<String>,
    /// One line: where the images come from, how they were cut and split.
    pub(super) rule: String,
    /// In the order of [`Split::ALL`].
    pub(super) splits: [Images; 3],
    pub(super) files: Vec<FileDigest>,
    /// Name and version of what decoded the files.
    pub(super) decoder: &'static str,
    pub(super) texture: Option<Texture>,
}

impl Dataset {
    /// Limits, re-quantises and binarises a source's images.
    pub(super) fn new(source: Source, config: &DataConfig) -> Result<Self> {
        let Source { name, label_names, rule, mut splits, files, decoder, texture, .. } = source;
        let counts = [0, 1, 2].map(|split: usize| splits[split].len());
        let advice =
            format!("add images, or sort them into folders train, valid and test ({rule})");
        for (images, split) in splits.iter_mut().zip(Split::ALL) {
            split.ensure_some(&config.data, counts, "image", &advice)?;
            if config.limit > 0 {
                images.truncate(config.limit);
            }
        }
        let source_levels = source.num_levels;
        let mut protocol = vec![rule];
        if config.limit > 0 {
            protocol.push(format!("the first {} of each split", config.limit));
        }
        let (num_levels, redraw) = match config.binarize {
            Binarize::None => {
                let redraw = texture.map_or(Redraw::Never, Redraw::Texture);
                (requantise(&mut splits, source_levels, config, &mut protocol)?, redraw)
            }
            how => (2, binarise(&mut splits, source_levels, how, &mut protocol)),
        };
        let protocol = protocol.join("; ");
        let hash = data_hash(files, decoder, &protocol);
        let entropy_nats = texture.map(|texture| texture.entropy_nats());
        let whole = Self::of_splits(name, num_levels, label_names, protocol, hash, splits);
        Ok(Self { entropy_nats, redraw, ..whole })
    }

    /// Images that are in three splits already, in the order of [`Split::ALL`], and are never redrawn; `hash` is theirs.
    pub fn of_splits(
        name: String,
        num_levels: u32,
        label_names: Vec<String>,
        protocol: String,
        hash: String,
        [train, valid, test]: [Images; 3],
    ) -> Self {
        let redraw = Redraw::Never;
        let entropy_nats = None;
        Self {
            name,
            num_levels,
            label_names,
            protocol,
            train,
            valid,
            test,
            hash,
            entropy_nats,
            redraw,
        }
    }

    /// Refuses a class that no training image is of: nothing could be learnt of it.
    ///
    /// # Errors
    /// One line with the class, and how many images of it the other splits hold.
    pub fn ensure_every_class(&self) -> Result<()> {
        let count = |images: &Images, class: u32| {
            images.labels.iter().flatten().filter(|&&label| label == class).count()
        };
        let all = (0..self.label_names.len() as u32).map(|class| {
            (class, [&self.train, &self.valid, &self.test].map(|images| count(images, class)))
        });
        for (class, [train, valid, test]) in all {
            ensure!(
                train > 0,
                "{}: the class {} has no training image ({valid} valid, {test} test); add some, or leave the class out",
                self.name,
                self.label_names[class as usize]
            );
        }
        Ok(())
    }

    /// The images of a split.
    pub fn split(&self, split: Split) -> &Images {
        match split {
            Split::Train => &self.train,
            Split::Valid => &self.valid,
            Split::Test => &self.test,
        }
    }

    /// The training images of an epoch, in the order of `train`: a function of (seed, epoch) where they are redrawn
    /// (dynamic binarisation, textures), and always the same otherwise.
    pub fn epoch(&self, seed: u64, epoch: u64) -> Cow<'_, Images> {
        match &self.redraw {
            Redraw::Never => Cow::Borrowed(&self.train),
            Redraw::Binarize { grey, num_levels } => {
                let levels =
                    binarize::dynamic(&grey.levels, *num_levels, (seed, BINARIZE[0], epoch));
                Cow::Owned(grey.with_levels(levels))
            }
            Redraw::Texture(texture) => Cow::Owned(Images::new(
                texture.draw(self.train.len(), (seed, TEXTURE[0], epoch)),
                None,
            )),
        }
    }

    /// Nats per image, in the mean, that the very distribution which made the images gives to those of a split.
    ///
    /// A sharper floor than [`Dataset::entropy_nats`] for a model that is scored on the same images.
    pub fn floor_nats(&self, split: Split) -> Option<f64> {
        match &self.redraw {
            Redraw::Texture(texture) => Some(texture.nll_nats(&self.split(split).levels)),
            Redraw::Never | Redraw::Binarize { .. } => None,
        }
    }
}

/// Level v of L becomes floor(v M / L) of M; returns the levels that hold from now on.
fn requantise(
    splits: &mut [Images; 3],
    from: u32,
    config: &DataConfig,
    protocol: &mut Vec<String>,
) -> Result<u32> {
    let to = if config.levels == 0 { from } else { config.levels };
    let rule = format!("0 or 2..={from} for {}", config.data);
    ConfigError::ensure((2..=from).contains(&to), "data.levels", to, &rule)?;
    if to == from {
        protocol.push(format!("{to} levels"));
    } else {
        protocol.push(format!("{to} levels, v of {from} becoming floor(v * {to} / {from})"));
        let scaled = |level: u16| (u64::from(level) * u64::from(to) / u64::from(from)) as u16;
        for images in splits {
            images.levels.mapv_inplace(scaled);
        }
    }
    Ok(to)
}

/// Replaces levels by bits; returns what an epoch does to the training images.
fn binarise(
    splits: &mut [Images; 3],
    from: u32,
    how: Binarize,
    protocol: &mut Vec<String>,
) -> Redraw {
    let max = from - 1;
    if how == Binarize::Threshold {
        protocol.push(format!("binarised by threshold: 1 where 2 v >= {max}"));
        for images in splits {
            images.levels = binarize::threshold(&images.levels, from);
        }
        return Redraw::Never;
    }
    let rule = format!("dynamically binarised: 1 with probability v / {max}");
    protocol.push(rule + ", train redrawn each epoch, valid and test drawn once");
    let grey = splits[0].clone();
    for (images, purpose) in splits.iter_mut().zip(BINARIZE) {
        images.levels = binarize::dynamic(&images.levels, from, (FIXED_SEED, purpose, 0));
    }
    Redraw::Binarize { grey: Box::new(grey), num_levels: from }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn digits(binarize: Binarize, levels: u32, limit: usize) -> Result<Dataset> {
        load(&DataConfig { levels, binarize, limit, ..DataConfig::default() })
    }

    #[test]
    fn splits_are_disjoint_and_complete() -> Result<()> {
        let data = digits(Binarize::None, 0, 0)?;
        let counts = Split::ALL.map(|split| data.split(split).len());
        assert_eq!(counts, [1260, 180, 357]);
        let all: Vec<_> =
            Split::ALL.iter().flat_map(|&split| data.split(split).levels.outer_iter()).collect();
        let distinct: std::collections::BTreeSet<Vec<u16>> =
            all.iter().map(|x| x.iter().copied().collect()).collect();
        assert_eq!(distinct.len(), 1797, "no image is in two splits, or twice in one");
        assert!(data.train.levels.iter().all(|&level| level < 17));
        assert_eq!(data.num_levels, 17);
        Ok(())
    }

    #[test]
    fn dynamic_binarisation_redraws_train_only_and_keeps_labels() -> Result<()> {
        let data = digits(Binarize::Dynamic, 0, 0)?;
        assert_eq!(data.num_levels, 2);
        assert_eq!(data.epoch(1, 0), data.epoch(1, 0));
        assert_ne!(data.epoch(1, 0).levels, data.epoch(1, 1).levels);
        assert_ne!(data.epoch(1, 0).levels, data.epoch(2, 0).levels);
        assert_eq!(data.epoch(1, 0).labels, data.train.labels);
        assert_eq!(digits(Binarize::Dynamic, 0, 0)?.test, data.test);
        let few = digits(Binarize::Dynamic, 0, 5)?;
        assert_eq!(
            few.test,
            data.test.select(&[0, 1, 2, 3, 4]),
            "a limit changes no image that is left"
        );
        Ok(())
    }

    #[test]
    fn a_coarser_scale_keeps_the_order_and_changes_the_hash() -> Result<()> {
        let (fine, coarse) = (digits(Binarize::None, 0, 9)?, digits(Binarize::None, 4, 9)?);
        let pairs = fine.train.levels.iter().zip(&coarse.train.levels);
        assert!(pairs.clone().all(|(&fine, &coarse)| coarse == fine * 4 / 17));
        assert_ne!(fine.hash, coarse.hash);
        assert!(coarse.protocol.contains("floor(v * 4 / 17)"), "{}", coarse.protocol);
        let refusal = digits(Binarize::None, 18, 0).unwrap_err().to_string();
        assert_eq!(refusal, "data.levels is 18, but must be 0 or 2..=17 for digits");
        Ok(())
    }
}
