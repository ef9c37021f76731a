//! What scores texts: the decoder in libtorch operations, windows side by side, or an engine, one after the other on each thread.

use std::{panic::resume_unwind, thread};

use super::{Batch, Documents, Window};
use crate::{
    model::Decoder,
    sample::{Decode, Session},
};

/// What predicts the tokens of texts.
pub trait Predictor {
    /// Nats of the predictions that count, in each window.
    fn nats(&self, documents: &dyn Documents, windows: &[Window]) -> Vec<f64>;

    /// Windows that it is to be given at once, however long they are.
    fn lanes(&self) -> usize {
        1
    }
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
    pub engine: Box<dyn Decode + Sync>,
    /// The token before the first of a text.
    pub start: u32,
    /// Threads that windows are spread over, each with a session of its own.
    pub threads: usize,
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

    fn nats_of_window(
        &self,
        session: &mut dyn Session,
        documents: &dyn Documents,
        it: &Window,
    ) -> f64 {
        let tokens = match it.start.checked_sub(1) {
            Some(before) => documents.read(it.document, before..it.to),
            None => [vec![self.start], documents.read(it.document, 0..it.to)].concat(),
        };
        self.read(session, &tokens, it.from - it.start)
    }
}

impl Predictor for Engine {
    fn nats(&self, documents: &dyn Documents, windows: &[Window]) -> Vec<f64> {
        let of_thread = |windows: &[Window]| -> Vec<f64> {
            let mut session = self.engine.session(1);
            windows.iter().map(|it| self.nats_of_window(&mut *session, documents, it)).collect()
        };
        if self.threads == 1 {
            return of_thread(windows); // and keep the threads of the engine itself
        }
        thread::scope(|scope| {
            let parts = windows.chunks(windows.len().div_ceil(self.threads).max(1));
            let threads: Vec<_> = parts.map(|it| scope.spawn(move || of_thread(it))).collect();
            let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
            joined.flat_map(|it| it.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }

    fn lanes(&self) -> usize {
        self.threads
    }
}

/// `-log softmax(logits)[token]`, summed in f64.
fn nats_of(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&it| f64::from(it - most).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - most)
}
