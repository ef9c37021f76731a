//! Our own safetensors: checkpoints of training, and models as they are, in whatever encoding.
//!
//! | metadata | of training | of [`save`] |
//! |---|---|---|
//! | `format_version`, `architecture` (`gpt`) | yes | yes |
//! | `about`: the run; `config`: the decoder | `about` | `config` |
//! | `tokenizer`: a `tokenizer.json`, or ours | yes | yes |
//! | `prompt`: name, stops, start, template of chats | if imported | yes |
//! | `encodings`: of tensors that are blocks, by name | | yes |
//!
//! Tensors of training are `raw.NAME` and `ema.NAME`, others `NAME`, under the names of [`crate::weights`]. Blocks are U8
//! `[rows, bytes of a row]`.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::{
    checkpoint::{self, Checkpoint, FORMAT_VERSION, write_atomic},
    encoded::{Encoded, Encoding},
    run::{self, RunFolder},
    training::{Architecture as _, Part as _, TrainConfig},
};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Delivered, ensure_fits,
    safetensors::{Entry, Fill, Raw, Safetensors, rows_as, write},
    shown,
};
use crate::{
    config::{DecoderConfig, Run},
    data::DataConfig,
    text::Tokenizer,
    trained::{About, PROMPT, TOKENIZER},
    weights::{Weights, is_vector},
};

/// What is to be known of a model besides its decoder and tokenizer.
#[derive(Debug, Serialize, Deserialize)]
struct Prompt {
    name: String,
    stops: Vec<u32>,
    starts: bool,
    chat_template: Option<String>,
}

/// Opens a checkpoint of training, or what [`save`] wrote; `name` is what to call it where it does not say.
pub(super) fn open(path: &Path, name: &str, weights: checkpoint::Weights) -> Result<Delivered> {
    let file = Safetensors::open(path)?;
    parse(&file, name, weights).with_context(|| path.display().to_string())
}

fn parse(file: &Safetensors, name: &str, weights: checkpoint::Weights) -> Result<Delivered> {
    let metadata = &file.metadata;
    let architecture = metadata.get("architecture");
    let Some(architecture) = architecture else {
        bail!("does not say what model it holds; one of Hugging Face is opened by its folder");
    };
    ensure!(
        architecture == DecoderConfig::NAME,
        "holds a model of {}, this command opens those of {}",
        shown(architecture),
        DecoderConfig::NAME
    );
    let version = metadata.get("format_version").map_or("none", |it| it);
    ensure!(
        version.parse() == Ok(FORMAT_VERSION),
        "format version {}, but this program reads version {FORMAT_VERSION}",
        shown(version)
    );
    let config = config(metadata)?;
    config.validate()?;
    let tokenizer = metadata.get(TOKENIZER).context("has no metadata \"tokenizer\"")?;
    let tokenizer = Tokenizer::from_json(tokenizer).context("metadata \"tokenizer\"")?;
    if tokenizer != Tokenizer::Bytes {
        ensure_fits(&tokenizer, &config)?;
    }
    let prompt = match metadata.get(PROMPT) {
        Some(text) => serde_json::from_str(text).context("metadata \"prompt\"")?,
        None => Prompt {
            name: name.to_owned(),
            stops: vec![tokenizer.end_of_text()],
            starts: true, // every text of training stands behind it
            chat_template: None,
        },
    };
    let known = prompt.stops.iter().all(|&it| i64::from(it) < config.vocabulary);
    ensure!(
        known || tokenizer == Tokenizer::Bytes,
        "metadata \"prompt\": stops at tokens that the model does not know"
    );
    let weights = weights_of(file, weights)?;
    weights.ensure_fit(&config)?;
    Ok(Delivered {
        name: prompt.name,
        config,
        weights,
        tokenizer,
        stops: prompt.stops,
        starts: prompt.starts,
        chat_template: prompt.chat_template,
    })
}

