//! Where `scripts/fetch` lays the data sets that are too large to embed.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder with the data of a fetched set: `datasets/NAME/data`, where `datasets` is the environment variable
/// `CHAINRULE_DATASETS`, or else the nearest one from the current directory upwards that has it.
///
/// # Errors
/// One line that says what to type, when the set was not fetched.
pub fn folder(name: &str) -> Result<PathBuf> {
    let roots = if let Some(root) = env::var_os("CHAINRULE_DATASETS") {
        vec![PathBuf::from(root)]
    } else {
        let here = env::current_dir().context("the current directory")?;
        here.ancestors().map(|folder| folder.join("datasets")).collect()
    };
    within(&roots, name)
}

fn within(roots: &[PathBuf], name: &str) -> Result<PathBuf> {
    let data = |root: &PathBuf| root.join(name).join("data");
    match roots.iter().map(data).find(|folder| Path::is_dir(folder)) {
        Some(folder) => Ok(folder),
        None => bail!("datasets/{name}/data: not found; type: scripts/fetch {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_was_not_fetched_says_what_to_type() -> Result<()> {
        let root = tempfile::tempdir()?;
        let refusal = within(&[root.path().into()], "mnist").unwrap_err().to_string();
        assert_eq!(refusal, "datasets/mnist/data: not found; type: scripts/fetch mnist");
        std::fs::create_dir_all(root.path().join("mnist/data"))?;
        assert!(within(&["nowhere".into(), root.path().into()], "mnist")?.starts_with(root.path()));
        Ok(())
    }
}
