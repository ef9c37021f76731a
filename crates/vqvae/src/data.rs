//! Codes of images, in three splits, in a file that knows which autoencoder made them.
//! Letters: N images, G codebooks, h rows and w columns of codes.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use core_layers::{
    checkpoint::{Checkpoint, hex},
    dataset::Split,
};
use ndarray::{Array3, Array4};
use pixelcnn::data::{CodeMaps, Dataset, Images};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::config::VqVaeConfig;

/// What a file of codes says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutCodes {
    /// Hash of the autoencoder's weights.
    pub autoencoder: String,
    /// Name of the data set.
    pub dataset: String,
    /// What the labels mean.
    pub label_names: Vec<String>,
    /// How the images were made and split.
    pub protocol: String,
}

/// The codes of one split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitCodes {
    /// Codes of each level, from the bottom up: `[N, h, w, G]`.
    pub levels: Vec<Array4<u16>>,
    /// The class of each image.
    pub labels: Option<Vec<u32>>,
}

/// The codes of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// What they are of.
    pub about: AboutCodes,
    /// In the order of [`Split::ALL`].
    pub splits: [SplitCodes; 3],
    /// Over all codes, 64 hexadecimal digits.
    pub hash: String,
}

const ARCHITECTURE: &str = "vqvae codes";

impl Codes {
    /// Codes with their hash.
    ///
    /// # Errors
    /// None that codes in memory can give.
    pub fn new(about: AboutCodes, splits: [SplitCodes; 3]) -> Result<Self> {
        let mut codes = Self { about, splits, hash: String::new() };
        codes.hash = hex(&codes.checkpoint()?.hash("codes."));
        Ok(codes)
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let mut file = Checkpoint::default();
        file.metadata.insert("architecture".into(), ARCHITECTURE.into());
        file.metadata.insert("about".into(), serde_json::to_string(&self.about)?);
        for (split, codes) in Split::ALL.iter().zip(&self.splits) {
            let name = split.name();
            for (level, codes) in codes.levels.iter().enumerate() {
                file.tensors.insert(format!("codes.{name}.{level}"), to_tensor(codes));
            }
            if let Some(labels) = &codes.labels {
                let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
                file.tensors.insert(format!("codes.{name}.labels"), Tensor::from_slice(&labels));
            }
        }
        Ok(file)
    }

    /// Writes them.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(self.checkpoint()?.save(path)?)
    }

    /// Reads codes of `model`.
    ///
    /// # Errors
    /// One line on a file that is damaged, foreign, or of another model.
    pub fn load(path: &Path, model: &VqVaeConfig) -> Result<Self> {
        let name = path.display();
        let file = Checkpoint::load(path)?;
        let kind = file.metadata.get("architecture").map(String::as_str);
        ensure!(kind == Some(ARCHITECTURE), "{name}: holds no codes, but {kind:?}");
        let about = file
            .metadata
            .get("about")
            .with_context(|| format!("{name}: says nothing of itself"))?;
        let about: AboutCodes = serde_json::from_str(about).with_context(|| name.to_string())?;
        let mut splits = Vec::with_capacity(3);
        for split in Split::ALL {
            splits.push(read_split(&file, split, model).with_context(|| name.to_string())?);
        }
        let [train, valid, test] = <[SplitCodes; 3]>::try_from(splits).expect("three splits");
        let hash = hex(&file.hash("codes."));
        Ok(Self { about, splits: [train, valid, test], hash })
    }

    /// The codes of one level as the data of a prior, with the vectors of the level above where there is one.
    pub fn dataset(&self, level: usize, num_codes: u32, above: Option<&Array3<f32>>) -> Dataset {
        let splits = self.splits.clone().map(|split| {
            let above = above.map(|vectors| (&split.levels[level + 1], vectors.clone()));
            level_images(&split.levels[level], split.labels, above)
        });
        let protocol = format!("codes of level {level}; {}", self.about.protocol);
        Dataset::of_splits(
            self.about.dataset.clone(),
            num_codes,
            self.about.label_names.clone(),
            protocol,
            self.hash.clone(),
            splits,
        )
    }

    /// The codes of a split.
    pub fn split(&self, split: Split) -> &SplitCodes {
        let [train, valid, test] = &self.splits;
        match split {
            Split::Train => train,
            Split::Valid => valid,
            Split::Test => test,
        }
    }
}