/// The decoder that metadata describes.
fn config(metadata: &BTreeMap<String, String>) -> Result<DecoderConfig> {
    if let Some(config) = metadata.get("config") {
        return serde_json::from_str(config).context("metadata \"config\"");
    }
    let about = metadata.get("about").context("has neither metadata \"config\" nor \"about\"")?;
    let mut about: Value = serde_json::from_str(about).context("metadata \"about\"")?;
    let model = about.pointer_mut("/run/model").map(Value::take);
    let model = model.context("metadata \"about\" has no run.model")?;
    serde_json::from_value(model).context("metadata \"about\", run.model")
}

/// The section that was asked for, the raw weights where no average was kept, or all where there are no sections.
fn weights_of(file: &Safetensors, wanted: checkpoint::Weights) -> Result<Weights> {
    let encodings: BTreeMap<String, String> = match file.metadata.get("encodings") {
        Some(text) => serde_json::from_str(text).context("metadata \"encodings\"")?,
        None => BTreeMap::new(),
    };
    let prefix =
        if file.metadata.contains_key("config") { String::new() } else { section(file, wanted) };
    let section =
        file.tensors.iter().filter_map(|(name, raw)| Some((name.strip_prefix(&prefix)?, raw)));
    let tensors = section.map(|(name, raw)| {
        let encoded = encoded(raw, encodings.get(name));
        let encoded = encoded.with_context(|| format!("tensor {}", shown(name)))?;
        Ok((name.to_owned(), encoded))
    });
    Ok(Weights(tensors.collect::<Result<_>>()?))
}

fn section(file: &Safetensors, wanted: checkpoint::Weights) -> String {
    let prefix = format!("{}.", wanted.name());
    let is_there = file.tensors.keys().any(|name| name.starts_with(&prefix));
    if is_there { prefix } else { format!("{}.", checkpoint::Weights::Raw.name()) }
}

/// A tensor; blocks where an encoding is said.
fn encoded(raw: &Raw, encoding: Option<&String>) -> Result<Encoded> {
    let Some(name) = encoding else { return raw.matrix() };
    let encoding =
        Encoding::of_name(name).with_context(|| format!("has unknown encoding {}", shown(name)))?;
    let (values, size) = encoding.block();
    let [rows, bytes] = raw.shape[..] else {
        bail!("has {} axes, but must have 2", raw.shape.len())
    };
    ensure!(raw.dtype == Dtype::U8, "holds {}, but blocks are U8", raw.dtype);
    let columns = (bytes / size).checked_mul(values);
    let matrix = columns.and_then(|it| Encoded::new(rows, it, encoding, raw.bytes.clone()));
    let matrix = matrix.filter(|it| it.rows() > 0 && it.columns() > 0);
    matrix.with_context(|| format!("has impossible shape {:?} for {encoding}", raw.shape))
}

/// Writes a model as it is to one file that opens without any other.
///
/// # Errors
/// When it cannot be written; what was there is still there.
pub fn save(path: &Path, model: &Delivered) -> Result<()> {
    let (mut entries, mut encodings) = (BTreeMap::new(), BTreeMap::new());
    for (name, matrix) in &model.weights.0 {
        let (dtype, columns) = match matrix.encoding() {
            Encoding::F32 => (Dtype::F32, matrix.columns()),
            Encoding::F16 => (Dtype::F16, matrix.columns()),
            Encoding::Bf16 => (Dtype::BF16, matrix.columns()),
            blocks => {
                encodings.insert(name, blocks.name());
                (Dtype::U8, matrix.bytes().len() / matrix.rows())
            }
        };
        let shape = shape(name, matrix, columns);
        entries.insert(
            name.clone(),
            Entry { dtype, shape, fill: Box::new(|out| out.write_all(matrix.bytes())) },
        );
    }
    let mut metadata = prompt_metadata(model)?;
    metadata.insert("format_version".into(), FORMAT_VERSION.to_string());
    metadata.insert("architecture".into(), DecoderConfig::NAME.into());
    metadata.insert("config".into(), serde_json::to_string(&model.config)?);
    metadata.insert("encodings".into(), serde_json::to_string(&encodings)?);
    write(path, &metadata, &entries)
}

