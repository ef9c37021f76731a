//! What the workspace as a whole promises.

mod architecture; // who may depend on whom, where unsafe code may stand, how long files may be
mod codes; // VQ-VAE: stages, ties, refusals
mod faults; // wrong input, interrupted and killed runs: one line, nothing lost
mod language; // GPT: verbs, formats, engines, refusals
mod learning; // known entropies, overfitting, resuming
mod refusals; // what cannot come to a good end, said at once
mod sound; // the same of WaveNet

mod verbs; // what a user types and sees

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file that version 1 wrote.
fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/v1").join(name)
}

/// The binary on a family's command, with one thread.
fn chainrule(family: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainrule"));
    command.arg(family).args(args).env("OMP_NUM_THREADS", "1").env("RUST_BACKTRACE", "0");
    command
}

/// Runs a command, which must succeed; returns what it printed.
fn succeed_at(family: &str, args: &[&str]) -> String {
    let output = chainrule(family, args).output().expect("the binary runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("stdout is text")
}

/// Runs a command, which must fail with this status and one line; returns the line.
fn fail_at(family: &str, args: &[&str], status: i32) -> String {
    let output = chainrule(family, args).output().expect("the binary runs");
    let line = String::from_utf8(output.stderr).expect("stderr is text");
    assert_eq!(output.status.code(), Some(status), "{args:?}: {line}");
    assert!(
        line.starts_with("error: ") && line.trim_end().lines().count() == 1,
        "{args:?}: {line}"
    );
    line
}

/// [`chainrule`] on pixelcnn, run.
fn run(args: &[&str]) -> Output {
    chainrule("pixelcnn", args).output().expect("the binary runs")
}

/// [`succeed_at`] pixelcnn.
fn succeed(args: &[&str]) -> String {
    succeed_at("pixelcnn", args)
}

/// [`fail_at`] pixelcnn.
fn fail(args: &[&str], status: i32) -> String {
    fail_at("pixelcnn", args, status)
}

/// A path as a flag's value.
fn text(path: &Path) -> &str {
    path.to_str().expect("a path of a test is text")
}
