//! One pass of a few tokens through all layers.

use core_layers::kernels::exact::{Kernel, TextPast};

use super::plan::{Layer, Plan};
use crate::config::FeedForward;

/// Keys and values of one text, a past a layer.
pub(super) type Row = Vec<TextPast>;

/// One token, and the text that it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) row: usize,
    pub(super) token: u32,
}

/// Scratch space: columns of the tokens of a pass, one after the other. Letters as in
/// [`DecoderConfig`](crate::config::DecoderConfig).
#[derive(Debug, Default)]
pub(super) struct Pass {
    positions: Vec<usize>,
    stream: Vec<f32>, // [n, D], the residual stream
    normed: Vec<f32>, // [n, D]
    mixed: Vec<f32>,  // [n, (H + 2 K) E]: queries, keys, values
    read: Vec<f32>,   // [n, H E]: what heads have read
    inner: Vec<f32>,  // [n, F], or twice that: gate and what it gates
    gated: Vec<f32>,  // [n, F]
    added: Vec<f32>,  // [n, D]: what goes to the stream
    scores: Vec<f32>,
}

fn sized(floats: &mut Vec<f32>, len: usize) -> &mut [f32] {
    floats.resize(len, 0.);
    floats
}

impl Pass {
    /// Brings the tokens of `items` through all layers, and leaves what they become in the residual stream.
    pub(super) fn run(&mut self, plan: &Plan, kernel: &Kernel, rows: &mut [Row], items: &[Item]) {
        self.embed(plan, kernel, rows, items);
        for (index, layer) in plan.layers.iter().enumerate() {
            self.attend(plan, index, kernel, rows, items);
            self.feed_forward(plan, layer, kernel);
        }
    }

    /// Embeds each token, at the position after what its row holds.
    fn embed(&mut self, plan: &Plan, kernel: &Kernel, rows: &[Row], items: &[Item]) {
        let width = plan.embedding.columns();
        self.positions.clear();
        let stream = sized(&mut self.stream, items.len() * width);
        for (i, (item, xs)) in items.iter().zip(stream.chunks_exact_mut(width)).enumerate() {
            let before = items[..i].iter().filter(|it| it.row == item.row).count();
            let position = rows[item.row].first().map_or(0, TextPast::len) + before;
            self.positions.push(position);
            plan.embedding.decode_row(item.token as usize, xs);
            if let Some(learned) = &plan.positions {
                let at = sized(&mut self.added, width);
                learned.decode_row(position, at);
                kernel.add_assign(xs, at);
            }
        }
    }

    /// Adds what attention reads, to the stream and the keys and values of this layer to the past of each row.
    fn attend(
        &mut self,
        plan: &Plan,
        index: usize,
        kernel: &Kernel,
        rows: &mut [Row],
        items: &[Item],
    ) {
        let layer = &plan.layers[index];
        let (query, key) = (plan.config.d_query() as usize, plan.config.d_key() as usize);
        let normed = sized(&mut self.normed, self.stream.len());
        layer.attention_norm.apply(kernel, &self.stream, normed);
        let mixed = sized(&mut self.mixed, items.len() * layer.attention.outs);
        layer.attention.apply(kernel, normed, mixed);
        for ((item, &position), mixed) in
            items.iter().zip(&self.positions).zip(mixed.chunks_exact_mut(query + 2 * key))
        {
            let (turned, value) = mixed.split_at_mut(query + key);
            if let Some(rotations) = &plan.rotations {
                kernel.rotate(rotations, position, turned);
            }
            rows[item.row][index].push(&turned[query..], value);
        }
        let read = sized(&mut self.read, items.len() * query);
        for (((item, &position), mixed), read) in items
            .iter()
            .zip(&self.positions)
            .zip(mixed.chunks_exact(query + 2 * key))
            .zip(read.chunks_exact_mut(query))
        {
            let first = layer.band.map_or(0, |band| (position + 1).saturating_sub(band));
            let span = first..position + 1;
            kernel.attend_text(
                &rows[item.row][index],
                span,
                &mixed[..query],
                &mut self.scores,
                read,
            );
        }
        let added = sized(&mut self.added, self.stream.len());
        layer.output.apply(kernel, read, added);
        kernel.add_assign(&mut self.stream, added);
    }

    /// Adds what the feed-forward network makes of the stream.
    fn feed_forward(&mut self, plan: &Plan, layer: &Layer, kernel: &Kernel) {
        let normed = sized(&mut self.normed, self.stream.len());
        layer.feed_forward_norm.apply(kernel, &self.stream, normed);
        let count = self.stream.len() / plan.embedding.columns();
        let inner = sized(&mut self.inner, count * layer.up.outs);
        layer.up.apply(kernel, normed, inner);
        let gated = match plan.config.feed_forward {
            FeedForward::Gelu => {
                kernel.gelu(inner);
                inner
            }
            FeedForward::GeluTanh => {
                kernel.gelu_tanh(inner);
                inner
            }
            FeedForward::SwiGlu => {
                let gated = sized(&mut self.gated, inner.len() / 2);
                kernel.swish_gate(inner, layer.up.outs / 2, gated);
                gated
            }
        };
        let added = sized(&mut self.added, self.stream.len());
        layer.down.apply(kernel, gated, added);
        kernel.add_assign(&mut self.stream, added);
    }

    /// Logits after the columns `at` of the residual stream.
    pub(super) fn logits(
        &mut self,
        plan: &Plan,
        kernel: &Kernel,
        at: impl ExactSizeIterator<Item = usize>,
        logits: &mut [f32],
    ) {
        if at.len() == 0 {
            return;
        }
        let width = plan.embedding.columns();
        let chosen = sized(&mut self.added, at.len() * width);
        for (to, at) in chosen.chunks_exact_mut(width).zip(at) {
            to.copy_from_slice(&self.stream[at * width..][..width]);
        }
        let normed = sized(&mut self.normed, chosen.len());
        plan.norm.apply(kernel, chosen, normed);
        plan.head.apply(kernel, normed, logits);
    }
}
