//! Clips cut into windows, so that every sample is predicted exactly once, from all that a network may see of the past.

/// A window of a clip: the network reads `start..to`, and predictions of `from..to` count.
///
/// What lies before a clip's start is nothing, in training as when speaking; inside a clip a window starts a receptive
/// field before `from`, so every prediction that counts sees what it would see of the whole clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Index of the clip.
    pub clip: usize,
    /// First sample that is read; a multiple of the hop.
    pub start: usize,
    /// First sample whose prediction counts.
    pub from: usize,
    /// End of both.
    pub to: usize,
}

/// Cuts clips of `lengths` into windows of about `window` samples that count, for a receptive field of `field` samples
/// and frames of `hop` samples (0 or 1: none).
///
/// # Panics
/// If `window` is 0.
pub fn windows(lengths: &[usize], window: usize, field: usize, hop: usize) -> Vec<Window> {
    assert!(window > 0, "a window has samples");
    let hop = hop.max(1);
    let mut all = Vec::new();
    for (clip, &len) in lengths.iter().enumerate() {
        let count = ((len + window / 2) / window).max(1);
        for part in 0..count {
            let (from, to) = (len * part / count, len * (part + 1) / count);
            let start = from.saturating_sub(field) / hop * hop;
            if from < to {
                all.push(Window { clip, start, from, to });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_counts_once_and_sees_a_whole_receptive_field() {
        let lengths = [1, 99, 100, 149, 151, 1000, 0];
        for hop in [0, 7] {
            let all = windows(&lengths, 100, 30, hop);
            for (clip, &len) in lengths.iter().enumerate() {
                let of_clip: Vec<_> = all.iter().filter(|it| it.clip == clip).collect();
                let counted: Vec<usize> = of_clip.iter().flat_map(|it| it.from..it.to).collect();
                assert_eq!(counted, (0..len).collect::<Vec<_>>());
                for it in of_clip {
                    assert!(it.start == 0 || it.start + 30 <= it.from);
                    assert!(it.start.is_multiple_of(hop.max(1)) && it.to - it.from <= 150);
                }
            }
        }
    }
}
