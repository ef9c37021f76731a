//! A folder of WAV files: `FOLDER/x.wav`, or `FOLDER/SPEAKER/x.wav` with any folders below a speaker's, or either of them
//! within `train`, `valid` and `test`. Beside `x.wav` may stand `x.txt`, what is said, and `x.npy`, features.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use core_layers::dataset::{FileDigest, Split};

use super::gather::{Gathering, Recording, Source};
use super::{Condition, DataConfig, Dataset, files, wav};

/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 8;
/// Longest transcript, bytes.
const MAX_TEXT: u64 = 1 << 16;

/// A WAV file and what its place says.
struct Entry {
    path: String, // within the folder
    split: Option<Split>,
    speaker: Option<String>,
    name: String,
}

/// Reads the folder that a configuration names.
pub(super) fn read(root: &Path, config: &DataConfig) -> Result<Dataset> {
    let name = root
        .canonicalize()
        .ok()
        .and_then(|root| Some(root.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "folder".into());
    read_as(root, &name, config)
}

/// Reads a folder under a name of its own.
pub(super) fn read_as(root: &Path, name: &str, config: &DataConfig) -> Result<Dataset> {
    let entries = entries(root)?;
    let speakers = speakers(root, name, &entries, config)?;
    let chosen = |entry: &Entry| speakers.iter().position(|it| it == entry.speaker(name));
    let chosen: Vec<(Entry, u32)> = entries
        .into_iter()
        .filter_map(|entry| chosen(&entry).map(|speaker| (entry, speaker as u32)))
        .collect();
    let sample_rate = rate(root, &chosen, config)?;
    let mut gathering = Gathering::new(config, sample_rate);
    let mut files = Vec::new();
    let named = chosen.iter().any(|(entry, _)| entry.split.is_some());
    let count = chosen.len();
    for (entry, speaker) in chosen {
        let file = root.join(&entry.path);
        let read = files::read(&file, files::MAX_FILE)
            .and_then(|content| Ok((wav::parse(&content)?, content)));
        let (sound, content) = match read {
            Ok(read) => read,
            Err(error) => {
                gathering.leave_out(&entry.path, format!("{error:#}"));
                continue;
            }
        };
        files.push(FileDigest::new(entry.path.as_str(), &content));
        let text = text(&file.with_extension("txt"))?;
        let npy = file.with_extension("npy");
        match config.condition {
            Condition::Characters => {
                let content = text.clone().unwrap_or_default();
                files.push(FileDigest::new(format!("{}.txt", entry.path), content.as_bytes()));
            }
            Condition::Npy => {
                let content = files::read(&npy, files::MAX_FILE)?;
                files.push(FileDigest::new(format!("{}.npy", entry.path), &content));
            }
            Condition::None | Condition::Mel => {}
        }
        let Entry { split, name, .. } = entry;
        gathering.add(Recording { speaker, name, split, sound, text, npy: Some(npy) })?;
    }
    let how = if named { "split by sub-folder" } else { Split::NAME_RULE };
    let rule = format!("{name}, {count} files of {} speakers, {how}", speakers.len());
    Ok(gathering.finish(Source { name: name.into(), rule, speakers, files }))
}

impl Entry {
    fn new(path: String, named: bool) -> Result<Self> {
        let mut parts: Vec<&str> = path.split('/').collect();
        let split = if named {
            let split = Split::ALL.into_iter().find(|split| split.name() == parts[0]);
            ensure!(
                split.is_some(),
                "{path}: it lies outside train, valid and test, which are there"
            );
            parts.remove(0);
            split
        } else {
            None
        };
        let speaker = (parts.len() > 1).then(|| parts.remove(0).to_owned());
        let base = parts.join("/");
        let name = base.rsplit_once('.').map_or(base.as_str(), |(name, _)| name).to_owned();
        Ok(Self { path, split, speaker, name })
    }

    fn speaker<'a>(&'a self, folder: &'a str) -> &'a str {
        self.speaker.as_deref().unwrap_or(folder)
    }
}

/// All WAV files, by path.
fn entries(root: &Path) -> Result<Vec<Entry>> {
    let mut paths = Vec::new();
    walk(root, "", &mut paths)?;
    ensure!(!paths.is_empty(), "{}: no .wav files in it", root.display());
    paths.sort();
    let named = Split::ALL.iter().any(|split| root.join(split.name()).is_dir());
    paths.into_iter().map(|path| Entry::new(path, named)).collect()
}

/// Lists the WAV files below `root/within`, hidden files and folders left out.
fn walk(root: &Path, within: &str, paths: &mut Vec<String>) -> Result<()> {
    let folder = root.join(within);
    let name = || folder.display().to_string();
    ensure!(within.split('/').count() <= MAX_DEPTH, "{}: too deep", name());
    for entry in fs::read_dir(&folder).with_context(name)? {
        let entry = entry.with_context(name)?;
        let Ok(base) = entry.file_name().into_string() else {
            bail!("{}: its name is not UTF-8", entry.path().display());
        };
        if base.starts_with('.') {
            continue;
        }
        let is_wav =
            Path::new(&base).extension().is_some_and(|end| end.eq_ignore_ascii_case("wav"));
        let path = if within.is_empty() { base } else { format!("{within}/{base}") };
        if entry.path().is_dir() {
            walk(root, &path, paths)?;
        } else if is_wav {
            paths.push(path);
        }
    }
    Ok(())
}

/// Names of the speakers that are kept, sorted.
fn speakers(
    root: &Path,
    folder: &str,
    entries: &[Entry],
    config: &DataConfig,
) -> Result<Vec<String>> {
    let in_folders = entries.iter().any(|entry| entry.speaker.is_some());
    if let (true, Some(entry)) = (in_folders, entries.iter().find(|entry| entry.speaker.is_none()))
    {
        bail!("{}: it lies beside folders, which are speakers", root.join(&entry.path).display());
    }
    let mut names: Vec<String> =
        entries.iter().map(|entry| entry.speaker(folder).to_owned()).collect();
    names.sort();
    names.dedup();
    choose(names, config)
}

/// Those of the speakers that a configuration keeps.
///
/// # Errors
/// A name that none of them has.
pub(super) fn choose(names: Vec<String>, config: &DataConfig) -> Result<Vec<String>> {
    let wanted = config.speaker_names();
    if let Some(missing) = wanted.iter().find(|&&name| !names.iter().any(|it| it == name)) {
        bail!("data.speakers names {missing}, but there are {}", names.join(", "));
    }
    Ok(names
        .into_iter()
        .filter(|name| wanted.is_empty() || wanted.contains(&name.as_str()))
        .collect())
}

/// The rate asked for, or that of the first file that can be read.
fn rate(root: &Path, entries: &[(Entry, u32)], config: &DataConfig) -> Result<u32> {
    if config.sample_rate > 0 {
        return Ok(config.sample_rate);
    }
    let mut first = None;
    for (entry, _) in entries {
        match wav::read(&root.join(&entry.path)) {
            Ok(sound) => {
                let top = *DataConfig::RATES.end();
                return Ok(sound.sample_rate.min(top));
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.context("no speaker is left")?)
}

/// A transcript, if there is one.
fn text(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = String::from_utf8(files::read(path, MAX_TEXT)?).ok();
    let text = text.with_context(|| format!("{}: it is not UTF-8 text", path.display()))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