/// Writes a model to the folder of a run that has not trained yet: weights in f32, and a configuration whose data and
/// training are those of `train` without flags.
///
/// # Errors
/// When it cannot be written.
pub fn save_run(folder: &RunFolder, model: &Delivered) -> Result<()> {
    let about = About {
        run: Run {
            model: model.config.clone(),
            data: DataConfig::default(),
            train: TrainConfig::default(),
        },
        dataset: String::new(),
        protocol: "imported".into(),
        label_names: Vec::new(),
        data_hash: String::new(),
        step: 0,
        valid_nats: None,
    };
    let mut checkpoint = Checkpoint::default(); // for its metadata: tensors are written one by one
    about.write(&mut checkpoint)?;
    let mut metadata = checkpoint.metadata;
    metadata.insert("format_version".into(), FORMAT_VERSION.to_string());
    metadata.extend(prompt_metadata(model)?);
    let raw = checkpoint::Weights::Raw.name();
    let mut entries = BTreeMap::new();
    for (name, matrix) in &model.weights.0 {
        let fill: Fill<'_> = Box::new(move |out| rows_as(matrix, Encoding::F32, out));
        let entry = Entry { dtype: Dtype::F32, shape: shape(name, matrix, matrix.columns()), fill };
        entries.insert(format!("{raw}.{name}"), entry);
    }
    write(&folder.file(run::MODEL), &metadata, &entries)?;
    let config = serde_json::to_string_pretty(&about.run)?;
    write_atomic(&folder.file(run::CONFIG), config.as_bytes())?;
    Ok(())
}

/// The axes of a weight in a file: one of a vector.
fn shape(name: &str, matrix: &Encoded, columns: usize) -> Vec<usize> {
    if is_vector(name) { vec![columns] } else { vec![matrix.rows(), columns] }
}

/// What metadata says of a model besides its decoder: `tokenizer` and `prompt`.
fn prompt_metadata(model: &Delivered) -> Result<BTreeMap<String, String>> {
    Ok(BTreeMap::from([
        (TOKENIZER.into(), model.tokenizer.to_json()),
        (PROMPT.into(), prompt(model, &model.name)?),
    ]))
}

/// How a model is prompted, as metadata says it, and what to call it.
///
/// # Errors
/// None that a template can give.
pub(crate) fn prompt(model: &Delivered, name: &str) -> Result<String> {
    let prompt = Prompt {
        name: name.to_owned(),
        stops: model.stops.clone(),
        starts: model.starts,
        chat_template: model.chat_template.clone(),
    };
    Ok(serde_json::to_string(&prompt)?)
}

#[cfg(test)]
mod tests {
    use core_layers::encoded::Bytes;

    use super::*;
    use crate::{
        formats::tests::{fixture, greatest_difference},
        trained::Trained,
    };

