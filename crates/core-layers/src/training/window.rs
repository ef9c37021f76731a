//! Means over the steps since the last report.

use std::time::Instant;

/// Losses, norms and examples of the steps since it was made.
#[derive(Debug)]
pub struct Window {
    start: Instant,
    losses: Vec<f64>,
    norm: f64,
    examples: usize,
}

impl Default for Window {
    /// Of no steps, from now on.
    fn default() -> Self {
        Self { start: Instant::now(), losses: Vec::new(), norm: 0., examples: 0 }
    }
}

impl Window {
    /// Takes in a step: its loss, the norm of its gradient, its examples.
    pub fn add(&mut self, loss: f64, norm: f64, examples: usize) {
        self.losses.push(loss);
        self.norm = norm;
        self.examples += examples;
    }

    /// Mean loss of a step, in the unit of the losses; not a number before the first.
    pub fn mean_loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    /// Norm of the last gradient.
    pub fn last_norm(&self) -> f64 {
        self.norm
    }

    /// Examples of all steps.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// Examples per second.
    pub fn rate(&self) -> f64 {
        self.examples as f64 / self.start.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_averaged_and_examples_counted() {
        let mut window = Window::default();
        window.add(1., 5., 2);
        window.add(2., 3., 2);
        assert_eq!((window.mean_loss(), window.last_norm(), window.examples()), (1.5, 3., 4));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(window.rate() > 0. && window.rate() < 4. / 0.02);
    }
}
