//! The commands of this crate, used by its own binary and by `chainrule gpt`. The only room that prints.
#![expect(clippy::print_stdout, reason = "results go to stdout, from here")]

mod prepare;
mod tokenize;

use anyhow::Result;
use clap::Subcommand;

/// What can be asked of the models of this crate. Without a command, the demo runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how a text is cut into tokens.
    Tokenize(tokenize::TokenizeArgs),
    /// Cut text into a file of tokens that training maps into memory.
    Prepare(prepare::PrepareArgs),
}

/// Carries out `command`, or the demo.
///
/// # Errors
/// Whatever kept the command from finishing, in one line.
pub fn run(command: Option<Command>) -> Result<()> {
    match command {
        Some(Command::Tokenize(args)) => tokenize::run(&args),
        Some(Command::Prepare(args)) => prepare::run(&args),
        None => anyhow::bail!("the command is missing; --help lists all"),
    }
}
