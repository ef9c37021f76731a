//! What a training loop says while it lasts and when it ends.

use crate::{likelihood::Likelihood, run::Progress};

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

/// Reports on a progress bar, in bits per dimension.
#[derive(Debug)]
pub struct ReportBar {
    progress: Progress,
    best: String,
}

impl ReportBar {
    /// A bar over all the steps of a run; shows nothing when `quiet`.
    pub fn new(label: &str, num_steps: u64, quiet: bool) -> Self {
        Self { progress: Progress::new(label, 0, num_steps, quiet), best: String::new() }
    }

    /// Shows a report.
    pub fn show(&mut self, report: Report) {
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

    /// Leaves one last line.
    pub fn finish(self) {
        self.progress.finish();
    }
}
