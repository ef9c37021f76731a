//! Windows of texts side by side.

use core_layers::Conditionals;
use tch::{Device, Kind, Tensor};

use super::{Documents, Window};
use crate::model::Decoder;

/// Logits that are held at once when nothing is learnt.
const LOGITS: i64 = 1 << 24;

/// Windows side by side, the shorter ones followed by token 0, which does not count.
#[derive(Debug)]
pub struct Batch {
    tokens: Tensor,         // [B, T + 1]
    counts: Option<Tensor>, // [B, T], 1 where a prediction counts; none if all do
}

impl Batch {
    /// The windows of documents; before the first token of one stands `start`.
    pub fn new(documents: &dyn Documents, windows: &[Window], start: u32, device: Device) -> Self {
        let time = windows.iter().map(|it| it.to - it.start).max().unwrap_or(0);
        let mut tokens = vec![0i64; windows.len() * (time + 1)];
        let mut counts = vec![0f32; windows.len() * time];
        for (row, it) in windows.iter().enumerate() {
            let place = &mut tokens[row * (time + 1)..][..=it.to - it.start];
            let read = match it.start.checked_sub(1) {
                Some(before) => documents.read(it.document, before..it.to),
                None => [vec![start], documents.read(it.document, 0..it.to)].concat(),
            };
            for (to, from) in place.iter_mut().zip(read) {
                *to = i64::from(from);
            }
            counts[row * time..][it.from - it.start..it.to - it.start].fill(1.);
        }
        let sizes = |time: usize| [windows.len() as i64, time as i64];
        Self {
            tokens: Tensor::from_slice(&tokens).view(sizes(time + 1)).to_device(device),
            counts: Some(Tensor::from_slice(&counts).view(sizes(time)).to_device(device)),
        }
    }

    /// Windows of `time + 1` tokens each, of which all but the first are predicted and count.
    pub fn of(tokens: &[i64], time: usize, device: Device) -> Self {
        let rows = tokens.len() / (time + 1);
        let sizes = [rows as i64, time as i64 + 1];
        let tokens = Tensor::from_slice(tokens).view(sizes).to_device(device);
        Self { tokens, counts: None }
    }

    /// Nats of the predictions that count, summed; `train` lets dropout act.
    pub(crate) fn sum_of_nats(&self, decoder: &Decoder, train: bool) -> Tensor {
        self.counted(decoder.log_prob(&self.tokens, train)).sum(Kind::Float).neg()
    }

    /// Nats of the predictions that count, in each window; nothing is dropped.
    pub fn nats(&self, decoder: &Decoder) -> Vec<f64> {
        let log_prob = self.counted(self.log_prob(decoder));
        let sums = log_prob.sum_dim_intlist([-1i64].as_slice(), false, Kind::Double).neg();
        Vec::try_from(sums).expect("a flat tensor of f64 is a vector")
    }

    /// `[B, T]`, the head some tokens at a time, so that a large vocabulary takes little memory.
    fn log_prob(&self, decoder: &Decoder) -> Tensor {
        let (rows, time) = (self.tokens.size()[0], self.tokens.size()[1] - 1);
        let hidden = decoder.hidden(&self.tokens.narrow(1, 0, time), false); // [B, T, D]
        let at_once = (LOGITS / (rows * decoder.config().vocabulary)).clamp(1, time.max(1));
        let parts: Vec<Tensor> = (0..time)
            .step_by(at_once as usize)
            .map(|first| {
                let count = at_once.min(time - first);
                let logits = decoder.logits(&hidden.narrow(1, first, count));
                Conditionals::Logits(logits).log_prob(&self.tokens.narrow(1, first + 1, count))
            })
            .collect();
        Tensor::cat(&parts, 1)
    }

    /// `[B, T]`, zero where a prediction does not count.
    fn counted(&self, log_prob: Tensor) -> Tensor {
        match &self.counts {
            Some(counts) => log_prob * counts,
            None => log_prob,
        }
    }
}
