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
    (share, (centre - half).max(0.), (centre + half).min(1.))
}

/// Index of the greatest; the last of equals, 0 of none.
pub fn likeliest(log_probs: &[f64]) -> usize {
    (0..log_probs.len()).max_by(|&a, &b| log_probs[a].total_cmp(&log_probs[b])).unwrap_or(0)
}

/// Examples given to their likeliest class.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// Examples of each class (rows) that were taken for each (columns).
    pub confusion: Vec<Vec<usize>>,
    /// Mean `-log p(y | x)` of the true classes, nats.
    pub label_nats: f64,
}

impl Classified {
    /// From `-log p(x | y)` of every example and class, and the true classes.
    ///
    /// # Panics
    /// If a class has no nats.
    pub fn new(nats: &[Vec<f64>], labels: &[u32], num_classes: usize) -> Self {
        let mut confusion = vec![vec![0; num_classes]; num_classes];
        let mut label_nats = 0.;
        for (nats, &label) in nats.iter().zip(labels) {
            let posterior = posterior(nats);
            confusion[label as usize][likeliest(&posterior)] += 1;
            label_nats -= posterior[label as usize];
        }
        Self { confusion, label_nats: label_nats / labels.len() as f64 }
    }

    /// Examples.
    pub fn count(&self) -> usize {
        self.confusion.iter().flatten().sum()
    }

    /// Examples that were given to their own class.
    pub fn right(&self) -> usize {
        self.confusion.iter().enumerate().map(|(class, row)| row[class]).sum()
    }

    /// Share of right ones and its 95 % interval, see [`wilson`].
    pub fn accuracy(&self) -> (f64, f64, f64) {
        wilson(self.right(), self.count())
    }

    /// The confusion as lines of text, a name and a row each.
    pub fn table(&self, names: &[String]) -> String {
        let row = |(name, row): (&String, &Vec<usize>)| {
            let counts: Vec<String> = row.iter().map(|count| format!("{count:6}")).collect();
            format!("{name:>12}{}", counts.concat())
        };
        names.iter().zip(&self.confusion).map(row).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_counted_by_what_they_were_taken_for() {
        let nats = [vec![1., 2.], vec![3., 1.], vec![1., 5.]];
        let classified = Classified::new(&nats, &[0, 1, 1], 2);
        assert_eq!(classified.confusion, [[1, 0], [1, 1]]);
        assert_eq!((classified.right(), classified.count()), (2, 3));
        let nats: f64 = [1., 2., 4.].iter().map(|gap: &f64| (-gap).exp().ln_1p()).sum();
        assert!((classified.label_nats - (nats + 4.) / 3.).abs() < 1e-12);
        let names = ["a", "b"].map(str::to_owned);
        assert_eq!(classified.table(&names), "           a     1     0\n           b     1     1");
    }

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
        for trials in 1..50 {
            assert!(wilson(0, trials).1 >= 0. && wilson(trials, trials).2 <= 1., "{trials}");
        }
    }
}
