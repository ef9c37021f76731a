//! A progress bar that threads share, gone when it is dropped.

use std::sync::Mutex;

use super::Progress;

/// Progress that is ticked from many threads; its last line is left when it is dropped.
#[derive(Debug)]
pub struct Ticker(Mutex<(Option<Progress>, u64)>);

impl Ticker {
    /// Progress from 0 to `total`; shows nothing when `quiet`.
    pub fn new(label: &str, total: usize, quiet: bool) -> Self {
        Self(Mutex::new((Some(Progress::new(label, 0, total as u64, quiet)), 0)))
    }

    /// `count` more are done.
    pub fn tick(&self, count: usize) {
        if let Ok(mut shared) = self.0.lock() {
            shared.1 += count as u64;
            let done = shared.1;
            if let Some(progress) = &mut shared.0 {
                progress.update(done, "");
            }
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Ok(mut shared) = self.0.lock()
            && let Some(progress) = shared.0.take()
        {
            progress.finish();
        }
    }
}
