//! Files to `.chr` files and back, without loss: any bytes that the model's tokens can spell.
//!
//! A file's tokens are cut into parts, which are texts of their own: each begins with the start token and knows nothing of
//! the others, so that they can be read side by side: one part for every 16,384 tokens, 64 at the most, in up to four streams of
//! the coder, which threads share. What a token sees within its part says [`window`](super::exact::window).

mod identity;
mod parts;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use core_layers::codec::{self, Archive, Coding, Header};
use ndarray::Array2;

pub use identity::hash;
use parts::Parts;

use super::ExactEngine;
use crate::{model::TextContext, sample::Decode as _, text::Tokenizer};

/// Most tokens of one file; a hostile one can make decoding allocate 4 bytes for each.
const MAX_TOKENS: usize = 1 << 26;

/// A decoder and its tokens, as a compressor of files.
#[derive(Debug)]
pub struct TextCodec<'m> {
    /// Its probabilities.
    pub engine: &'m ExactEngine,
    /// Its tokens.
    pub tokenizer: &'m Tokenizer,
    /// Its identity: [`hash`].
    pub hash: &'m str,
    /// Threads to work on.
    pub threads: usize,
}

/// A file in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelled {
    /// Its base name.
    pub name: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

impl TextCodec<'_> {
    /// The tokens whose bytes, one after the other, are `bytes`.
    ///
    /// # Errors
    /// One line on bytes that the model's tokens cannot spell, or that are too many.
    pub fn spell(&self, path: &Path, bytes: &[u8]) -> Result<Spelled> {
        let shown = path.display();
        let spelling = || format!("{shown}: this model cannot hold it");
        let tokens = self.tokenizer.encode_bytes(bytes).with_context(spelling)?;
        let back = tokens.iter().flat_map(|&token| self.tokenizer.spelling(token));
        ensure!(
            back.eq(bytes),
            "{shown}: this model cannot hold it: its tokens spell something else"
        );
        let (most, vocabulary) = (tokens.iter().max(), self.engine.vocabulary());
        ensure!(
            most.is_none_or(|&token| (token as usize) < vocabulary),
            "{shown}: this model cannot hold it: it has {vocabulary} tokens, its tokenizer more"
        );
        ensure!(
            tokens.len() <= MAX_TOKENS,
            "{shown}: {} tokens are more than the {MAX_TOKENS} of one file",
            tokens.len()
        );
        let name = path.file_name().with_context(|| format!("{shown}: has no base name"))?;
        Ok(Spelled { name: name.to_string_lossy().into_owned(), tokens })
    }

    /// A file as the bytes of a `.chr` file. `tick` hears of tokens that are done.
    ///
    /// # Errors
    /// A model whose probabilities are no numbers, a name that is no base name.
    pub fn compress(&self, file: &Spelled, tick: &(dyn Fn(usize) + Sync)) -> Result<Vec<u8>> {
        let tokens = &file.tokens;
        let parts = Parts::of(tokens.len());
        let mut symbols = Array2::zeros((parts.lengths.len(), parts.longest()));
        let mut rest = tokens.as_slice();
        for (mut row, &length) in symbols.outer_iter_mut().zip(&parts.lengths) {
            let (part, later) = rest.split_at(length);
            row.iter_mut().zip(part).for_each(|(to, &from)| *to = from);
            rest = later;
        }
        let engine = self.engine.with_length(parts.longest());
        let context = TextContext::of(parts.lengths.iter().copied());
        let streams = codec::encode_streams(
            &engine,
            &context,
            symbols.view(),
            &parts.streams,
            self.threads,
            tick,
        )?;
        let header = Header {
            model: self.hash[..32].to_owned(),
            examples: 1,
            shape: vec![tokens.len()],
            names: vec![file.name.clone()],
            checksum: Archive::checksum(tokens.iter().copied()),
            sections: Vec::new(),
        };
        Archive { coding: self.coding(), header, side: Vec::new(), streams }.to_bytes()
    }

    /// The file in the bytes of a `.chr` file, verified against its checksum: its name and its bytes. `tick` hears of tokens
    /// that are done.
    ///
    /// # Errors
    /// One line on what is wrong with the bytes, or that they were made with another model.
    pub fn decompress(
        &self,
        bytes: &[u8],
        tick: &(dyn Fn(usize) + Sync),
    ) -> Result<(String, Vec<u8>)> {
        let archive = Archive::of_model(bytes, self.hash, self.coding())?;
        let tokens = self.announced(&archive)?;
        let parts = Parts::of(tokens);
        let engine = self.engine.with_length(parts.longest());
        let context = TextContext::of(parts.lengths.iter().copied());
        let (streams, sizes) = (&archive.streams, &parts.streams);
        let symbols = codec::decode_streams(&engine, &context, streams, sizes, self.threads, tick)?;
        let rows = symbols.outer_iter().zip(&parts.lengths);
        let tokens: Vec<u32> = rows
            .flat_map(|(row, &length)| row.iter().take(length).copied().collect::<Vec<_>>())
            .collect();
        archive.header.ensure_checksum(tokens.iter().copied())?;
        let bytes = tokens.iter().flat_map(|&token| self.tokenizer.spelling(token)).copied();
        Ok((archive.header.names[0].clone(), bytes.collect()))
    }

    /// Tokens that a `.chr` file of this model holds.
    ///
    /// # Errors
    /// As [`TextCodec::decompress`].
    pub fn tokens(&self, bytes: &[u8]) -> Result<usize> {
        self.announced(&Archive::of_model(bytes, self.hash, self.coding())?)
    }

    fn announced(&self, archive: &Archive) -> Result<usize> {
        let Header { examples, shape, names, .. } = &archive.header;
        ensure!(*examples == 1 && names.len() == 1, "holds {examples} files, not one with a name");
        let [tokens] = shape[..] else {
            anyhow::bail!("holds a file of shape {shape:?}, not a number of tokens");
        };
        ensure!(tokens <= MAX_TOKENS, "announces {tokens} tokens, more than {MAX_TOKENS}");
        let least_bits = archive.coding.least_bits(self.engine.vocabulary());
        let words: usize = archive.streams.iter().map(Vec::len).sum();
        ensure!(
            tokens as f64 * least_bits <= 32. * words as f64,
            "announces {tokens} tokens, too many for its {words} words"
        );
        Ok(tokens)
    }

    fn coding(&self) -> Coding {
        Coding::of_tables(self.engine.vocabulary())
    }
}
