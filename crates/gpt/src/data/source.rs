//! Documents, one at a time: from a file, a folder, lines of JSON, or the embedded book.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::{checkpoint::sha256_file, dataset::FileDigest, fetched};
use serde_json::Value;

/// Largest document that is read, bytes.
const MAX_DOCUMENT: u64 = 1 << 32;

/// The book: two novels (`datasets/book/README.md`).
const BOOK: &[u8] = include_bytes!("../../../../datasets/book/book.txt.xz");

/// Where documents come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The embedded book, chapter by chapter.
    Book,
    /// Files in the order of their paths; whether what is no UTF-8 is left out rather than refused.
    Files { root: PathBuf, paths: Vec<PathBuf>, lenient: bool },
}

/// What was left out on the way.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Files that are no UTF-8.
    pub(super) foreign: usize,
    /// Documents without any text.
    pub(super) empty: usize,
}

impl Source {
    /// The source of a name or path.
    pub(super) fn open(data: &str) -> Result<Self> {
        if data == "book" {
            return Ok(Self::Book);
        }
        let root = if data == "text" { fetched::folder(data)? } else { PathBuf::from(data) };
        let about = fs::metadata(&root)
            .with_context(|| format!("{data}: no such data; there are book, text, and paths"))?;
        if about.is_file() {
            return Ok(Self::Files { paths: vec![root.clone()], root, lenient: false });
        }
        ensure!(about.is_dir(), "{data}: is neither a file nor a folder");
        let mut paths = Vec::new();
        walk(&root, &mut paths)?;
        paths.sort();
        ensure!(!paths.is_empty(), "{data}: holds no files");
        Ok(Self::Files { root, paths, lenient: true })
    }

    /// What it is called: the last part of its path.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Book => "book".into(),
            Self::Files { root, .. } => {
                let whole = root.canonicalize().unwrap_or_else(|_| root.clone());
                // datasets/NAME/data is called NAME
                let parts = whole.iter().rev().map(|it| it.to_string_lossy());
                let mut parts = parts.skip_while(|it| it == "data");
                parts.next().map_or_else(|| "text".into(), std::borrow::Cow::into_owned)
            }
        }
    }

    /// What its identity is made of.
    pub(super) fn digests(&self) -> Result<Vec<FileDigest>> {
        let Self::Files { root, paths, .. } = self else {
            return Ok(vec![FileDigest::new("book.txt.xz", BOOK)]);
        };
        paths
            .iter()
            .map(|path| {
                // large files are read in pieces; their digest stands for them
                let inner = path.strip_prefix(root).unwrap_or(path).display().to_string();
                Ok(FileDigest::new(inner, &sha256_file(path)?))
            })
            .collect()
    }

    /// Gives each document to `take`, with a name for messages; documents need be UTF-8 unless `any` bytes are welcome.
    pub(super) fn each(
        &self,
        field: &str,
        any: bool,
        mut take: impl FnMut(&str, Vec<u8>) -> Result<()>,
    ) -> Result<LeftOut> {
        let mut left_out = LeftOut::default();
        let mut give = |name: &str, document: Vec<u8>| {
            if document.is_empty() {
                left_out.empty += 1;
                return Ok(());
            }
            take(name, document)
        };
        match self {
            Self::Book => {
                let mut text = Vec::new();
                liblzma::read::XzDecoder::new(BOOK).read_to_end(&mut text)?;
                for (i, chapter) in text.split(|&byte| byte == b'\x0C').enumerate() {
                    give(&format!("chapter {}", i + 1), chapter.to_vec())?;
                }
            }
            Self::Files { paths, lenient, .. } => {
                for path in paths {
                    let name = path.display().to_string();
                    if is_lines(path) {
                        lines(path, field, &mut give)?;
                        continue;
                    }
                    let document = read(path)?;
                    if !any && let Err(error) = std::str::from_utf8(&document) {
                        if *lenient {
                            left_out.foreign += 1;
                            continue;
                        }
                        let place = error.valid_up_to();
                        bail!("{name}: is no UTF-8 at byte {place}; a tokenizer of bytes takes it");
                    }
                    give(&name, document)?;
                }
            }
        }
        Ok(left_out)
    }
}

fn is_lines(path: &Path) -> bool {
    let end = path.extension().unwrap_or_default();
    end.eq_ignore_ascii_case("jsonl") || end.eq_ignore_ascii_case("ndjson")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let name = || path.display().to_string();
    let len = fs::metadata(path).with_context(name)?.len();
    ensure!(len <= MAX_DOCUMENT, "{}: has {len} bytes, more than {MAX_DOCUMENT}", name());
    fs::read(path).with_context(name)
}

/// The texts of a file of which every line that is not empty is a JSON object.
fn lines(
    path: &Path,
    field: &str,
    give: &mut impl FnMut(&str, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let name = path.display();
    let mut file = BufReader::new(File::open(path).with_context(|| name.to_string())?);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let len = file.by_ref().take(MAX_DOCUMENT).read_until(b'\n', &mut line);
        let len = len.with_context(|| name.to_string())?;
        ensure!((len as u64) < MAX_DOCUMENT, "{name}: line {number} is longer than {MAX_DOCUMENT}");
        if len == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let json: Value = serde_json::from_slice(&line)
            .map_err(|error| anyhow::anyhow!("{name}: line {number} is no JSON: {error}"))?;
        let text = json.get(field).and_then(Value::as_str);
        let text = text.with_context(|| format!("{name}: line {number} has no text {field:?}"))?;
        give(&format!("{name}: line {number}"), text.into())?;
    }
    Ok(())
}

/// Files below a folder, links and hidden ones left out.
fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), paths)?;
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}
