//! Bayes' rule over the nats of a conditional model, and how sure a share is.

/// `log p(y | x)` of equally likely classes `y`, from `-log p(x | y)`, in nats.
pub fn posterior(nats: &[f64]) -> Vec<f64> {
    let log_probs: Vec<f64> = nats.iter().map(|nats| -nats).collect();
    let evidence = log_sum_exp(&log_probs);
    log_probs.iter().map(|log_prob| log_prob - evidence).collect()
}

/// `-log p(x)` with the class unknown: `-log mean_y p(x | y)`, from `-log p(x | y)`, in nats.
pub fn marginal(nats: &[f64]) -> f64 {
    let log_probs: Vec<f64> = nats.iter().map(|nats| -nats).collect();
    (nats.len() as f64).ln() - log_sum_exp(&log_probs)
}

fn log_sum_exp(xs: &[f64]) -> f64 {
    let greatest = xs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    greatest + xs.iter().map(|x| (x - greatest).exp()).sum::<f64>().ln()
}

/// Share of successes and its 95 % interval, lower and upper end (Wilson, 1927).
pub fn wilson(successes: usize, trials: usize) -> (f64, f64, f64) {
    let (n, z) = (trials as f64, 1.959_964);
    let share = successes as f64 / n;
    let centre = (share + z * z / (2. * n)) / (1. + z * z / n);
    let half = z / (1. + z * z / n) * (share * (1. - share) / n + z * z / (4. * n * n)).sqrt();
    (share, centre - half, centre + half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bayes_turns_nats_into_probabilities() {
        let posterior = posterior(&[1000., 1000. + 3f64.ln()]);
        assert!((posterior[0].exp() - 0.75).abs() < 1e-12);
        assert!((posterior[1].exp() - 0.25).abs() < 1e-12);
        let marginal = marginal(&[1000., 1000. + 3f64.ln()]);
        assert!((marginal - (1000. - (2f64 / 3.).ln())).abs() < 1e-9);
    }

    #[test]
    fn the_interval_holds_the_share() {
        let (share, low, high) = wilson(90, 100);
        assert!((share - 0.9).abs() < 1e-12);
        assert!((low - 0.8256).abs() < 1e-3 && (high - 0.9448).abs() < 1e-3, "{low} {high}");
    }
}
