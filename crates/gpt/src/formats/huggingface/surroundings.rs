//! What stands around a model's weights: `tokenizer.json`, `tokenizer_config.json`, `generation_config.json`,
//! `chat_template.jinja`.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::json as read_json;
use crate::{
    config::DecoderConfig,
    formats::{Delivered, ensure_fits},
    text::Tokenizer,
};

/// How a model's text is cut and laid out.
pub(super) struct Surroundings {
    pub(super) tokenizer: Tokenizer,
    pub(super) stops: Vec<u32>,
    pub(super) starts: bool,
    pub(super) chat_template: Option<String>,
}

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const MAX_TEMPLATE: u64 = 1 << 20;

/// Reads what is there; `object` is `config.json`.
pub(super) fn read(
    folder: &Path,
    object: &Map<String, Value>,
    config: &DecoderConfig,
) -> Result<Surroundings> {
    let optional = |name: &str| {
        let path = folder.join(name);
        if path.exists() { read_json(&path) } else { Ok(Map::new()) }
    };
    let (generation, about) = (optional(GENERATION)?, optional(TOKENIZER_CONFIG)?);
    let is_there = |name: &str| folder.join(name).exists();
    let tokenizer = if is_there(TOKENIZER) || is_there("vocab.json") || is_there("encoder.json") {
        let tokenizer = Tokenizer::open(folder)?;
        ensure_fits(&tokenizer, config).with_context(|| folder.display().to_string())?;
        tokenizer
    } else {
        Tokenizer::Bytes
    };
    let mut stops = Vec::new();
    for (file, object) in [(GENERATION, &generation), (super::CONFIG, object)] {
        let said = object.get("eos_token_id");
        let found = tokens(said)
            .with_context(|| format!("{}: eos_token_id", folder.join(file).display()))?;
        for stop in found {
            let is_known = i64::from(stop) < config.vocabulary;
            stops.extend((is_known && !stops.contains(&stop)).then_some(stop));
        }
    }
    let starts = match about.get("add_bos_token").and_then(Value::as_bool) {
        Some(said) => said,
        None => is_there(TOKENIZER) && post_processor_starts(&read_json(&folder.join(TOKENIZER))?),
    };
    let template = folder.join(TEMPLATE);
    let chat_template = if template.exists() {
        Some(template_file(&template)?)
    } else {
        let named = || folder.join(TOKENIZER_CONFIG).display().to_string();
        template_field(about.get("chat_template")).with_context(named)?
    };
    Ok(Surroundings { tokenizer, stops, starts, chat_template })
}

/// Tokens of a field that holds one, several or none.
fn tokens(value: Option<&Value>) -> Result<Vec<u32>> {
    let token = |value: &Value| {
        let token = value.as_u64().and_then(|it| u32::try_from(it).ok());
        token.with_context(|| format!("{value} is no token"))
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) => all.iter().map(token).collect(),
        Some(one) => Ok(vec![token(one)?]),
    }
}

/// Whether a `tokenizer.json` puts a special token before texts.
fn post_processor_starts(tokenizer: &Map<String, Value>) -> bool {
    let Some(last) = tokenizer.get("post_processor") else { return false };
    let steps = last.get("processors").and_then(Value::as_array);
    let steps = steps.map_or(std::slice::from_ref(last), Vec::as_slice);
    steps.iter().any(|step| step.pointer("/single/0/SpecialToken").is_some())
}

fn template_file(path: &Path) -> Result<String> {
    let name = || path.display().to_string();
    let about = std::fs::metadata(path).with_context(name)?;
    ensure!(
        about.is_file() && about.len() <= MAX_TEMPLATE,
        "{}: is no file of at most {MAX_TEMPLATE} bytes",
        name()
    );
    std::fs::read_to_string(path).with_context(name)
}

/// A template, or the one called `default` of several.
fn template_field(value: Option<&Value>) -> Result<Option<String>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(all)) => {
            let default =
                all.iter().find(|it| it.get("name").is_some_and(|name| name == "default"));
            let text = default.and_then(|it| it.get("template")).and_then(Value::as_str);
            Ok(text.map(ToOwned::to_owned))
        }
        Some(_) => bail!("chat_template is neither a text nor a list of them"),
    }
}

/// The files of a model, by name: what [`read`] reads.
pub(super) fn files(model: &Delivered) -> Vec<(&'static str, String)> {
    let stops = match model.stops[..] {
        [] => Value::Null,
        [stop] => stop.into(),
        _ => json!(model.stops),
    };
    let generation = json!({ "bos_token_id": model.config.start, "eos_token_id": stops });
    let mut files = vec![(GENERATION, pretty(&generation))];
    if model.ensure_text().is_err() {
        return files;
    }
    let special = |token: Option<&u32>| token.and_then(|&it| model.tokenizer.special(it));
    let about = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special(Some(&model.config.start)),
        "eos_token": special(model.stops.first()),
        "add_bos_token": model.starts,
        "clean_up_tokenization_spaces": false,
        "model_max_length": model.config.context,
        "chat_template": model.chat_template,
    });
    files.extend([
        (TOKENIZER, model.tokenizer.to_hugging_face()),
        (TOKENIZER_CONFIG, pretty(&about)),
    ]);
    files
}

/// Over several lines.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
