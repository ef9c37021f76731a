//! What scores texts: the decoder in libtorch operations, windows side by side, or an engine, one after the other.

use super::{Batch, Documents, Window};
use crate::{
    model::Decoder,
    sample::{Decode, Session},
};

/// What predicts the tokens of texts.
pub trait Predictor {
    /// Nats of the predictions that count, in each window.
    fn nats(&self, documents: &dyn Documents, windows: &[Window]) -> Vec<f64>;
}

impl Predictor for Decoder {
    fn nats(&self, documents: &dyn Documents, windows: &[Window]) -> Vec<f64> {
        let batch = Batch::new(documents, windows, self.config().start, self.device());
        tch::no_grad(|| batch.nats(self))
    }
}

/// Tokens whose logits are held at once.
const CHUNK: usize = 64;

/// An engine, whose texts hold the windows.
#[expect(missing_debug_implementations, reason = "an engine shows nothing")]
pub struct Engine {
    /// What computes.
    pub engine: Box<dyn Decode>,
    /// The token before the first of a text.
    pub start: u32,
}

impl Engine {
    /// Nats of `tokens` in turn, each but the first, from the one of index `from` on.
    fn read(&self, session: &mut dyn Session, tokens: &[u32], from: usize) -> f64 {
        let (read, predicted) = (&tokens[..tokens.len() - 1], &tokens[1..]);
        let (mut nats, mut logits, mut at) = (0., Vec::new(), 0);
        session.truncate(0, 0);
        for (read, predicted) in read.chunks(CHUNK).zip(predicted.chunks(CHUNK)) {
            let wanted = (at + read.len()).saturating_sub(from).min(read.len());
            session.feed(0, read, wanted, &mut logits);
            let counted = &predicted[predicted.len() - wanted..];
            for (logits, &token) in logits.chunks(self.engine.vocabulary()).zip(counted) {
                nats += nats_of(logits, token);
            }
            at += read.len();
        }
        nats
    }
}

impl Predictor for Engine {
    fn nats(&self, documents: &dyn Documents, windows: &[Window]) -> Vec<f64> {
        let mut session = self.engine.session(1);
        let nats = |it: &Window| {
            let tokens = match it.start.checked_sub(1) {
                Some(before) => documents.read(it.document, before..it.to),
                None => [vec![self.start], documents.read(it.document, 0..it.to)].concat(),
            };
            self.read(&mut *session, &tokens, it.from - it.start)
        };
        windows.iter().map(nats).collect()
    }
}

/// `-log softmax(logits)[token]`, summed in f64.
fn nats_of(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&it| f64::from(it - most).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - most)
}
