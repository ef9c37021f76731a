//! Ctrl-C: the step is finished, the state saved, the command to resume said. Twice: the end, at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// Whether someone has asked this process to stop.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the first SIGINT or SIGTERM sets a flag; a second one ends the process with code 130 or 143.
    ///
    /// Handlers stay for as long as the process lives: call it once, before training.
    ///
    /// # Errors
    /// When the system takes no handler.
    pub fn install() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag still down.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag))?;
            flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Whether a signal has come; to be asked after every step.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Lets the next signal be a first one, which is a request.
    pub fn allow(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Lets the next signal be a second one, which ends the process: nothing is going on that a request could stop.
    pub fn end_at_next(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_request_and_no_end() {
        let interrupt = Interrupt::install().unwrap();
        assert!(!interrupt.requested());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(interrupt.requested() && interrupt.clone().requested());
        // each answer of a conversation can be stopped anew
        interrupt.allow();
        assert!(!interrupt.requested());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(interrupt.requested());
        interrupt.allow();
        interrupt.end_at_next();
        assert!(interrupt.requested());
    }
}
