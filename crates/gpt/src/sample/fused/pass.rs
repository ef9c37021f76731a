//! One pass through the layers, for several columns: tokens of one text, or one token of each of several.
//! Letters: C columns, D width, H heads, K key and value heads, E width of a head, F feed-forward, V vocabulary.

use std::ops::Range;

use core_layers::kernels::decode::{Cache, Heads, Inputs, Norm, Packed, Product, Span, Workers};

use super::{
    FusedEngine,
    layer::{Layer, Linear},
};
use crate::config::FeedForward;

/// Columns of one text: its row, the position of the first, and which columns.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    pub(super) row: usize,
    pub(super) first: usize,
    pub(super) columns: Range<usize>,
}

/// Room for what a pass computes; a column of results has room for whole tiles.
pub(super) struct Pass<'a> {
    engine: &'a FusedEngine,
    workers: Workers,
    xs: Vec<f32>,      // [C][D], the residual stream
    queries: Vec<f32>, // [C][H E]
    keys: Vec<f32>,    // [C][K E]
    values: Vec<f32>,  // [C][K E]
    found: Vec<f32>,   // [C][H][E, rounded up to 16]
    gates: Vec<f32>,   // [C][F]
    ups: Vec<f32>,     // [C][F]
    turns: Vec<f32>,   // [C][E], cosines and sines
    logits: Vec<f32>,  // [C][V]
    normed: Inputs,    // [C][D]
    attended: Inputs,  // [C][H E]
    gated: Inputs,     // [C][F]
}

impl<'a> Pass<'a> {
    /// Room for `columns`.
    pub(super) fn new(engine: &'a FusedEngine, columns: usize) -> Self {
        let config = engine.config();
        let [d, d_query, d_head, d_ff] =
            [config.d_model, config.d_query(), config.d_head, config.d_ff].map(|it| it as usize);
        let first = &engine.layers[0];
        let room = |linear: &Linear| vec![0.; columns * linear.weights.padded_outs()];
        let readers = |of: fn(&Layer) -> Vec<&Packed>| -> Vec<&Packed> {
            engine.layers.iter().flat_map(of).collect()
        };
        let mut of_norms = readers(|it| {
            it.attention_readers().into_iter().chain(it.feed_forward_readers()).collect()
        });
        of_norms.push(&engine.head);
        Self {
            engine,
            workers: Workers::new(engine.options.variant, engine.options.threads),
            xs: room(&first.output),
            queries: room(&first.query),
            keys: room(&first.key),
            values: room(&first.value),
            found: vec![0.; columns * config.heads as usize * padded(d_head)],
            gates: first.gate.as_ref().map_or_else(Vec::new, room),
            ups: room(&first.up),
            turns: vec![0.; columns * d_head],
            logits: Vec::new(),
            normed: Inputs::new(d, columns, &of_norms),
            attended: Inputs::new(d_query, columns, &readers(|it| vec![&it.output.weights])),
            gated: Inputs::new(d_ff, columns, &readers(|it| vec![&it.down.weights])),
        }
    }

    /// Reads tokens, one a column, that stand where `stretches` say, and keeps their keys and values in
    /// `caches[row][layer]`.
    pub(super) fn read(
        &mut self,
        tokens: &[u32],
        stretches: &[Stretch],
        caches: &mut [Vec<Cache>],
    ) {
        self.embed(tokens, stretches);
        let engine = self.engine;
        for (index, layer) in engine.layers.iter().enumerate() {
            self.norm(&layer.attention_norm, 0..tokens.len());
            self.keep(layer, index, stretches, caches);
            self.attend(layer, index, stretches, caches);
            self.norm(&layer.feed_forward_norm, 0..tokens.len());
            self.feed_forward(layer);
        }
    }

    /// Appends the logits after some columns.
    pub(super) fn logits(&mut self, columns: Range<usize>, logits: &mut Vec<f32>) {
        let engine = self.engine;
        let (head, count) = (&engine.head, columns.len());
        self.norm(&engine.norm, columns);
        let (outs, stride, from) = (head.outs(), head.padded_outs(), logits.len());
        if outs == stride {
            logits.resize(from + count * outs, 0.);
            let ys = &mut logits[from..];
            self.workers.accumulate(&mut [Product { weights: head, ys }], &self.normed);
        } else {
            self.logits.clear();
            self.logits.resize(count * stride, 0.);
            let ys = &mut self.logits;
            self.workers.accumulate(&mut [Product { weights: head, ys }], &self.normed);
            self.logits.chunks_exact(stride).for_each(|it| logits.extend_from_slice(&it[..outs]));
        }
    }

    fn embed(&mut self, tokens: &[u32], stretches: &[Stretch]) {
        let engine = self.engine;
        let (width, stride) = (self.normed.width(), engine.layers[0].output.weights.padded_outs());
        let d_head = engine.config().d_head as usize;
        let mut added = vec![0.; width];
        for stretch in stretches {
            for (position, column) in (stretch.first..).zip(stretch.columns.clone()) {
                let xs = &mut self.xs[column * stride..][..width];
                engine.embedding.decode_row(tokens[column] as usize, xs);
                if let Some(table) = &engine.position {
                    table.decode_row(position, &mut added);
                    xs.iter_mut().zip(&added).for_each(|(x, y)| *x += y);
                }
                let turns = &mut self.turns[column * d_head..][..d_head];
                for (pair, frequency) in engine.frequencies.iter().flatten().enumerate() {
                    let (sine, cosine) = (position as f64 * frequency).sin_cos();
                    turns[pair] = cosine as f32;
                    turns[d_head / 2 + pair] = sine as f32;
                }
            }
        }
    }

