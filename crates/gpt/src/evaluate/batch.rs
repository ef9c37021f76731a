//! Windows of texts side by side.

use core_layers::cross_entropy::{IGNORED, log_prob};
use tch::{Device, Kind, Tensor};

use super::{Documents, Window};
use crate::model::Decoder;

/// Logits that are held at once when nothing is learnt.
const LOGITS: i64 = 1 << 24;

/// Windows side by side, the shorter ones followed by token 0, which is read and does not count.
#[derive(Debug)]
pub struct Batch {
    tokens: Tensor,  // [B, T]
    targets: Tensor, // [B, T], the token that follows, or `IGNORED` where that does not count
    predictions: usize,
}

impl Batch {
    /// The windows of documents; before the first token of one stands `start`.
    pub fn new(documents: &dyn Documents, windows: &[Window], start: u32, device: Device) -> Self {
        let time = windows.iter().map(|it| it.to - it.start).max().unwrap_or(0);
        let mut tokens = vec![0i64; windows.len() * time];
        let mut targets = vec![IGNORED; windows.len() * time];
        for (row, it) in windows.iter().enumerate() {
            let read = match it.start.checked_sub(1) {
                Some(before) => documents.read(it.document, before..it.to),
                None => [vec![start], documents.read(it.document, 0..it.to)].concat(),
            };
            let [read, known] = [&read[..it.to - it.start], &read[1..]];
            for (to, &from) in tokens[row * time..].iter_mut().zip(read) {
                *to = i64::from(from);
            }
            let counted = it.from - it.start..it.to - it.start;
            for (to, &from) in
                targets[row * time..][counted.clone()].iter_mut().zip(&known[counted])
            {
                *to = i64::from(from);
            }
        }
        let sizes = [windows.len() as i64, time as i64];
        let placed = |it: &[i64]| Tensor::from_slice(it).view(sizes).to_device(device);
        Self {
            tokens: placed(&tokens),
            targets: placed(&targets),
            predictions: windows.iter().map(|it| it.to - it.from).sum(),
        }
    }

    /// Windows of `time + 1` tokens each, of which all but the first are predicted and count.
    pub fn of(tokens: &[i64], time: usize, device: Device) -> Self {
        let rows = tokens.len() / (time + 1);
        let sizes = [rows as i64, time as i64 + 1];
        let both = Tensor::from_slice(tokens).view(sizes).to_device(device);
        let from = |first: i64| both.narrow(1, first, time as i64);
        Self { tokens: from(0), targets: from(1), predictions: rows * time }
    }

    /// Predictions that count.
    pub fn predictions(&self) -> usize {
        self.predictions
    }

    /// Of the predictions that count, the sum of the nats and that of `(log Z)^2`; `train` lets dropout act.
    pub(crate) fn sums(&self, decoder: &Decoder, train: bool) -> [Tensor; 2] {
        let [log_prob, log_z] = decoder.log_prob_and_log_z(&self.tokens, &self.targets, train);
        [log_prob.sum(Kind::Float).neg(), log_z.square().sum(Kind::Float)]
    }

    /// Nats of the predictions that count, in each window; nothing is dropped.
    pub fn nats(&self, decoder: &Decoder) -> Vec<f64> {
        let log_prob = self.log_prob(decoder);
        let sums = log_prob.sum_dim_intlist([-1i64].as_slice(), false, Kind::Double).neg();
        Vec::try_from(sums).expect("a flat tensor of f64 is a vector")
    }

    /// `[B, T]`, zero where a prediction does not count; the head some tokens at a time, so that a large vocabulary takes
    /// little memory.
    fn log_prob(&self, decoder: &Decoder) -> Tensor {
        let (rows, time) = self.tokens.size2().expect("windows side by side");
        let hidden = decoder.hidden(&self.tokens, false); // [B, T, D]
        let at_once = (LOGITS / (rows * decoder.config().vocabulary)).clamp(1, time.max(1));
        let parts: Vec<Tensor> = (0..time)
            .step_by(at_once as usize)
            .map(|first| {
                let count = at_once.min(time - first);
                let logits = decoder.logits(&hidden.narrow(1, first, count));
                log_prob(&logits, &self.targets.narrow(1, first, count))
            })
            .collect();
        Tensor::cat(&parts, 1)
    }
}
