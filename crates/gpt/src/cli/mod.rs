//! The commands of this crate, used by its own binary and by `chainrule gpt`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod chat;
mod explain;
mod generate;
mod voice;

use anyhow::Result;
use clap::Subcommand;

/// What can be asked of the models of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {}

/// Carries out `command`, or the demo.
///
/// # Errors
/// Whatever kept the command from finishing, in one line.
pub fn run(command: Option<Command>) -> Result<()> {
    println!("{command:?}");
    Ok(())
}
