//! The `.chr` file: magic, format version, a JSON header, side information, streams.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    categorical,
    checkpoint::hex,
    logistics::{self, MAX_TABLE_LEVELS},
};

const MAGIC: &[u8; 4] = b"CHRN";
/// The newest version this program writes; it reads every one up to it.
const VERSION: u16 = 3;
const PREFIX: usize = 10; // magic, version, header length

/// How a symbol's probabilities become integers: the format version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Coding {
    /// Frequencies of all levels, which sum to `2^24`.
    Tables = 1,
    /// Cumulated frequencies up to `2^30`, of the levels that are asked for: mixtures over very many levels.
    Mixtures = 2,
    /// Frequencies of all levels, which sum to `2^30`: tables of very many levels.
    WideTables = 3,
}

impl Coding {
    /// That of a model of tables of so many levels.
    pub fn of_tables(levels: usize) -> Self {
        if levels > MAX_TABLE_LEVELS { Self::WideTables } else { Self::Tables }
    }

    /// That of a model of mixtures over so many levels.
    pub fn of_mixtures(levels: usize) -> Self {
        if levels > MAX_TABLE_LEVELS { Self::Mixtures } else { Self::Tables }
    }

    /// What each symbol costs at the least, bits: every one of `levels` has a frequency of 1 or more.
    pub fn least_bits(self, levels: usize) -> f64 {
        let precision = match self {
            Self::Tables => categorical::PRECISION,
            Self::Mixtures => logistics::PRECISION,
            Self::WideTables => categorical::WIDE_PRECISION,
        };
        levels.saturating_sub(1) as f64 * 2f64.powi(-(precision as i32))
    }
}

/// What a `.chr` file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Hash of the model whose probabilities were used.
    pub model: String,
    /// Number of examples.
    pub examples: usize,
    /// Shape of one example, for an image `[height, width, channels]`.
    pub shape: Vec<usize>,
    /// Base names of the examples, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Of the symbols, verified after decoding.
    pub checksum: String,
    /// Bytes of side information, then words of each stream.
    pub sections: Vec<usize>,
}

impl Header {
    /// Refuses decoded symbols that are not those which were encoded.
    ///
    /// # Errors
    /// One line where the checksums differ.
    pub fn ensure_checksum(&self, symbols: impl IntoIterator<Item = u32>) -> Result<()> {
        let agrees = Archive::checksum(symbols) == self.checksum;
        ensure!(agrees, "is corrupt: its checksum does not agree");
        Ok(())
    }

    /// Refuses names, or paths, that differ in their ending or folder only: restored, one would overwrite the other.
    ///
    /// # Errors
    /// One line with both.
    pub fn ensure_distinct(names: &[impl AsRef<Path>]) -> Result<()> {
        let mut seen = BTreeMap::new();
        for name in names.iter().map(AsRef::as_ref) {
            if let Some(first) = seen.insert(name.file_stem(), name) {
                let (first, name) = (first.display(), name.display());
                bail!("{first} and {name} would be restored to one name");
            }
        }
        Ok(())
    }
}

/// A `.chr` file in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// How its streams were coded.
    pub coding: Coding,
    /// What it says of itself; `sections` is filled in by [`Archive::to_bytes`].
    pub header: Header,
    /// What decoding needs besides the streams, such as packed labels.
    pub side: Vec<u8>,
    /// Streams of the range coder.
    pub streams: Vec<Vec<u32>>,
}

impl Archive {
    /// Checksum of symbols: the first 64 bits of their SHA-256, in hexadecimal.
    pub fn checksum(symbols: impl IntoIterator<Item = u32>) -> String {
        let mut hash = Sha256::new();
        for symbol in symbols {
            hash.update(symbol.to_le_bytes());
        }
        hex(&hash.finalize()[..8])
    }

