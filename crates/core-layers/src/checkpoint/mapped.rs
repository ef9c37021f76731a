//! Files that stay on disk until they are looked at.

use std::{fs::File, path::Path, sync::Arc};

use memmap2::Mmap;

use super::CheckpointError;
use crate::encoded::Bytes;

/// The bytes of an ordinary file, mapped into memory and read where they are touched.
///
/// # Errors
/// When it cannot be opened or is no ordinary file.
pub fn map_file(path: &Path) -> Result<Bytes, CheckpointError> {
    let failed = |error: std::io::Error| CheckpointError::read(path, &error);
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(CheckpointError::malformed(path, "is no ordinary file"));
    }
    if about.len() == 0 {
        return Ok(Bytes::from(Vec::new())); // nothing can be mapped
    }
    let file = File::open(path).map_err(failed)?;
    #[expect(
        unsafe_code,
        reason = "a mapped file must not be cut by others; ours are written under new names"
    )]
    // SAFETY: the map is read only and lives as long as the bytes that are handed out. As with every program that maps its
    // weights, a file that another process cuts short ends this one by a signal.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    Ok(Bytes::new(Arc::new(map)))
}