fn read_split(file: &Checkpoint, split: Split, model: &VqVaeConfig) -> Result<SplitCodes> {
    let name = split.name();
    let integers = |key: &str| -> Result<(Vec<i64>, Vec<i32>)> {
        let tensor = file.tensors.get(key).with_context(|| format!("{key} is missing"))?;
        ensure!(tensor.kind() == Kind::Int, "{key} holds {:?}, but must hold Int", tensor.kind());
        Ok((tensor.size(), Vec::try_from(tensor.flatten(0, -1))?))
    };
    let mut levels = Vec::new();
    for (level, (h, w)) in model.sizes().into_iter().enumerate() {
        let key = format!("codes.{name}.{level}");
        let (size, values) = integers(&key)?;
        let wanted = [h, w, model.quantiser.codebooks];
        ensure!(
            size.len() == 4 && size[1..] == wanted,
            "{key} is {size:?}, the model's codes are [N, {h}, {w}, {}]",
            wanted[2]
        );
        let within = values.iter().all(|&code| (0..model.quantiser.codes).contains(&code.into()));
        ensure!(within, "{key} holds a code beyond the {} of the model", model.quantiser.codes);
        let shape = [size[0], h, w, wanted[2]].map(|size| size as usize);
        let values = values.into_iter().map(|code| code as u16).collect();
        levels.push(Array4::from_shape_vec(shape, values)?);
    }
    let count = levels[0].dim().0;
    ensure!(levels.iter().all(|it| it.dim().0 == count), "{name}: levels of different images");
    let key = format!("codes.{name}.labels");
    let labels = file.tensors.contains_key(&key).then(|| integers(&key)).transpose()?;
    let labels = labels.map(|(_, labels)| labels.into_iter().map(|label| label as u32).collect());
    ensure!(
        labels.as_ref().is_none_or(|it: &Vec<u32>| it.len() == count),
        "{key}: not one an image"
    );
    Ok(SplitCodes { levels, labels })
}

/// Codes of one level as the images of a prior, with the codes above and their vectors where there are any.
pub fn level_images(
    codes: &Array4<u16>,
    labels: Option<Vec<u32>>,
    above: Option<(&Array4<u16>, Array3<f32>)>,
) -> Images {
    let maps = above.map(|(codes, vectors)| CodeMaps { codes: codes.clone(), vectors });
    Images { maps, ..Images::new(codes.clone(), labels) }
}

fn to_tensor(codes: &Array4<u16>) -> Tensor {
    let values: Vec<i32> = codes.iter().map(|&code| i32::from(code)).collect();
    let size: Vec<i64> = codes.shape().iter().map(|&size| size as i64).collect();
    Tensor::from_slice(&values).reshape(size)
}

/// Codes `[B, G, h, w]` of a lookup as an array `[B, h, w, G]`.
pub fn codes_of(tensor: &Tensor) -> Array4<u16> {
    let size = tensor.size();
    let shape = [size[0], size[2], size[3], size[1]].map(|size| size as usize);
    let flat = tensor.permute([0, 2, 3, 1]).flatten(0, -1).to_device(tch::Device::Cpu);
    let flat = Vec::<i64>::try_from(flat).expect("a flat int64 tensor is a vector");
    let flat = flat.into_iter().map(|code| code as u16).collect();
    Array4::from_shape_vec(shape, flat).expect("as many codes as places")
}

/// Codes `[B, h, w, G]` as a tensor `[B, G, h, w]`.
pub fn code_tensor(codes: &Array4<u16>) -> Tensor {
    to_tensor(codes).to_kind(Kind::Int64).permute([0, 3, 1, 2])
}
