//! How a program ends: one line on what went wrong, and a status that says of which kind it was.

use std::{
    io::{self, Write as _},
    panic,
    process::ExitCode,
};

use crate::ConfigError;

/// How `println!` panics where stdout is closed or full; a reason follows.
const STDOUT: &str = "failed printing to stdout";

/// A run that was asked to stop and did, in order.
#[derive(Debug, thiserror::Error)]
#[error("stopped at step {step}; type {resume} to go on")]
pub struct Interrupted {
    /// Steps taken.
    pub step: u64,
    /// The command that goes on from there.
    pub resume: String,
}

/// Runs a program: `Ok` is status 0; an error is one line on stderr and status 2 where a configuration or flag was wrong,
/// 130 where it was interrupted, 1 otherwise. A panic becomes such a line too, with its place where `RUST_BACKTRACE` is set.
pub fn main(program: impl FnOnce() -> anyhow::Result<()> + panic::UnwindSafe) -> ExitCode {
    panic::set_hook(Box::new(|_| {}));
    let backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|it| it != "0");
    if backtrace {
        panic::set_hook(Box::new(|info| {
            if !info.payload_as_str().is_some_and(|text| text.starts_with(STDOUT)) {
                say(&format!("{info}\n{}", std::backtrace::Backtrace::force_capture()));
            }
        }));
    }
    let (line, status) = match panic::catch_unwind(program) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => {
            // a reader that had enough (`| head`) is no error
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|it| it.kind() == io::ErrorKind::BrokenPipe)
            {
                return ExitCode::SUCCESS;
            }
            let status = if error.is::<Interrupted>() {
                130
            } else if error
                .chain()
                .any(|cause| cause.is::<ConfigError>() || cause.is::<clap::Error>())
            {
                2
            } else {
                1
            };
            (one_line(&format!("{error:#}")), status)
        }
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            match text.strip_prefix(STDOUT) {
                Some(reason) if reason.contains("Broken pipe") => return ExitCode::SUCCESS,
                Some(reason) => (format!("stdout{}", one_line(reason)), 1),
                None => (format!("internal: {}", one_line(text)), 1),
            }
        }
    };
    say(&format!("error: {line}"));
    ExitCode::from(status)
}

/// The first line, without what follows it.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown").to_owned()
}

fn say(line: &str) {
    // nothing is left to be done where stderr is closed
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_its_first_line() {
        assert_eq!(one_line("\n shape mismatch\nException raised from ..."), "shape mismatch");
        assert_eq!(one_line(""), "unknown");
    }
}
