//! `sample` and `complete`: texts of the exact engine; one seed, one text on every machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use core_layers::{
    ConfigError,
    checkpoint::write_atomic,
    cli::{self, ModelArgs},
    run::Ticker,
    sampling::{Draws, SamplingConfig, draw_in_parallel},
};
use ndarray::Array2;

use super::compress::Exact;
use crate::{model::TextContext, text::Tokenizer};

/// Most tokens of a text.
const MAX_TOKENS: usize = 1 << 20;

/// What `sample` and `complete` share.
#[derive(Debug, Args)]
struct DrawArgs {
    /// Texts to draw.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Tokens of each that are drawn, at most; a text ends where the model ends it.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    #[command(flatten)]
    config: SamplingConfig,
    /// Seed; one gives the same texts on every machine, for any number of threads.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A file for the text; of several NAME-1.txt, NAME-2.txt, ... Without it, they are printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Flags of `sample`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt sample runs/book --tokens 400 --seed 7\n  gpt sample runs/book --count 16 --out texts/a.txt"
)]
pub struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    draw: DrawArgs,
}

/// Flags of `complete`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt complete runs/book --text \"In the beginning\" --tokens 100 --count 3"
)]
pub struct CompleteArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The beginning of each text, or a file that holds it.
    #[arg(long, value_name = "TEXT|FILE")]
    text: String,
    #[command(flatten)]
    draw: DrawArgs,
}

/// Runs `sample`.
pub(super) fn run(args: &SampleArgs) -> Result<()> {
    args.draw.validate()?;
    args.draw.run(&Exact::open(&args.model)?, &args.model, &[])
}

/// Runs `complete`.
pub(super) fn complete(args: &CompleteArgs) -> Result<()> {
    args.draw.validate()?;
    let path = Path::new(&args.text);
    let bytes = if path.is_file() {
        std::fs::read(path).with_context(|| path.display().to_string())?
    } else {
        args.text.clone().into_bytes()
    };
    let exact = Exact::open(&args.model)?;
    let known = exact.delivered.tokenizer.encode_bytes(&bytes).context("--text")?;
    args.draw.run(&exact, &args.model, &known)
}

impl DrawArgs {
    fn validate(&self) -> Result<(), ConfigError> {
        self.config.validate()?;
        ConfigError::ensure((1..=4096).contains(&self.count), "--count", self.count, "1 to 4096")?;
        let (tokens, rule) = (self.tokens, format!("1 to {MAX_TOKENS}"));
        ConfigError::ensure((1..=MAX_TOKENS).contains(&tokens), "--tokens", tokens, &rule)?;
        self.out.iter().try_for_each(|path| cli::ensure_file("--out", path))
    }

    /// Draws texts that begin with `known`, and writes them.
    fn run(&self, exact: &Exact, model: &ModelArgs, known: &[u32]) -> Result<()> {
        let length = known.len() + self.tokens;
        let mut symbols = Array2::zeros((self.count, length));
        for mut row in symbols.outer_iter_mut() {
            row.iter_mut().zip(known).for_each(|(to, &from)| *to = from);
        }
        let draws = Draws { config: self.config, seed: self.seed, known: known.len() };
        let engine = exact.engine.with_length(length);
        let context = TextContext::full(self.count);
        let ticker = Ticker::new("sample", symbols.len(), self.quiet);
        let tick = |count| ticker.tick(count);
        draw_in_parallel(&engine, &context, symbols.view_mut(), draws, model.threads(), &tick);
        drop(ticker);
        let tokenizer = &exact.delivered.tokenizer;
        for (index, row) in symbols.outer_iter().enumerate() {
            let tokens: Vec<u32> = row.iter().copied().collect();
            let text = text(tokenizer, &tokens, known.len());
            match &self.out {
                Some(path) => {
                    let path = numbered(path, index, self.count);
                    write_atomic(&path, text.as_bytes())?;
                    println!("{}", path.display());
                }
                None if self.count > 1 => println!("--- {}\n{text}", index + 1),
                None => println!("{text}"),
            }
        }
        Ok(())
    }
}

/// The text of tokens, up to where one that was drawn ends it.
fn text(tokenizer: &Tokenizer, tokens: &[u32], known: usize) -> String {
    let drawn = &tokens[known..];
    let end = drawn.iter().position(|&token| token == tokenizer.end_of_text());
    tokenizer.decode(&tokens[..known + end.unwrap_or(drawn.len())])
}

/// `NAME-1.txt`, `NAME-2.txt`, ... for several.
fn numbered(path: &Path, index: usize, count: usize) -> PathBuf {
    if count == 1 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(ending) => format!("{stem}-{}.{}", index + 1, ending.to_string_lossy()),
        None => format!("{stem}-{}", index + 1),
    };
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_where_the_model_ends_it_but_not_in_what_was_given() {
        let tokens = [65, 256, 66, 256, 67];
        assert_eq!(text(&Tokenizer::Bytes, &tokens, 2), "AB");
        assert_eq!(text(&Tokenizer::Bytes, &tokens[..3], 2), "AB");
        assert_eq!(text(&Tokenizer::Bytes, &tokens, 0), "A");
    }

    #[test]
    fn several_files_are_numbered() {
        let of = |path: &str, count| numbered(Path::new(path), 1, count).display().to_string();
        assert_eq!(of("a/b.txt", 1), "a/b.txt");
        assert_eq!(of("a/b.txt", 2), "a/b-2.txt");
        assert_eq!(of("b", 2), "b-2");
    }
}
