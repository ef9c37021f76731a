//! MNIST, 28 x 28 grey levels, as laid by `scripts/fetch mnist`: 50,000 to train, 10,000 to validate, 10,000 to test,
//! in the original order.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use core_layers::{
    dataset::{FileDigest, Split},
    fetched,
    npy::Npy,
};

use super::dataset::Source;
use super::{DataConfig, Images, npy};

const SIDE: u32 = 28;

/// MNIST from the fetched folder.
pub(super) fn read(config: &DataConfig) -> Result<Source> {
    config.ensure_side(SIDE)?;
    from_folder(&fetched::folder("mnist")?)
}

fn from_folder(folder: &Path) -> Result<Source> {
    let mut files = Vec::new();
    let mut splits = Vec::new();
    for split in Split::ALL {
        let [levels, labels] =
            ["levels", "labels"].map(|what| format!("{}-{what}.npy", split.name()));
        let mut open = |name: &str| -> Result<Npy> {
            let npy = Npy::open(&folder.join(name))?;
            files.push(FileDigest::new(name, npy.content()));
            Ok(npy)
        };
        let (pixels, classes) = (open(&levels)?, open(&labels)?);
        let images = npy::images(&pixels)?;
        let shape = images.shape();
        ensure!(
            shape[1..] == [28, 28, 1],
            "{levels}: its shape is {shape:?}, but must be [N, 28, 28, 1]"
        );
        ensure!(images.iter().all(|&level| level < 256), "{levels}: a level is above 255");
        let labels = npy::labels(&classes, shape[0], 10)?;
        splits.push(Images::new(images, Some(labels)));
    }
    let counts: Vec<String> = splits.iter().map(|images| images.len().to_string()).collect();
    let splits = splits.try_into().ok().context("three splits")?;
    Ok(Source {
        name: "mnist".into(),
        num_levels: 256,
        label_names: (0..10).map(|digit| digit.to_string()).collect(),
        rule: format!(
            "MNIST, 28x28 grey, {} to train, validate and test in the original order",
            counts.join(", ")
        ),
        splits,
        files,
        decoder: "npy/1",
        texture: None,
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, Array1, Array4};
    use ndarray_npy::WriteNpyExt;

    use super::super::write_npy;
    use super::*;

    #[test]
    fn six_files_make_the_set_and_a_wrong_one_is_named() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for (n, split) in Split::ALL.into_iter().enumerate() {
            let path = |what: &str| folder.path().join(format!("{}-{what}.npy", split.name()));
            write_npy(&path("levels"), Array4::from_elem((n + 2, 28, 28, 1), 255).view())?;
            let labels: Array1<u8> = Array::from_elem(n + 2, 9);
            labels.write_npy(std::fs::File::create(path("labels"))?)?;
        }
        let source = from_folder(folder.path())?;
        assert_eq!(source.splits.iter().map(Images::len).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(source.rule.contains("2, 3, 4 to train, validate and test"), "{}", source.rule);

        write_npy(
            &folder.path().join("valid-levels.npy"),
            Array4::from_elem((3, 28, 28, 1), 256).view(),
        )?;
        let refusal = format!("{:#}", from_folder(folder.path()).err().unwrap());
        assert_eq!(refusal, "valid-levels.npy: a level is above 255");
        Ok(())
    }
}
