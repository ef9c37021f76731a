//! Reading bytes that may end too early.

use anyhow::{Context as _, Result, bail, ensure};

/// Bytes that have not been read yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that are left.
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            bail!("is cut short: {len} bytes should follow, {} do", self.rest.len());
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(self.take(4)?.iter().rev().fold(0, |x, &byte| x << 8 | u32::from(byte)))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(self.take(8)?.iter().rev().fold(0, |x, &byte| x << 8 | u64::from(byte)))
    }

    /// A number of things of at least `least` bytes each, for which there is room.
    pub(super) fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.u64()?;
        let most = self.left() / least.max(1);
        let fitting = usize::try_from(count).ok().filter(|&count| count <= most);
        fitting.with_context(|| format!("announces {count} things, there is room for {most}"))
    }

    /// A text with its length before it.
    pub(super) fn text(&mut self) -> Result<&'a str> {
        let len = self.u64()?;
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        let text = std::str::from_utf8(bytes);
        ensure!(
            text.is_ok(),
            "holds a text that is no UTF-8: {}",
            bytes.escape_ascii().to_string().chars().take(80).collect::<String>()
        );
        Ok(text.unwrap_or_default())
    }
}

/// A text of a file in quotes, without line breaks and no longer than a line can be.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{more}")
}
