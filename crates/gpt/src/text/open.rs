//! Tokenizers from files.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::Tokenizer;

/// Largest file of a tokenizer that is read, bytes.
const MAX_FILE: u64 = 1 << 28;

impl Tokenizer {
    /// Reads a `tokenizer.json`, or a folder that holds one, or GPT-2's `vocab.json` and `merges.txt` (also under their
    /// first names, `encoder.json` and `vocab.bpe`).
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let json = read(path)?;
            return Self::from_json(&json)
                .map_err(|error| anyhow!("{}: {error:#}", path.display()));
        }
        if path.join("tokenizer.json").is_file() {
            return Self::open(&path.join("tokenizer.json"));
        }
        for (vocabulary, merges) in [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")] {
            let [vocabulary, merges] = [vocabulary, merges].map(|name| path.join(name));
            if vocabulary.is_file() && merges.is_file() {
                return Self::from_gpt2(&read(&vocabulary)?, &read(&merges)?)
                    .map_err(|error| anyhow!("{}: {error:#}", vocabulary.display()));
            }
        }
        bail!("{}: holds neither tokenizer.json nor vocab.json and merges.txt", path.display())
    }
}

/// Text of a regular file that is not too large.
fn read(path: &Path) -> Result<String> {
    let name = || path.display().to_string();
    let about = fs::metadata(path).with_context(name)?;
    ensure!(about.is_file(), "{}: is no regular file", name());
    let len = about.len();
    ensure!(len <= MAX_FILE, "{}: has {len} bytes, but must have at most {MAX_FILE}", name());
    fs::read_to_string(path).with_context(name)
}