    /// Makes inputs of some columns of the residual stream.
    fn norm(&mut self, norm: &Norm, columns: Range<usize>) {
        let width = self.normed.width();
        let stride = self.engine.layers[0].output.weights.padded_outs();
        let (kernel, xs) = (self.workers.kernel(), &self.xs[columns.start * stride..]);
        let to = self.normed.floats_mut(columns.len());
        self.workers.each(to, width, |column, to| {
            kernel.norm(norm, &xs[column * stride..][..width], to);
        });
        self.workers.quantise(&mut self.normed);
    }

    /// Queries, keys and values; the latter two go to the caches.
    fn keep(
        &mut self,
        layer: &Layer,
        index: usize,
        stretches: &[Stretch],
        caches: &mut [Vec<Cache>],
    ) {
        let (engine, kernel) = (self.engine, self.workers.kernel());
        let columns = self.normed.columns();
        let mut products = [
            started(&layer.query, &mut self.queries, columns),
            started(&layer.key, &mut self.keys, columns),
            started(&layer.value, &mut self.values, columns),
        ];
        self.workers.accumulate(&mut products, &self.normed);
        let d_head = engine.config().d_head as usize;
        let [outs, strides] = [Packed::outs, Packed::padded_outs]
            .map(|of| [of(&layer.query.weights), of(&layer.key.weights)]);
        if engine.frequencies.is_some() {
            let turns = &self.turns;
            for (i, xs) in [&mut self.queries, &mut self.keys].into_iter().enumerate() {
                let xs = &mut xs[..columns * strides[i]];
                self.workers.each(xs, strides[i], |column, xs| {
                    kernel.rotate(&mut xs[..outs[i]], &turns[column * d_head..][..d_head]);
                });
            }
        }
        for stretch in stretches {
            let cache = &mut caches[stretch.row][index];
            for (position, column) in (stretch.first..).zip(stretch.columns.clone()) {
                let [keys, values] =
                    [&self.keys, &self.values].map(|it| &it[column * strides[1]..][..outs[1]]);
                cache.put(kernel, position, keys, values);
            }
        }
    }

    /// Adds what attention finds to the residual stream.
    fn attend(
        &mut self,
        layer: &Layer,
        index: usize,
        stretches: &[Stretch],
        caches: &[Vec<Cache>],
    ) {
        let config = self.engine.config();
        let [heads, kv_heads, d_head] =
            [config.heads, config.kv_heads, config.d_head].map(|it| it as usize);
        let scale = (1. / (d_head as f64).sqrt()) as f32;
        let heads = Heads { heads, kv_heads, d_head, band: layer.band, scale };
        let spans: Vec<Span<'_>> = stretches
            .iter()
            .map(|it| Span {
                cache: &caches[it.row][index],
                first: it.first,
                columns: it.columns.clone(),
            })
            .collect();
        let columns = self.normed.columns();
        let queries = (&*self.queries, layer.query.weights.padded_outs());
        if padded(d_head) == d_head {
            let to = self.attended.floats_mut(columns);
            self.workers.attend(&heads, &spans, queries, to);
        } else {
            self.workers.attend(&heads, &spans, queries, &mut self.found);
            let to = self.attended.floats_mut(columns).chunks_exact_mut(d_head);
            for (to, found) in to.zip(self.found.chunks_exact(padded(d_head))) {
                to.copy_from_slice(&found[..d_head]);
            }
        }
        self.workers.quantise(&mut self.attended);
        let product = continued(&layer.output, &mut self.xs, columns);
        self.workers.accumulate(&mut [product], &self.attended);
    }

    /// Adds what the feed-forward network makes to the residual stream.
    fn feed_forward(&mut self, layer: &Layer) {
        let (kernel, kind) = (self.workers.kernel(), self.engine.config().feed_forward);
        let (columns, width) = (self.normed.columns(), self.gated.width());
        let stride = layer.up.weights.padded_outs();
        let up = started(&layer.up, &mut self.ups, columns);
        if let Some(gate) = &layer.gate {
            let gate = started(gate, &mut self.gates, columns);
            self.workers.accumulate(&mut [gate, up], &self.normed);
        } else {
            self.workers.accumulate(&mut [up], &self.normed);
        }
        let (gates, ups) = (&self.gates, &self.ups);
        self.workers.each(self.gated.floats_mut(columns), width, |column, to| {
            let of = |xs: &'_ [f32]| column * stride..xs.len().min(column * stride + width);
            let ups = &ups[of(ups)];
            match kind {
                FeedForward::SwiGlu => kernel.swiglu(&gates[of(gates)], ups, to),
                FeedForward::Gelu => kernel.gelu(ups, to),
                FeedForward::GeluTanh => kernel.gelu_tanh(ups, to),
            }
        });
        self.workers.quantise(&mut self.gated);
        let product = continued(&layer.down, &mut self.xs, columns);
        self.workers.accumulate(&mut [product], &self.gated);
    }
}

/// The room that attention has for a head.
fn padded(d_head: usize) -> usize {
    d_head.next_multiple_of(16)
}

/// Products that are added to nothing but the bias.
fn started<'a>(linear: &'a Linear, ys: &'a mut [f32], columns: usize) -> Product<'a> {
    let stride = linear.weights.padded_outs();
    for ys in ys.chunks_exact_mut(stride).take(columns) {
        match &linear.bias {
            Some(bias) => ys[..bias.len()].copy_from_slice(bias),
            None => ys.fill(0.),
        }
    }
    Product { weights: &linear.weights, ys }
}

/// Products that are added to what is there.
fn continued<'a>(linear: &'a Linear, ys: &'a mut [f32], columns: usize) -> Product<'a> {
    let stride = linear.weights.padded_outs();
    if let Some(bias) = &linear.bias {
        for ys in ys.chunks_exact_mut(stride).take(columns) {
            ys.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
    Product { weights: &linear.weights, ys }
}
