//! What generation is written over: a decoder that keeps what it has read.

/// A decoder that can be asked for the next token: libtorch operations, the fused engine, or the exact one.
///
/// It is shared by threads; a [`Session`] belongs to one.
pub trait Decode {
    /// Tokens V.
    fn vocabulary(&self) -> usize;

    /// Tokens N that a row of a session can hold, the start token included.
    fn context(&self) -> usize;

    /// `rows` texts of which nothing is known, not even the start token.
    fn session<'a>(&'a self, rows: usize) -> Box<dyn Session + 'a>;
}

/// Texts side by side, of lengths of their own. Each row is as if it were alone: its logits do not depend on the others.
pub trait Session {
    /// Rows.
    fn rows(&self) -> usize;

    /// Tokens that a row holds.
    fn len(&self, row: usize) -> usize;

    /// Whether a row holds nothing.
    fn is_empty(&self, row: usize) -> bool {
        self.len(row) == 0
    }

    /// Appends tokens to one row (prefill), and writes the logits after each of the last `wanted` of them: `[wanted, V]`.
    ///
    /// # Panics
    /// If the row would hold more than the context, `wanted` is more than there are tokens, or a token is no token.
    fn feed(&mut self, row: usize, tokens: &[u32], wanted: usize, logits: &mut Vec<f32>);

    /// Appends one token to each of the rows `rows`, and writes the logits after each: `[rows.len(), V]`.
    ///
    /// # Panics
    /// As [`Session::feed`], or if a row stands twice.
    fn step(&mut self, rows: &[usize], tokens: &[u32], logits: &mut Vec<f32>);

    /// Forgets what a row holds beyond its first `len` tokens.
    ///
    /// # Panics
    /// If it holds fewer.
    fn truncate(&mut self, row: usize, len: usize);

    /// Makes row i what row `rows[i]` was; a row may stand twice, and others be dropped.
    fn gather(&mut self, rows: &[usize]);
}
