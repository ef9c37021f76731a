//! The workspace's shape, kept by tests rather than by memory.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::root;

const MAX_LINES: usize = 400;
/// Who may depend on whom; a crate that is not named here may depend on none of the others.
const EDGES: [(&str, &[&str]); 6] = [
    ("core-layers", &[]),
    ("pixelcnn", &["core-layers"]),
    ("wavenet", &["core-layers"]),
    ("vqvae", &["core-layers", "pixelcnn"]),
    ("gpt", &["core-layers"]),
    ("cli", &["core-layers", "pixelcnn", "wavenet", "vqvae", "gpt"]),
];
/// The modules of core-layers in which `unsafe` may stand.
const UNSAFE: [&str; 3] = ["kernels", "device", "checkpoint"];

/// Every Rust file below the crates and tests, with its text.
fn sources() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path.strip_prefix(root())?.display().to_string();
                found.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    Ok(found)
}

#[test]
fn dependencies_point_downwards() -> Result<()> {
    for entry in fs::read_dir(root().join("crates"))? {
        let folder = entry?.path();
        let name = folder.file_name().context("a crate has a name")?.to_string_lossy().into_owned();
        let (_, allowed) = EDGES.iter().find(|(from, _)| *from == name).context(name.clone())?;
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        ensure!(
            manifest.contains("[lints]\nworkspace = true"),
            "{name} does not take the workspace's lints"
        );
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for (other, _) in EDGES {
            let found =
                dependencies.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(other));
            ensure!(!found || allowed.contains(&other), "{name} must not depend on {other}");
        }
    }
    Ok(())
}

#[test]
fn samplers_do_not_know_training_and_models_know_no_files() -> Result<()> {
    for (name, text) in sources()? {
        let forbidden: &[&str] = match name.split('/').nth(3) {
            Some(room) if room.starts_with("sample") => &["crate::train", "crate::cli"],
            Some(room) if room.starts_with("model") => {
                &["crate::train", "crate::cli", "crate::data", "std::fs"]
            }
            Some(room) if room.starts_with("config") => &["tch::", "crate::model"],
            _ => continue,
        };
        let is_a_model = !name.contains("core-layers") && !name.contains("crates/cli");
        for word in forbidden {
            ensure!(!is_a_model || !text.contains(word), "{name} must not know {word}");
        }
    }
    Ok(())
}

#[test]
fn unsafe_code_stands_where_it_is_allowed() -> Result<()> {
    for (name, text) in sources()? {
        let allowed = UNSAFE
            .iter()
            .any(|module| name.starts_with(&format!("crates/core-layers/src/{module}")));
        let word = ["unsafe", " {"].concat();
        ensure!(allowed || !text.contains(&word), "{name} holds unsafe code");
    }
    Ok(())
}

#[test]
fn files_stay_readable() -> Result<()> {
    for (name, text) in sources()? {
        let lines = text.lines().count();
        ensure!(lines <= MAX_LINES, "{name} has {lines} lines, more than {MAX_LINES}");
    }
    Ok(())
}

#[test]
fn what_the_readme_shows_is_there() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
        ensure!(Path::new(&root()).join(link).exists(), "README.md points to {link}");
    }
    Ok(())
}
