//! Where results go, looked at before minutes of work are done for them.

use std::path::Path;

use crate::ConfigError;

/// Refuses a path that no file can be written to: a folder, or one in a folder that is not there or not writable.
///
/// # Errors
/// [`ConfigError`] naming `flag` and the path.
pub fn ensure_file(flag: &str, path: &Path) -> Result<(), ConfigError> {
    let refuse = |rule: String| ConfigError::new(flag, path.display(), rule);
    if path.is_dir() || path.file_name().is_none() {
        return Err(refuse("a file, not a folder".into()));
    }
    let folder = parent(path);
    if !folder.is_dir() {
        return Err(refuse(format!("in a folder that is there, not {}", folder.display())));
    }
    try_writing(folder).map_err(|error| refuse(format!("in a folder to write to: {error}")))
}

/// Refuses a path that is one of the files that are read, which would be lost.
///
/// # Errors
/// [`ConfigError`] naming `flag` and the path.
pub fn ensure_apart<P: AsRef<Path>>(
    flag: &str,
    path: &Path,
    inputs: &[P],
) -> Result<(), ConfigError> {
    let place = path.canonicalize().ok();
    let is_apart =
        place.is_none() || inputs.iter().all(|it| it.as_ref().canonicalize().ok() != place);
    ConfigError::ensure(is_apart, flag, path.display(), "a file other than those that are read")
}

/// [`ensure_file`] for a picture, which is written as PNG whatever its name says.
///
/// # Errors
/// As [`ensure_file`], and for a name that does not end in `.png`.
pub fn ensure_png(flag: &str, path: &Path) -> Result<(), ConfigError> {
    ensure_file(flag, path)?;
    let is_png = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
    ConfigError::ensure(
        is_png,
        flag,
        path.display(),
        "a name that ends in .png, as what is written",
    )
}

/// Refuses a path that is no folder and that none can be made at.
///
/// # Errors
/// [`ConfigError`] naming `flag` and the path.
pub fn ensure_folder(flag: &str, path: &Path) -> Result<(), ConfigError> {
    let refuse = |rule: String| ConfigError::new(flag, path.display(), rule);
    let mut there = path;
    while !there.exists() && there != Path::new(".") {
        there = parent(there);
    }
    if !there.is_dir() {
        return Err(refuse(format!("a folder, but {} is a file", there.display())));
    }
    try_writing(there).map_err(|error| refuse(format!("a folder to write to: {error}")))
}

/// The folder a path lies in; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file in `folder` and removes it again.
fn try_writing(folder: &Path) -> std::io::Result<()> {
    let made = tempfile::tempfile_in(folder);
    made.map(drop).map_err(|error| error.kind().into()) // without the name of the file that was tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_cannot_be_written_to_is_refused_with_its_flag() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "")?;
        for good in ["x.png", "file"] {
            ensure_file("--out", &path(good))?;
        }
        for good in ["", "new", "new/er"] {
            ensure_folder("--out", &path(good))?;
        }
        ensure_file("--out", Path::new("bare-name.png"))?;
        ensure_png("--out", &path("x.PNG"))?;
        let refusal = |result: Result<(), ConfigError>| {
            let line = result.unwrap_err().to_string();
            assert!(line.starts_with("--out is /") && !line.contains('\n'), "{line}");
            line.split(", but must be ").nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(refusal(ensure_file("--out", folder.path())), "a file, not a folder");
        let line = refusal(ensure_file("--out", &path("none/x.png")));
        assert!(line.starts_with("in a folder that is there, not /"), "{line}");
        assert!(refusal(ensure_file("--out", &path("file/x.png"))).starts_with("in a folder that"));
        for bad in ["x.jpg", "x"] {
            let line = refusal(ensure_png("--out", &path(bad)));
            assert!(line.starts_with("a name that ends in .png"), "{line}");
        }
        assert!(refusal(ensure_folder("--out", &path("file"))).starts_with("a folder, but /"));
        assert!(refusal(ensure_folder("--out", &path("file/x"))).ends_with("file is a file"));
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1, "nothing is left behind");
        Ok(())
    }

    #[test]
    fn what_is_read_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let [file, other] = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&file, "kept").unwrap();
        let roundabout = folder.path().join(".").join("a");
        assert!(ensure_apart("--out", &other, &[&file]).is_ok());
        let line = ensure_apart("--out", &roundabout, &[&other, &file]).unwrap_err().to_string();
        assert!(line.ends_with("but must be a file other than those that are read"), "{line}");
    }
}
