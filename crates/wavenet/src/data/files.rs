//! Files, read with suspicion.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Largest recording or table of features that is read, bytes.
pub(super) const MAX_FILE: u64 = 1 << 30;

/// Reads a file whole, unless it is no regular file or has more than `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    let name = || path.display().to_string();
    let file = fs::metadata(path).with_context(name)?;
    // asked first, since a pipe would block and a device never ends
    ensure!(file.is_file(), "{}: it is not a regular file", name());
    let len = file.len();
    ensure!(len <= max, "{}: it has {len} bytes, but must have at most {max}", name());
    fs::read(path).with_context(name)
}
