//! Text to tokens: documents are read one by one, split, cut on all cores, and packed.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use core_layers::{
    cli::counted,
    dataset::{Split, data_hash},
    device::physical_cores,
};

use super::{
    Dataset, Tokens,
    config::{Cut, DataConfig},
    file::{self, Description, Part},
    source::Source,
    split,
};
use crate::text::{Tokenizer, parts};

/// The version of how documents are read, split and packed.
const DECODER: &str = "text/1";
/// Bytes of text that are cut at once.
const BATCH: usize = 1 << 22;
/// Bytes of text that merges are learnt from, at most.
const SAMPLE: usize = 1 << 27;
/// Bytes that are taken into the sample, or not, together.
const PART: usize = 1 << 16;

/// What is known about documents before they are cut.
struct Survey {
    documents: usize,
    bytes: usize,
}

/// Documents with the split that each part of them goes to.
struct Documents<'a> {
    source: Source,
    config: &'a DataConfig,
    any: bool,
    few: bool,
}

impl Documents<'_> {
    /// Counts documents; few of them are split by position.
    fn survey(&mut self) -> Result<Survey> {
        let mut survey = Survey { documents: 0, bytes: 0 };
        self.source.each(&self.config.field, self.any, |_, document| {
            survey.documents += 1;
            survey.bytes += document.len();
            Ok(())
        })?;
        let name = self.source.name();
        ensure!(survey.documents > 0, "{name}: holds no text");
        if self.config.limit > 0 {
            survey.documents = survey.documents.min(self.config.limit);
        }
        self.few = survey.documents < split::FEW;
        Ok(survey)
    }

    /// Gives every document's parts with their splits; returns lines on what was left out.
    fn each(&self, mut take: impl FnMut(Split, &str, &[u8]) -> Result<()>) -> Result<Vec<String>> {
        let mut count = 0;
        let left_out = self.source.each(&self.config.field, self.any, |name, document| {
            count += 1;
            if self.config.limit > 0 && count > self.config.limit {
                return Ok(());
            }
            if !self.few {
                return take(split::of_content(&document), name, &document);
            }
            let blocks = split::of_position(&document);
            let parts = Split::ALL.into_iter().zip(blocks).filter(|(_, block)| !block.is_empty());
            parts.into_iter().try_for_each(|(split, block)| take(split, name, block))
        })?;
        let reasons =
            [("file", left_out.foreign, "no UTF-8"), ("document", left_out.empty, "empty")];
        let said = reasons.iter().filter(|(_, count, _)| *count > 0);
        Ok(said
            .map(|(noun, count, why)| format!("{} left out: {why}", counted(*count, noun)))
            .collect())
    }

    /// The tokenizer that the configuration asks for, learnt from what trains where it must be.
    fn tokenizer(&self, bytes: usize) -> Result<Tokenizer> {
        let size = match self.config.cut()? {
            Cut::Bytes => return Ok(Tokenizer::Bytes),
            Cut::File(path) => return Tokenizer::open(Path::new(&path)),
            Cut::Characters => return self.characters(),
            Cut::Auto => DataConfig::BPE,
            Cut::Bpe(size) => size,
        };
        // of more text than is needed, parts are taken evenly
        let share = (SAMPLE as f64 / bytes.max(1) as f64).min(1.);
        let (mut texts, mut due) = (Vec::new(), 0.);
        self.texts(|split, text| {
            for part in parts(text, PART).filter(|_| split == Split::Train) {
                due += share;
                if due >= 1. {
                    due -= 1.;
                    texts.push(part.to_owned());
                }
            }
        })?;
        Tokenizer::train(texts.iter().map(String::as_str), size)
    }

    /// The characters of all splits, since one that no training text holds could not be measured at all.
    fn characters(&self) -> Result<Tokenizer> {
        let mut seen = BTreeSet::new();
        self.texts(|_, text| seen.extend(text.chars()))?;
        let all: String = seen.into_iter().collect();
        Ok(Tokenizer::characters([all.as_str()]))
    }

    fn texts(&self, mut take: impl FnMut(Split, &str)) -> Result<()> {
        self.each(|split, name, text| {
            let text = std::str::from_utf8(text);
            take(split, text.with_context(|| format!("{name}: is no UTF-8"))?);
            Ok(())
        })?;
        Ok(())
    }
}

/// Where packed tokens go, split by split.
struct Packer<W> {
    wide: bool,
    end: u32,
    outs: [W; 3],
    counts: [u64; 3],
    documents: [Vec<u8>; 3],
}

impl<W: Write> Packer<W> {
    fn new(tokenizer: &Tokenizer, outs: [W; 3]) -> Self {
        let wide = file::is_wide(tokenizer.vocabulary());
        let end = tokenizer.end_of_text();
        Self { wide, end, outs, counts: [0; 3], documents: Default::default() }
    }

    fn push(&mut self, split: Split, tokens: &[u32]) -> Result<()> {
        let place = Split::ALL.iter().position(|&it| it == split).unwrap_or(0);
        let first = (self.counts[place] == 0).then_some(self.end);
        self.counts[place] += u64::from(first.is_some());
        self.documents[place].extend(self.counts[place].to_le_bytes());
        for &token in first.iter().chain(tokens).chain(&[self.end]) {
            if self.wide {
                self.outs[place].write_all(&token.to_le_bytes())?;
            } else {
                let token = u16::try_from(token).context("a token does not fit 16 bits")?;
                self.outs[place].write_all(&token.to_le_bytes())?;
            }
        }
        self.counts[place] += tokens.len() as u64 + 1;
        Ok(())
    }
}

