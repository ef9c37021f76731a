//! How a file is cut into parts, a function of its length alone.

/// Tokens for which another part pays: a part costs what its first tokens would have taken from those before it.
const PART: usize = 1 << 14;
/// Parts at the most.
const MAX_PARTS: usize = 64;
/// Parts for which another stream pays, which another thread can work on: weights are read once for all parts of a stream.
const PARTS_PER_STREAM: usize = 4;
/// Streams at the most.
const MAX_STREAMS: usize = 4;

/// Parts of a file, each a text of its own, and streams, each of some of the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// Tokens of each part; they differ by one at the most.
    pub(super) lengths: Vec<usize>,
    /// Parts of each stream.
    pub(super) streams: Vec<usize>,
}

impl Parts {
    /// Of a file of `tokens`.
    pub(super) fn of(tokens: usize) -> Self {
        let parts = (tokens / PART).clamp(1, MAX_PARTS);
        let streams = (parts / PARTS_PER_STREAM).clamp(1, MAX_STREAMS);
        Self { lengths: shares(tokens, parts), streams: shares(parts, streams) }
    }

    /// Tokens of the longest part.
    pub(super) fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }
}

/// `total` in `count` shares that differ by one at the most, the larger ones first, so that parts side by side end together.
fn shares(total: usize, count: usize) -> Vec<usize> {
    (0..count).map(|i| total / count + usize::from(i < total % count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_streams_hold_every_token_once() {
        for tokens in [0, 1, PART - 1, PART, 2 * PART + 1, 17 * PART + 5, 1000 * PART + 63] {
            let parts = Parts::of(tokens);
            assert_eq!(parts.lengths.iter().sum::<usize>(), tokens);
            assert_eq!(parts.streams.iter().sum::<usize>(), parts.lengths.len());
            assert!(parts.lengths.iter().all(|&it| parts.longest() - it <= 1), "{tokens}");
        }
    }

    #[test]
    fn short_files_are_one_part_and_long_ones_are_many() {
        let counts = [0, PART, 2 * PART, 8 * PART, 32 * PART, 500 * PART].map(|tokens| {
            let parts = Parts::of(tokens);
            (parts.lengths.len(), parts.streams.len())
        });
        assert_eq!(counts, [(1, 1), (1, 1), (2, 1), (8, 2), (32, 4), (64, 4)]);
    }
}
