//! What a training loop says while it lasts and when it ends.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    likelihood::Likelihood,
    run::{Interrupt, Interrupted, Progress},
};

/// What a run says while it lasts.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Training loss, averaged over the steps since the last report.
    Step {
        /// Steps taken.
        step: u64,
        /// Mean training loss in bits per dimension.
        bits_per_dim: f64,
    },
    /// Validation by the weights that evaluation uses; the state has been saved.
    Saved {
        /// Steps taken.
        step: u64,
        /// What validation came to.
        valid: Likelihood,
        /// Whether it is the best so far, and now `model.safetensors`.
        is_best: bool,
    },
    /// Something that a person should know.
    Warning(String),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All its steps were taken.
    Finished,
    /// It was asked to stop, and can be resumed.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

impl Ending {
    /// An error where the run can be resumed: by `program train --resume PATH`.
    ///
    /// # Errors
    /// [`Interrupted`] for [`Ending::Stopped`].
    pub fn finished(self, program: &str, path: &Path) -> Result<(), Interrupted> {
        match self {
            Self::Finished => Ok(()),
            Self::Stopped { step } => {
                let resume = format!("`{program} train --resume {}`", path.display());
                Err(Interrupted { step, resume })
            }
        }
    }
}

/// Calls `train` with what asks whether to stop (Ctrl-C) and what takes its reports, which go to a progress bar over
/// `num_steps` (none when `quiet`).
///
/// # Errors
/// Whatever `train` says, and signals that cannot be handled.
pub fn watch(
    label: &str,
    num_steps: u64,
    quiet: bool,
    train: impl FnOnce(&dyn Fn() -> bool, &mut dyn FnMut(Report)) -> anyhow::Result<Ending>,
) -> anyhow::Result<Ending> {
    let interrupt = Interrupt::install().context("installing signal handlers")?;
    let mut bar = ReportBar::new(label, num_steps, quiet);
    let ending = train(&|| interrupt.requested(), &mut |report| bar.show(report))?;
    bar.progress.finish();
    Ok(ending)
}

/// Reports on a progress bar, in bits per dimension.
#[derive(Debug)]
struct ReportBar {
    progress: Progress,
    best: String,
}

impl ReportBar {
    fn new(label: &str, num_steps: u64, quiet: bool) -> Self {
        Self { progress: Progress::new(label, 0, num_steps, quiet), best: String::new() }
    }

    fn show(&mut self, report: Report) {
        match report {
            Report::Step { step, bits_per_dim } => {
                let best = &self.best;
                self.progress.update(step, &format!("train {bits_per_dim:.4} bits/dim{best}"));
            }
            Report::Saved { step, valid, is_best } => {
                if is_best {
                    self.best = format!(", valid {:.4}", valid.bits_per_dim);
                }
                self.progress.update(step, &format!("valid {:.4} bits/dim", valid.bits_per_dim));
            }
            Report::Warning(line) => self.progress.note(&format!("warning: {line}")),
        }
    }
}
