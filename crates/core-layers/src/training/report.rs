//! What a training loop says while it lasts and when it ends.

use std::{f64::consts::LN_2, path::Path};

use anyhow::Context as _;

use crate::{
    likelihood::Likelihood,
    run::{Interrupt, Interrupted, Progress},
};

/// What a run says while it lasts.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The steps up to this one were taken by an earlier run.
    Resumed {
        /// Steps taken.
        step: u64,
    },
    /// Training loss, averaged over the steps since the last report.
    Step {
        /// Steps taken.
        step: u64,
        /// Mean training loss in bits per dimension.
        bits_per_dim: f64,
    },
    /// The same where the loss is counted in something else: what to show, with its unit.
    Text {
        /// Steps taken.
        step: u64,
        /// One short line.
        text: String,
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

impl Report {
    /// A warning where validation is below what is possible by more than four standard errors (known of two examples or
    /// more): then the model sees what it predicts. `entropy_nats` is that of one dimension of the data.
    pub fn leak(valid: &Likelihood, entropy_nats: f64) -> Option<Self> {
        let (found, floor) = (valid.bits_per_dim, entropy_nats / LN_2);
        (found + 4. * valid.bits_per_dim_se? < floor).then(|| {
            Self::Warning(format!(
                "validation is at {found:.4} bits per dimension, below the data's entropy of {floor:.4}: does the model see what it predicts?"
            ))
        })
    }
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
            Report::Resumed { step } => self.progress.start_from(step),
            Report::Step { step, bits_per_dim } => {
                let best = &self.best;
                self.progress.update(step, &format!("train {bits_per_dim:.4} bits/dim{best}"));
            }
            Report::Text { step, text } => self.progress.update(step, &text),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::Tally;

    #[test]
    fn a_loss_below_the_entropy_is_a_leak_and_one_near_it_is_not() {
        let mut tally = Tally::default();
        tally.add([9.8, 10., 10.2]);
        let valid = tally.likelihood(10); // 1 nat a dimension, +- 0.012
        assert_eq!(Report::leak(&valid, 1.02), None);
        let Some(Report::Warning(line)) = Report::leak(&valid, 1.1) else { panic!("no warning") };
        assert!(line.contains("at 1.4427 bits per dimension"), "{line}");
    }
}
