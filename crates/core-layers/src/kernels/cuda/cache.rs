//! Compiled kernels on disk: a file each, named by what it was compiled from and for, that says whether it is whole.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{checkpoint, kernels::ffi::TorchError};

/// Bytes of a file's checksum, which stands first.
const CHECKSUM: usize = 32;

/// Where compiled kernels are kept: `CHAINRULE_CACHE`, or `chainrule` in the user's folder of caches.
pub(super) fn folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".cache"));
    set("CHAINRULE_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME").or_else(home)?.join("chainrule")))
        .map(|folder| folder.join("kernels"))
}

/// The name of what is made of `parts`.
pub(super) fn name(stem: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    format!("{stem}-{}.cubin", &checkpoint::hex(&hash.finalize())[..32])
}

/// What `make` makes, kept in `folder` under `name`; a file that is damaged is made again. A folder that cannot be
/// written costs only the time of making it anew.
pub(super) fn get_or_make(
    folder: Option<&Path>,
    name: &str,
    make: impl FnOnce() -> Result<Vec<u8>, TorchError>,
) -> Result<Vec<u8>, TorchError> {
    let path = folder.map(|folder| folder.join(name));
    if let Some(found) = path.as_deref().and_then(read) {
        return Ok(found);
    }
    let made = make()?;
    if let Some((folder, path)) = folder.zip(path.as_deref()) {
        let kept = [&checkpoint::sha256(&made)[..], &made].concat();
        if fs::create_dir_all(folder).is_ok() {
            let _ = checkpoint::write_atomic(path, &kept);
        }
    }
    Ok(made)
}

/// What a file holds, if it is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut kept = fs::read(path).ok()?;
    let made = kept.split_off(CHECKSUM.min(kept.len()));
    (checkpoint::sha256(&made)[..] == kept[..]).then_some(made)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_was_made_once_is_read_and_what_is_damaged_is_made_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("deep/kernels");
        let made = Cell::new(0);
        let get = || {
            let make = || {
                made.set(made.get() + 1);
                Ok(vec![1, 2, 3])
            };
            get_or_make(Some(&folder), "a.cubin", make).unwrap()
        };
        assert_eq!((get(), get(), made.get()), (vec![1, 2, 3], vec![1, 2, 3], 1));
        let path = folder.join("a.cubin");
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..5], &[], &[&whole[..34], &[9]].concat()]
        {
            fs::write(&path, damaged).unwrap();
            let before = made.get();
            assert_eq!((get(), made.get()), (vec![1, 2, 3], before + 1));
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_done_without() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(get_or_make(Some(&file), "a.cubin", || Ok(vec![7])).unwrap(), [7]);
        assert_eq!(get_or_make(None, "a.cubin", || Ok(vec![7])).unwrap(), [7]);
        assert!(get_or_make(None, "a.cubin", || Err(TorchError("no".into()))).is_err());
    }

    #[test]
    fn names_tell_apart_what_kernels_are_made_of() {
        let names = [name("gate", &["ab", "c"]), name("gate", &["a", "bc"]), name("gate", &["ab"])];
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
        assert_eq!(names[0], name("gate", &["ab", "c"]));
        assert_eq!(names[0].split('-').next(), Some("gate"));
    }
}
