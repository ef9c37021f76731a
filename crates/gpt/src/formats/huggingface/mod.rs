//! Folders of Hugging Face's transformers: `GPT2LMHeadModel` and `LlamaForCausalLM`.

mod config;
mod export;
mod fields;
mod names;
mod surroundings;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::run;
use serde_json::{Map, Value};

use super::{
    Delivered,
    safetensors::{Raw, Safetensors},
    shown,
};

pub use export::export;

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";

/// Largest JSON file that is read besides `tokenizer.json`, bytes.
const MAX_JSON: u64 = 64 << 20;

/// Whether a folder has a `config.json` that is not a run's.
pub(super) fn is_folder(path: &Path) -> bool {
    path.join(CONFIG).exists() && !is_run(path)
}

/// Whether a folder has the `config.json` of a run of this program.
pub fn is_run(path: &Path) -> bool {
    json(&path.join(CONFIG)).is_ok_and(|it| it.contains_key("model") && it.contains_key("train"))
}

/// Opens a folder.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub(super) fn open(path: &Path) -> Result<Delivered> {
    let file = path.join(CONFIG);
    let object = json(&file)?;
    let (kind, config) = config::read(&object).with_context(|| file.display().to_string())?;
    let tensors = tensors(path)?;
    let weights =
        names::weights(kind, &config, tensors).with_context(|| path.display().to_string())?;
    let around = surroundings::read(path, &object, &config)?;
    Ok(Delivered {
        name: super::name_of(path),
        config,
        weights,
        tokenizer: around.tokenizer,
        stops: around.stops,
        starts: around.starts,
        chat_template: around.chat_template,
    })
}

/// The object in a JSON file.
fn json(path: &Path) -> Result<Map<String, Value>> {
    let name = || path.display().to_string();
    let about = fs::metadata(path).with_context(name)?;
    ensure!(about.is_file(), "{}: is no ordinary file", name());
    let len = about.len();
    ensure!(len <= MAX_JSON, "{}: has {len} bytes, but must have at most {MAX_JSON}", name());
    let text = fs::read(path).with_context(name)?;
    serde_json::from_slice(&text)
        .map_err(|error| anyhow::anyhow!("{}: is no JSON object: {error}", name()))
}

/// The tensors of `model.safetensors`, or of the files that its index lists.
fn tensors(path: &Path) -> Result<BTreeMap<String, Raw>> {
    let mut tensors = BTreeMap::new();
    for file in files(path)? {
        for (name, raw) in Safetensors::open(&file)?.tensors {
            let known = tensors.insert(name.clone(), raw);
            ensure!(
                known.is_none(),
                "{}: tensor {} stands in two files",
                file.display(),
                shown(&name)
            );
        }
    }
    Ok(tensors)
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let (single, index) = (path.join(run::MODEL), path.join(INDEX));
    if single.exists() {
        return Ok(vec![single]);
    }
    if !index.exists() {
        let pickles = path.join("pytorch_model.bin").exists();
        let hint = if pickles { "; pytorch_model.bin is code as well, and never read" } else { "" };
        bail!("{}: holds neither {} nor {INDEX}{hint}", path.display(), run::MODEL);
    }
    let object = json(&index)?;
    let map = object.get("weight_map").and_then(Value::as_object);
    let map = map.with_context(|| format!("{}: weight_map is missing", index.display()))?;
    let mut files = BTreeSet::new();
    for (name, file) in map {
        let is_plain =
            |file: &&str| !file.is_empty() && Path::new(file).file_name() == Some(file.as_ref());
        let file = file.as_str().filter(is_plain);
        let file = file.with_context(|| {
            format!(
                "{}: weight_map.{} is no name of a file beside it",
                index.display(),
                shown(name)
            )
        })?;
        files.insert(path.join(file));
    }
    Ok(files.into_iter().collect())
}