    fn saved(model: &Delivered) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, model).unwrap();
        std::fs::read(path).unwrap()
    }

    fn read(bytes: Vec<u8>) -> Result<Delivered> {
        parse(&Safetensors::parse(&Bytes::from(bytes))?, "x", checkpoint::Weights::Ema)
    }

    /// The same file with one thing said differently.
    fn edited(from: &str, to: &str) -> String {
        let mut bytes = saved(&fixture("gguf-text/model.gguf"));
        let at = bytes.windows(from.len()).position(|it| it == from.as_bytes()).unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        format!("{:#}", read(bytes).unwrap_err())
    }

    #[test]
    fn a_model_of_blocks_is_saved_and_read_as_it_is() {
        for name in ["gguf-text/model.gguf", "gguf-k/model.gguf", "llama-grouped"] {
            let model = fixture(name);
            let back = read(saved(&model)).unwrap();
            assert_eq!((&back.name, &back.config), (&model.name, &model.config));
            assert_eq!((&back.tokenizer, &back.stops), (&model.tokenizer, &model.stops));
            assert_eq!((back.starts, &back.chat_template), (model.starts, &model.chat_template));
            assert_eq!(back.weights.0.len(), model.weights.0.len());
            for (name, matrix) in &model.weights.0 {
                let found = back.weights.of(name);
                assert_eq!(
                    (found.encoding(), found.bytes()),
                    (matrix.encoding(), matrix.bytes()),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused_in_one_line() {
        assert_eq!(
            edited("q5_0", "q5_k"),
            "tensor \"layers.0.attention.value.weight\": has impossible shape [48, 44] for q5_k"
        );
        assert_eq!(
            edited("q5_0", "q9_9"),
            "tensor \"layers.0.attention.value.weight\": has unknown encoding \"q9_9\""
        );
        let line = edited("\\\"kv_heads\\\":2", "\\\"kv_heads\\\":3");
        assert_eq!(line, "model.kv_heads is 3, but must be a divisor of model.heads");
        let line = edited("\\\"layers\\\":2", "\\\"layers\\\":9");
        assert!(line.starts_with("tensor \"layers.2."), "{line}");
        let line = edited("\"architecture\":\"gpt\"", "\"architecture\":\"pix\"");
        assert_eq!(line, "holds a model of \"pix\", this command opens those of gpt");
        let line = edited("\"format_version\":\"1\"", "\"format_version\":\"7\"");
        assert_eq!(line, "format version \"7\", but this program reads version 1");
    }

    #[test]
    fn an_imported_model_is_a_run_that_opens_with_the_same_logits() {
        for name in ["gpt2-erf", "gguf-text/model.gguf"] {
            let (model, folder) = (fixture(name), tempfile::tempdir().unwrap());
            let run = RunFolder::create(folder.path(), false).unwrap();
            save_run(&run, &model).unwrap();
            let back = crate::formats::open(folder.path(), checkpoint::Weights::Ema).unwrap();
            assert_eq!(
                (&back.config, &back.name, &back.stops),
                (&model.config, &model.name, &model.stops)
            );
            let greatest = greatest_difference(&back, name.trim_end_matches("/model.gguf"));
            assert!(greatest < 1e-4, "{name}: {greatest}");
            let trained =
                Trained::open(folder.path(), checkpoint::Weights::Ema, tch::Device::Cpu).unwrap();
            assert_eq!(
                trained.decoder.weights().of("norm.weight").to_f32(),
                model.weights.of("norm.weight").to_f32()
            );
            assert_eq!(trained.about.unwrap().run.model, model.config);
        }
    }

    #[test]
    fn the_average_of_a_checkpoint_is_taken_where_there_is_one() {
        let model = fixture("llama-grouped");
        let mut file = Safetensors::parse(&saved(&model).into()).unwrap();
        let config = file.metadata.remove("config").unwrap();
        file.metadata.insert("about".into(), format!(r#"{{"run":{{"model":{config}}}}}"#));
        let take = |x: &str| (format!("raw.{x}"), format!("ema.{x}"));
        let tensors = std::mem::take(&mut file.tensors);
        for (name, mut tensor) in tensors {
            let (raw, ema) = take(&name);
            file.tensors.insert(raw, tensor.clone());
            tensor.bytes = vec![0; tensor.bytes.len()].into();
            file.tensors.insert(ema, tensor);
        }
        let first = |file: &Safetensors, weights| {
            parse(file, "x", weights).unwrap().weights.of("norm.weight").to_f32()[0]
        };
        let raw = first(&file, checkpoint::Weights::Raw);
        assert_eq!(
            (raw, first(&file, checkpoint::Weights::Ema)),
            (model.weights.of("norm.weight").to_f32()[0], 0.)
        );
        file.tensors.retain(|name, _| name.starts_with("raw."));
        assert_eq!(first(&file, checkpoint::Weights::Ema), raw, "where none was kept");
    }
}
