//! Files that are either the old ones or the new ones, never halves.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::CheckpointError;

/// How names of unfinished files end; what a killed process left behind may be deleted.
pub const UNFINISHED: &str = ".unfinished";

/// Writes `bytes` to `path`: all of them or none, also when the machine stops in between.
///
/// # Errors
/// When the file cannot be written; what was there before is still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    replace(path, |file| file.write_all(bytes))
}

/// Lets `write` fill a file that takes the place of `path` once it is whole and on the disk.
///
/// A temporary file beside it is written, synced and renamed, and the folder synced; a symbolic link is followed.
///
/// # Errors
/// When the file cannot be written; what was there before is still there.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    try_replace(path, write).map_err(|error| CheckpointError::write(path, &error))
}

fn try_replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        Ok(target) if target.is_file() => target,
        // Renaming over a device or a pipe would destroy it.
        Ok(_) => return Err(io::Error::other("it exists and is no ordinary file")),
        Err(_) => path.to_owned(),
    };
    let folder = folder_of(&target);
    let name = target.file_name().ok_or_else(|| io::Error::other("it has no file name"))?;
    let mut temporary = tempfile::Builder::new()
        .prefix(&format!(".{}.", name.to_string_lossy()))
        .suffix(UNFINISHED)
        .permissions(Permissions::from_mode(0o666)) // less the umask, as for any new file
        .tempfile_in(&folder)?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    write(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    File::open(&folder)?.sync_all() // the rename itself
}

/// The folder a file lies in; `.` for a bare name.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        write_atomic(&path, b"first, and longer").unwrap();
        write_atomic(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names_in(folder.path()), ["config.json"]);
    }

    #[test]
    fn a_writer_that_fails_half_way_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_atomic(&path, b"old").unwrap();
        let full = replace(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(
            full.unwrap_err().to_string(),
            format!("{}: cannot be written: the disk is full", path.display())
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names_in(folder.path()), ["model.safetensors"]);
    }

    #[test]
    fn what_is_no_ordinary_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let message = write_atomic(folder.path(), b"x").unwrap_err().to_string();
        assert!(message.ends_with("it exists and is no ordinary file"), "{message}");
        assert!(folder.path().is_dir());
        let message =
            write_atomic(&folder.path().join("no/such/file"), b"x").unwrap_err().to_string();
        assert!(message.contains("no/such/file: cannot be written: "), "{message}");
    }

    #[test]
    fn a_link_keeps_pointing_to_the_file_that_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("best"), folder.path().join("link"));
        write_atomic(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomic(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(link.is_symlink());
    }
}
