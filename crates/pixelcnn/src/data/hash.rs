//! The identity of a data set: what a run was trained on, and what it may be resumed on.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileDigest {
    path: String,
    len: usize,
    sha256: String,
}

impl FileDigest {
    /// The digest of a file's content under its path within the set.
    pub(super) fn new(path: impl Into<String>, content: &[u8]) -> Self {
        Self { path: path.into(), len: content.len(), sha256: hex(&Sha256::digest(content)) }
    }
}

/// sha256 over the sorted (path, length, sha256) of the files, the decoder's version and the split rule, in hex.
pub(super) fn data_hash(mut files: Vec<FileDigest>, decoder: &str, rule: &str) -> String {
    files.sort();
    let mut hasher = Sha256::new();
    for FileDigest { path, len, sha256 } in files {
        hasher.update(format!("{path}\0{len}\0{sha256}\n"));
    }
    hasher.update(format!("{decoder}\0{rule}"));
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_content_and_rule_but_not_on_the_order_of_files() {
        let (a, b) = (FileDigest::new("a", b"1"), FileDigest::new("b", b"2"));
        let hash = data_hash(vec![a.clone(), b.clone()], "png/1", "rule");
        assert_eq!(hash, data_hash(vec![b.clone(), a.clone()], "png/1", "rule"));
        assert_ne!(hash, data_hash(vec![a.clone(), b.clone()], "png/1", "another"));
        assert_ne!(hash, data_hash(vec![a.clone(), b.clone()], "png/2", "rule"));
        assert_ne!(hash, data_hash(vec![a, FileDigest::new("b", b"3")], "png/1", "rule"));
        assert_eq!(hash.len(), 64);
    }
}
