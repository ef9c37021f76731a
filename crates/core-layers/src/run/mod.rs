//! What a training run leaves on the disk and shows while it lasts.
//!
//! [`RunFolder`] belongs to one process at a time; [`Metrics`] are its figures over time; [`Interrupt`] asks the loop to
//! stop after the step; [`Progress`] and [`Ticker`] are for whoever watches.

mod events;
mod exit;
mod interrupt;
mod metrics;
mod progress;
mod ticker;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

pub use exit::{Interrupted, main};
pub use interrupt::Interrupt;
pub use metrics::Metrics;
pub use progress::Progress;
pub use ticker::Ticker;

use crate::checkpoint::UNFINISHED;

/// The configuration of a run, as JSON.
pub const CONFIG: &str = "config.json";
/// One JSON object a report.
pub const METRICS: &str = "metrics.jsonl";
/// The best weights so far: all that evaluation and sampling need.
pub const MODEL: &str = "model.safetensors";
/// The last state: all that resuming needs.
pub const LAST: &str = "last.safetensors";
/// Its lock is held by the process that trains; its presence marks a folder as a run.
const LOCK: &str = ".lock";

/// The checkpoint that a user means: the file itself, or the best weights of a run folder.
pub fn model_file(model: &Path) -> PathBuf {
    if model.is_dir() { model.join(MODEL) } else { model.to_owned() }
}

/// A folder that cannot be trained in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A run that would be overwritten without having been asked to.
    #[error("{0}: holds a run already; --resume {0} continues it, --overwrite deletes it")]
    Exists(String),
    /// A folder that was not made by a run, and is not to be deleted.
    #[error("{0}: holds files, but no run; --out needs a new or empty folder")]
    Foreign(String),
    /// Nothing to continue.
    #[error("{0}: no such run")]
    Missing(String),
    /// Two trainers would write the same files.
    #[error("{path}: another process is training here{who}")]
    Locked {
        /// The folder.
        path: String,
        /// Its process number where it is known: " (process 123)".
        who: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl RunError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.display().to_string(), source }
    }
}

/// The folder of one run, locked for this process until the value is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// A folder for a new run. With `overwrite`, a run that it holds is deleted first.
    ///
    /// # Errors
    /// When it holds a run and `overwrite` is off, holds anything else, is in use, or cannot be made.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, RunError> {
        fs::create_dir_all(path).map_err(RunError::io(path))?;
        let entries = fs::read_dir(path).map_err(RunError::io(path))?;
        let empty = entries.flatten().all(|entry| entry.file_name() == LOCK);
        if !empty && !path.join(LOCK).exists() {
            return Err(RunError::Foreign(path.display().to_string()));
        }
        if !empty && !overwrite {
            return Err(RunError::Exists(path.display().to_string()));
        }
        let run = Self::lock(path)?;
        run.delete(|name| name != LOCK)?;
        Ok(run)
    }

    /// The folder of a run to continue; unfinished files of a killed process are deleted.
    ///
    /// # Errors
    /// When there is no such run, another process trains in it, or it cannot be written.
    pub fn resume(path: &Path) -> Result<Self, RunError> {
        if !path.join(CONFIG).is_file() {
            return Err(RunError::Missing(path.display().to_string()));
        }
        let run = Self::lock(path)?;
        run.delete(|name| name.starts_with('.') && name.ends_with(UNFINISHED))?;
        Ok(run)
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn lock(path: &Path) -> Result<Self, RunError> {
        let name = path.join(LOCK);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&name);
        let mut lock = open.map_err(RunError::io(&name))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let process = lock
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse::<u32>().ok());
                let who = process.map_or(String::new(), |id| format!(" (process {id})"));
                return Err(RunError::Locked { path: path.display().to_string(), who });
            }
            Err(TryLockError::Error(error)) => return Err(RunError::io(&name)(error)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(RunError::io(&name))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    fn delete(&self, which: impl Fn(&str) -> bool) -> Result<(), RunError> {
        for entry in fs::read_dir(&self.path).map_err(RunError::io(&self.path))? {
            let entry = entry.map_err(RunError::io(&self.path))?;
            if !which(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            let is_folder = entry.file_type().map_err(RunError::io(&path))?.is_dir();
            let deleted =
                if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            deleted.map_err(RunError::io(&path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_run_is_overwritten_only_when_asked_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/digits");
        let run = RunFolder::create(&path, false).unwrap();
        fs::write(run.file(CONFIG), "{}").unwrap();
        fs::create_dir(run.file("samples")).unwrap();
        drop(run);
        let message = RunFolder::create(&path, false).unwrap_err().to_string();
        assert!(message.contains("--resume") && message.contains("--overwrite"), "{message}");
        assert_eq!(names(&path), [".lock", "config.json", "samples"]);
        drop(RunFolder::create(&path, true).unwrap());
        assert_eq!(names(&path), [".lock"]);
    }

    #[test]
    fn a_folder_that_no_run_made_is_never_deleted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "text").unwrap();
        let message = RunFolder::create(folder.path(), true).unwrap_err().to_string();
        assert!(message.contains("no run"), "{message}");
        assert_eq!(names(folder.path()), ["thesis.tex"]);
    }

    #[test]
    fn a_model_is_named_by_its_file_or_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(MODEL);
        assert_eq!(model_file(folder.path()), file);
        assert_eq!(model_file(&file), file);
    }

    #[test]
    fn a_second_trainer_is_refused_until_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunFolder::create(folder.path(), false).unwrap();
        fs::write(first.file(CONFIG), "{}").unwrap();
        for second in [RunFolder::resume(folder.path()), RunFolder::create(folder.path(), true)] {
            let message = second.unwrap_err().to_string();
            let process = std::process::id().to_string();
            assert!(message.contains("another process") && message.contains(&process), "{message}");
        }
        assert!(first.file(CONFIG).exists(), "a refused trainer deletes nothing");
        drop(first);
        assert!(RunFolder::resume(folder.path()).is_ok());
    }

    #[test]
    fn resuming_needs_a_run_and_sweeps_up_unfinished_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(RunFolder::resume(folder.path()), Err(RunError::Missing(_))));
        let run = RunFolder::create(folder.path(), false).unwrap();
        fs::write(run.file(CONFIG), "{}").unwrap();
        fs::write(run.file(&format!(".model.safetensors.x1{UNFINISHED}")), "half").unwrap();
        drop(run);
        drop(RunFolder::resume(folder.path()).unwrap());
        assert_eq!(names(folder.path()), [".lock", "config.json"]);
    }
}