/// Cuts a batch on all cores.
fn cut(tokenizer: &Tokenizer, batch: &[(Split, String, Vec<u8>)]) -> Vec<Result<Vec<u32>>> {
    let one = |(_, name, document): &(Split, String, Vec<u8>)| {
        let tokens = match std::str::from_utf8(document) {
            Ok(text) => tokenizer.try_encode(text),
            Err(_) => tokenizer.encode_bytes(document),
        };
        tokens.with_context(|| name.clone())
    };
    let share = batch.len().div_ceil(physical_cores()).max(1);
    std::thread::scope(|scope| {
        let work = batch
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()));
        let work: Vec<_> = work.collect();
        work.into_iter()
            .flat_map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Packs all documents; returns what is to be said of them.
fn pack<W: Write>(
    documents: &Documents<'_>,
    tokenizer: &Tokenizer,
    packer: &mut Packer<W>,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<String>> {
    let mut batch: Vec<(Split, String, Vec<u8>)> = Vec::new();
    let (mut waiting, mut done) = (0, 0);
    let mut flush = |batch: &mut Vec<(Split, String, Vec<u8>)>| -> Result<()> {
        for (tokens, (split, ..)) in cut(tokenizer, batch).into_iter().zip(&*batch) {
            packer.push(*split, &tokens?)?;
        }
        done += batch.iter().map(|(_, _, document)| document.len()).sum::<usize>();
        progress(done);
        batch.clear();
        Ok(())
    };
    let report = documents.each(|split, name, document| {
        batch.push((split, name.to_owned(), document.to_vec()));
        waiting += document.len();
        if waiting >= BATCH {
            waiting = 0;
            flush(&mut batch)?;
        }
        Ok(())
    })?;
    flush(&mut batch)?;
    Ok(report)
}

/// Everything but the tokens.
fn describe(documents: &Documents<'_>, tokenizer: &Tokenizer) -> Result<Description> {
    let config = documents.config;
    let rule = if documents.few { split::BY_POSITION } else { split::BY_CONTENT };
    let limit = match config.limit {
        0 => String::new(),
        limit => format!("; the first {}", counted(limit, "document")),
    };
    let name = documents.source.name();
    let tokens = tokenizer.vocabulary();
    let protocol = format!("{name}: {rule}; {tokens} tokens, {}{limit}", &tokenizer.hash()[..16]);
    let hash = data_hash(documents.source.digests()?, DECODER, &protocol);
    Ok(Description { name, protocol, hash, tokenizer: tokenizer.to_json() })
}

/// Looks at the documents, and finds or learns what cuts them.
fn open<'a>(
    config: &'a DataConfig,
    given: Option<&Tokenizer>,
) -> Result<(Documents<'a>, Tokenizer, Survey)> {
    let any = match given {
        Some(it) => *it == Tokenizer::Bytes,
        None => config.cut()? == Cut::Bytes,
    };
    let source = Source::open(&config.data)?;
    let mut documents = Documents { source, config, any, few: false };
    let survey = documents.survey()?;
    let tokenizer = match given {
        Some(it) => it.clone(),
        None => documents.tokenizer(survey.bytes)?,
    };
    Ok((documents, tokenizer, survey))
}

/// Reads text into memory.
pub(super) fn load(config: &DataConfig, given: Option<&Tokenizer>) -> Result<Dataset> {
    let (documents, tokenizer, _) = open(config, given)?;
    let mut packer = Packer::new(&tokenizer, [Vec::new(), Vec::new(), Vec::new()]);
    let mut report = pack(&documents, &tokenizer, &mut packer, &mut |_| {})?;
    let Description { name, protocol, hash, .. } = describe(&documents, &tokenizer)?;
    let [train, valid, test] = {
        let (wide, tokens) = (packer.wide, packer.outs.into_iter());
        let mut all = tokens
            .zip(packer.documents)
            .map(|(tokens, documents)| Tokens::new(wide, tokens.into(), documents.into()));
        std::array::from_fn(|_| all.next().expect("there are three"))
    };
    let mut dataset =
        Dataset { train, valid, test, tokenizer, name, protocol, hash, report: Vec::new() };
    report.insert(0, dataset.summary());
    dataset.report = report;
    Ok(dataset)
}

/// Streams text into a file of prepared tokens; `progress` hears bytes done and bytes in all. Returns the set, mapped.
/// `given` cuts the text, where a model is there already.
///
/// # Errors
/// As [`super::load`], and when the file cannot be written.
pub fn prepare(
    config: &DataConfig,
    given: Option<&Tokenizer>,
    out: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Dataset> {
    ensure!(!file::is_prepared(Path::new(&config.data)), "{}: is prepared already", config.data);
    let (documents, tokenizer, survey) = open(config, given)?;
    let folder = out.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = || tempfile::tempfile_in(folder).with_context(|| folder.display().to_string());
    let outs = [temporary()?, temporary()?, temporary()?].map(BufWriter::new);
    let mut packer = Packer::new(&tokenizer, outs);
    let mut report =
        pack(&documents, &tokenizer, &mut packer, &mut |done| progress(done, survey.bytes))?;
    let about = describe(&documents, &tokenizer)?;
    let mut parts = Vec::new();
    for (tokens, documents) in packer.outs.into_iter().zip(packer.documents) {
        let tokens: File = tokens.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        parts.push(Part { tokens, documents });
    }
    let mut parts: [Part; 3] = parts.try_into().ok().context("there are three splits")?;
    file::write(out, tokenizer.vocabulary(), &about, &mut parts)?;
    let mut dataset = file::read(out)?;
    report.insert(0, dataset.summary());
    dataset.report = report;
    Ok(dataset)
}