    /// Reads the bytes of a file, as [`Archive::from_bytes`], that was made with the model of that hash (64 digits, of which
    /// the header holds 32), whose symbols are coded so.
    ///
    /// # Errors
    /// One line on what is wrong with the bytes, or with both models or codings.
    pub fn of_model(bytes: &[u8], hash: &str, coding: Coding) -> Result<Self> {
        let archive = Self::from_bytes(bytes)?;
        let (made, this) = (&archive.header.model, &hash[..32]);
        ensure!(made == this, "was compressed with the model {made}, this one is {this}");
        let (made, this) = (archive.coding as u16, coding as u16);
        ensure!(made == this, "has format version {made}, files of this model are read in {this}");
        Ok(archive)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// A header that is too long to be described, or two examples that would be restored to one name.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Header::ensure_distinct(&self.header.names)?;
        let mut header = self.header.clone();
        header.sections =
            std::iter::once(self.side.len()).chain(self.streams.iter().map(Vec::len)).collect();
        let header = serde_json::to_vec(&header)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.coding as u16).to_le_bytes());
        bytes.extend(
            u32::try_from(header.len()).context("the header is longer than 4 GiB")?.to_le_bytes(),
        );
        bytes.extend(header);
        bytes.extend(&self.side);
        for word in self.streams.iter().flatten() {
            bytes.extend(word.to_le_bytes());
        }
        Ok(bytes)
    }

    /// Reads the bytes of a file; nothing is allocated that the bytes do not hold.
    ///
    /// # Errors
    /// One line on what is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.len() >= PREFIX && &bytes[..4] == MAGIC, "is not a .chr file");
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        let coding = match version {
            1 => Coding::Tables,
            2 => Coding::Mixtures,
            3 => Coding::WideTables,
            _ => bail!("has format version {version}, this program reads 1 to {VERSION}"),
        };
        let length = u32::from_le_bytes([bytes[6], bytes[7], bytes[8], bytes[9]]) as usize;
        let Some(header) = bytes[PREFIX..].get(..length) else {
            bail!("is cut off: its header has {length} bytes, the file {}", bytes.len());
        };
        let header: Header =
            serde_json::from_slice(header).context("has a header that cannot be read")?;
        ensure!(
            header.names.is_empty() || header.names.len() == header.examples,
            "has a name too many or too few"
        );
        for name in &header.names {
            ensure!(
                !name.is_empty()
                    && !name.contains(['/', '\\', '\0'])
                    && name != "."
                    && name != "..",
                "holds the name {name:?}, which is no base name"
            );
        }
        Header::ensure_distinct(&header.names)?;
        let (Some(&side), streams) =
            (header.sections.first(), header.sections.get(1..).unwrap_or_default())
        else {
            bail!("has a header without sections");
        };
        let body = &bytes[PREFIX + length..];
        let wanted =
            streams.iter().try_fold(side, |sum, &words| sum.checked_add(words.checked_mul(4)?));
        ensure!(
            wanted == Some(body.len()),
            "is cut off or too long: its streams are not {} bytes",
            body.len()
        );
        let (side, mut rest) = body.split_at(side);
        let mut read = Vec::new();
        for &words in streams {
            let (stream, tail) = rest.split_at(4 * words);
            read.push(
                stream
                    .chunks_exact(4)
                    .map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]))
                    .collect(),
            );
            rest = tail;
        }
        Ok(Self { coding, side: side.to_vec(), streams: read, header })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive() -> Archive {
        let sections = vec![2, 3, 1];
        let header = Header {
            model: "abc".into(),
            examples: 2,
            shape: vec![4, 4, 1],
            names: vec!["a.png".into(), "b.png".into()],
            checksum: Archive::checksum([1, 2, 3]),
            sections,
        };
        let streams = vec![vec![1, 2, 3], vec![u32::MAX]];
        Archive { coding: Coding::Tables, header, side: vec![7, 8], streams }
    }

    #[test]
    fn bytes_and_back_is_identity() -> Result<()> {
        assert_eq!(Archive::from_bytes(&archive().to_bytes()?)?, archive());
        Ok(())
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() -> Result<()> {
        for name in ["../x", "/etc/x", "..", ""] {
            let mut archive = archive();
            archive.header.names[0] = name.into();
            assert!(Archive::from_bytes(&archive.to_bytes()?).is_err(), "{name}");
        }
        Ok(())
    }

    #[test]
    fn names_that_would_be_restored_to_one_file_are_refused() {
        let mut archive = archive();
        archive.header.names = vec!["a.png".into(), "a.jpg".into()];
        let error = archive.to_bytes().unwrap_err().to_string();
        assert_eq!(error, "a.png and a.jpg would be restored to one name");
    }

    #[test]
    fn an_unknown_version_is_refused_with_both_numbers() -> Result<()> {
        let mut bytes = archive().to_bytes()?;
        bytes[4] = 9;
        let error = Archive::from_bytes(&bytes).unwrap_err().to_string();
        assert_eq!(error, "has format version 9, this program reads 1 to 3");
        Ok(())
    }

    #[test]
    fn a_file_of_another_coding_is_refused() -> Result<()> {
        let mut archive = archive();
        archive.header.model = "0".repeat(32);
        let bytes = archive.to_bytes()?;
        let hash = "0".repeat(64);
        assert!(Archive::of_model(&bytes, &hash, Coding::Tables).is_ok());
        let refusal = Archive::of_model(&bytes, &hash, Coding::of_mixtures(65_536)).unwrap_err();
        let wanted = "has format version 1, files of this model are read in 2";
        assert_eq!(refusal.to_string(), wanted);
        Ok(())
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Archive::from_bytes(&bytes);
        }

        #[test]
        fn an_edit_is_an_error_or_another_archive(at in 0usize..200, byte in any::<u8>(), cut in 0usize..50) {
            let mut bytes = archive().to_bytes().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut);
            let _ = Archive::from_bytes(&bytes);
            prop_assert!(cut == 0 || Archive::from_bytes(&bytes).is_err());
        }
    }
}
