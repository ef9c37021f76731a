//! `tokenize`: how a text is cut.

mod page;
mod pieces;

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;
use core_layers::{
    checkpoint::{Weights, write_atomic},
    cli::{counted, ensure_file},
};
use serde_json::json;

use self::pieces::Cutting;
use crate::{formats, text::Tokenizer};

/// Flags of `tokenize`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt tokenize bytes \"Once upon a time\"\n  gpt tokenize smollm2.gguf README.md --html cut.html"
)]
pub struct TokenizeArgs {
    /// A model, a tokenizer.json, a folder that has one, or the word bytes.
    #[arg(value_name = "MODEL|TOKENIZER")]
    model: PathBuf,
    /// Text, or a file that holds it.
    #[arg(value_name = "TEXT|FILE")]
    text: String,
    /// Recognise special tokens such as <|endoftext|>; otherwise they are text.
    #[arg(long)]
    special: bool,
    /// Pieces to show; 0 shows all. Counts are of all.
    #[arg(long, default_value_t = 2000)]
    first: usize,
    /// Print one JSON object, with all tokens.
    #[arg(long)]
    json: bool,
    /// Write a page that shows the pieces in colour.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs `tokenize`.
pub(super) fn run(args: &TokenizeArgs) -> Result<()> {
    args.html.iter().try_for_each(|path| ensure_file("--html", path))?;
    let tokenizer = open(&args.model)?;
    let is_file = Path::new(&args.text).is_file();
    let bytes = if is_file {
        fs::read(&args.text).with_context(|| args.text.clone())?
    } else {
        args.text.clone().into_bytes()
    };
    let name = if is_file { args.text.clone() } else { "the text".into() };
    let tokens = match std::str::from_utf8(&bytes) {
        Ok(text) if args.special => Ok(tokenizer.encode_special(text)),
        Ok(text) => tokenizer.try_encode(text),
        Err(_) => tokenizer.encode_bytes(&bytes),
    };
    let tokens = tokens.with_context(|| name.clone())?;
    let cutting = Cutting::new(&tokenizer, &tokens, &bytes);
    if let Some(path) = &args.html {
        let title = format!("{name}, cut by {}", args.model.display());
        write_atomic(path, page::page(&title, &cutting, args.first).as_bytes())?;
    }
    if args.json {
        let pieces = cutting.pieces.iter().map(|piece| piece.shown.as_str());
        println!(
            "{}",
            json!({
                "model": args.model,
                "vocabulary": cutting.vocabulary,
                "tokens": cutting.pieces.len(),
                "bytes": cutting.bytes,
                "characters": cutting.characters,
                "bytes_per_token": cutting.bytes_per_token(),
                "ids": tokens,
                "pieces": pieces.collect::<Vec<_>>(),
            })
        );
        return Ok(());
    }
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let shown = if args.first == 0 { usize::MAX } else { args.first };
    let mut out = io::stdout().lock();
    write!(out, "{}", cutting.text(shown, colours))?;
    let ids: Vec<String> = tokens.iter().take(shown).map(u32::to_string).collect();
    writeln!(out, "\nids: {}", ids.join(" "))?;
    if shown < tokens.len() {
        writeln!(out, "(the first {shown}; --first 0 shows all)")?;
    }
    writeln!(
        out,
        "{}, {}, {}, {:.2} bytes a token, {} of the vocabulary's {}",
        counted(tokens.len(), "token"),
        counted(cutting.bytes, "byte"),
        counted(cutting.characters, "character"),
        cutting.bytes_per_token(),
        cutting.distinct(),
        cutting.vocabulary
    )?;
    if let Some(path) = &args.html {
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}

/// The tokenizer of a model, or one that stands alone.
pub(super) fn open(path: &Path) -> Result<Tokenizer> {
    if path.as_os_str() == "bytes" && !path.exists() {
        return Ok(Tokenizer::Bytes);
    }
    let is_json = path.extension().is_some_and(|it| it == "json");
    let holds = |name: &str| path.join(name).is_file();
    if is_json || holds("tokenizer.json") || holds("merges.txt") || holds("vocab.bpe") {
        return Tokenizer::open(path);
    }
    Ok(formats::open(path, Weights::Ema)?.tokenizer)
}
