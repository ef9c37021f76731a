//! What can be wrong with a file, in one line that names it.

use std::{io, path::Path};

/// A file that cannot be read, written, or used for what it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It cannot be read or written.
    #[error("{file}: cannot be {verb}: {reason}")]
    Io {
        /// The path as it was given.
        file: String,
        /// "read" or "written".
        verb: &'static str,
        /// What the system said.
        reason: String,
    },
    /// It is no checkpoint, or a damaged one.
    #[error("{file}: {what}")]
    Malformed {
        /// The path as it was given.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// It was written by a version of this program that stores things differently.
    #[error("{file}: format version {found}, but this program reads version {supported}")]
    Version {
        /// The path as it was given.
        file: String,
        /// The version that the file states.
        found: String,
        /// [`FORMAT_VERSION`](super::FORMAT_VERSION).
        supported: u32,
    },
    /// A tensor does not fit the model that the configuration describes.
    #[error("{file}: tensor {name:?} {found}, the configuration needs {needed}")]
    Mismatch {
        /// The path as it was given.
        file: String,
        /// The tensor's name in the file.
        name: String,
        /// What the file holds, for example "has shape [64, 64, 2, 3]".
        found: String,
        /// What the model needs, for example "[128, 64, 2, 3]".
        needed: String,
    },
}

impl CheckpointError {
    pub(super) fn read(path: &Path, error: &io::Error) -> Self {
        Self::Io { file: shown(path), verb: "read", reason: reason(error) }
    }

    pub(super) fn write(path: &Path, error: &io::Error) -> Self {
        Self::Io { file: shown(path), verb: "written", reason: reason(error) }
    }

    pub(super) fn malformed(path: &Path, what: impl Into<String>) -> Self {
        Self::Malformed { file: shown(path), what: one_line(&what.into()) }
    }

    pub(super) fn version(path: &Path, found: &str) -> Self {
        let supported = super::FORMAT_VERSION;
        Self::Version { file: shown(path), found: one_line(found), supported }
    }

    pub(super) fn mismatch(path: &Path, name: &str, found: &str, needed: &str) -> Self {
        Self::Mismatch {
            file: shown(path),
            name: name.into(),
            found: found.into(),
            needed: needed.into(),
        }
    }
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".into(),
        io::ErrorKind::NotFound => "no such file or folder".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "it is a folder".into(),
        _ => one_line(&error.to_string()),
    }
}

/// Foreign text without line breaks, without terminal controls, and not longer than a line can be.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(300).collect()
}
