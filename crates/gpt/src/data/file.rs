//! Prepared tokens in a file that is mapped into memory. Numbers are little endian.
//!
//! | bytes | |
//! |---|---|
//! | 0 | `CHRTOKEN` |
//! | 8 | format version, u32 |
//! | 12 | bytes of a token, u32: 2, or 4 where the vocabulary has more than 65,536 |
//! | 16 | tokens of the vocabulary, u64 |
//! | 24 | documents of train, valid and test, u64 each |
//! | 48 | tokens of each, u64 |
//! | 72 | bytes of the description, u64 |
//! | 80 | sha256 of all that follows |
//! | 112 | the description: JSON, the tokenizer in it |
//! | | the first token of each document, u64, split by split |
//! | | tokens, split by split |

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use core_layers::{
    checkpoint::{map_file, replace, sha256},
    encoded::Bytes,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Dataset, Tokens};
use crate::text::Tokenizer;

const MAGIC: &[u8; 8] = b"CHRTOKEN";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
const HEADER: usize = 112;
/// Where what the checksum is of begins.
const CHECKED: u64 = HEADER as u64;

/// What is to be known about prepared tokens besides their numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) hash: String,
    pub(super) tokenizer: String,
}

/// Whether a file begins as prepared tokens do.
pub(super) fn is_prepared(path: &Path) -> bool {
    let mut first = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut first));
    read.is_ok() && first == *MAGIC
}

/// Bytes of a token: 2 hold numbers below 65,536.
pub(super) fn is_wide(vocabulary: usize) -> bool {
    vocabulary > 1 << 16
}

/// Tokens and first tokens of documents of one split, as they were written on the way.
pub(super) struct Part {
    pub(super) tokens: File,
    pub(super) documents: Vec<u8>,
}

/// Writes a file of prepared tokens, whole or not at all.
pub(super) fn write(
    path: &Path,
    vocabulary: usize,
    about: &Description,
    parts: &mut [Part; 3],
) -> Result<()> {
    let description = serde_json::to_vec(about)?;
    let width = if is_wide(vocabulary) { 4 } else { 2u32 };
    let mut header = MAGIC.to_vec();
    header.extend(VERSION.to_le_bytes());
    header.extend(width.to_le_bytes());
    header.extend((vocabulary as u64).to_le_bytes());
    for part in &*parts {
        header.extend((part.documents.len() as u64 / 8).to_le_bytes());
    }
    for part in &*parts {
        header.extend((part.tokens.metadata()?.len() / u64::from(width)).to_le_bytes());
    }
    header.extend((description.len() as u64).to_le_bytes());
    let mut sum = Sha256::new();
    sum.update(&description);
    for part in &*parts {
        sum.update(&part.documents);
    }
    for part in &mut *parts {
        part.tokens.rewind()?;
        io::copy(&mut part.tokens, &mut sum)?;
    }
    header.extend(sum.finalize());
    replace(path, |file| {
        file.write_all(&header)?;
        file.write_all(&description)?;
        parts.iter().try_for_each(|part| file.write_all(&part.documents))?;
        for part in parts {
            part.tokens.rewind()?;
            io::copy(&mut part.tokens, file)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Opens a file of prepared tokens. All of it is looked at once: the checksum, the order of documents, the numbers of tokens.
pub(super) fn read(path: &Path) -> Result<Dataset> {
    let bytes = map_file(path)?;
    parse(&bytes).with_context(|| path.display().to_string())
}

/// Reads prepared tokens from bytes.
pub(super) fn parse(bytes: &Bytes) -> Result<Dataset> {
    let header = bytes.get(..HEADER).context("is cut short within its header")?;
    ensure!(header[..8] == *MAGIC, "is no file of prepared tokens");
    let number = |at: usize, len: usize| {
        header[at..at + len].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    };
    let version = number(8, 4);
    ensure!(
        version == u64::from(VERSION),
        "has format version {version}, but this program reads {VERSION}"
    );
    let (width, vocabulary) = (number(12, 4), number(16, 8));
    let most = Tokenizer::MOST as u64;
    ensure!((1..=most).contains(&vocabulary), "has a vocabulary of {vocabulary}, more than {most}");
    let wanted = if is_wide(vocabulary as usize) { 4 } else { 2 };
    ensure!(
        width == wanted,
        "has {width} bytes a token, but a vocabulary of {vocabulary} needs {wanted}"
    );
    let lengths: Vec<u64> = std::iter::once(Some(number(72, 8)))
        .chain([24, 32, 40].map(|at| number(at, 8).checked_mul(8)))
        .chain([48, 56, 64].map(|at| number(at, 8).checked_mul(width)))
        .collect::<Option<_>>()
        .context("announces more than a file can hold")?;
    let announced = lengths.iter().try_fold(CHECKED, |sum, &it| sum.checked_add(it));
    ensure!(
        announced == Some(bytes.len() as u64),
        "has {} bytes, but its header announces {}",
        bytes.len(),
        announced.map_or_else(|| "more than any file".into(), |it| it.to_string())
    );
    ensure!(sha256(&bytes[HEADER..]) == header[80..], "is damaged: its checksum does not match");
    let mut at = HEADER;
    let mut parts = lengths.iter().map(|&len| {
        at += len as usize;
        bytes.part(at - len as usize..at).unwrap_or_else(|| Vec::new().into())
    });
    let mut next = || parts.next().unwrap_or_else(|| Vec::new().into());
    let about: Description = serde_json::from_slice(&next()).context("its description")?;
    let tokenizer = Tokenizer::from_json(&about.tokenizer).context("its tokenizer")?;
    let count = tokenizer.vocabulary();
    ensure!(
        count as u64 == vocabulary,
        "has a vocabulary of {vocabulary}, but its tokenizer has {count} tokens"
    );
    let documents = [next(), next(), next()];
    let tokens = [next(), next(), next()];
    let mut splits = Vec::new();
    for (tokens, documents) in tokens.into_iter().zip(documents) {
        let tokens = Tokens::new(width == 4, tokens, documents);
        ensure_sound(&tokens, &tokenizer)?;
        splits.push(tokens);
    }
    let mut splits = splits.into_iter();
    let mut split = || {
        splits.next().unwrap_or_else(|| Tokens::new(false, Vec::new().into(), Vec::new().into()))
    };
    Ok(Dataset {
        train: split(),
        valid: split(),
        test: split(),
        tokenizer,
        name: about.name,
        protocol: about.protocol,
        hash: about.hash,
        report: Vec::new(),
    })
}

/// Refuses tokens that are none, and documents that do not follow each other with ends between them.
fn ensure_sound(tokens: &Tokens, tokenizer: &Tokenizer) -> Result<()> {
    let (count, end) = (tokenizer.vocabulary(), tokenizer.end_of_text());
    let worst = tokens.range(0..tokens.len()).max().unwrap_or(0);
    ensure!((worst as usize) < count, "holds token {worst}, but the vocabulary has {count}");
    ensure!(tokens.is_empty() == (tokens.documents() == 0), "has tokens without documents");
    let mut last = 0;
    for index in 0..tokens.documents() {
        let start = tokens.document(index).start;
        let follows = if index == 0 { start == 1 } else { start > last };
        ensure!(
            follows && start < tokens.len() && tokens.get(start - 1) == end,
            "says that document {index} begins at token {start}, where none can"
        );
        last = start;
    }
    let ends = tokens.is_empty() || tokens.get(tokens.len() - 1) == end;
    ensure!(ends, "does not end with the token that ends a text");
    Ok(())
}
