//! Sessions in libtorch operations, on any device: the reference of every other engine.
//! Letters: R rows, N context, H heads, K key and value heads, S tokens read at once, T tokens known, E width of a head.

use std::borrow::Borrow;

use core_layers::{
    attention::{Seen, masked, of_cache},
    kernels::step,
    rope::Turn,
};
use tch::{Device, Kind, Tensor, no_grad};

use super::{Decode, Session};
use crate::{
    config::Attention,
    model::{Decoder, Heads, Past},
};

/// Tokens of a prompt that are read in one pass, unless told otherwise.
const CHUNK: usize = 256;

/// Positions by which cleared room grows: what lies beyond may be anything, and is not touched.
const CLEARED: i64 = 256;

/// A decoder whose sessions keep the keys and values of what they have read.
#[derive(Debug)]
pub struct TorchEngine<M> {
    model: M,
    context: usize,
    chunk: usize,
}

impl<M: Borrow<Decoder>> TorchEngine<M> {
    /// Sessions of `model`. Each row has room for `context` tokens, set aside when it starts, at most what the model sees.
    pub fn new(model: M, context: usize) -> Self {
        let most = model.borrow().config().context as usize;
        Self { model, context: context.clamp(1, most), chunk: CHUNK }
    }

    /// The same, reading `chunk` tokens of a prompt at once.
    #[must_use]
    pub fn with_chunk(self, chunk: usize) -> Self {
        Self { chunk: chunk.max(1), ..self }
    }

    /// The decoder.
    pub fn model(&self) -> &Decoder {
        self.model.borrow()
    }

    /// Bytes of keys and values that a row of a session sets aside.
    pub fn bytes_per_row(&self) -> usize {
        self.model().config().describe().kv_bytes_per_token as usize * self.context
    }
}

impl<M: Borrow<Decoder>> Decode for TorchEngine<M> {
    fn vocabulary(&self) -> usize {
        self.model().config().vocabulary as usize
    }

    fn context(&self) -> usize {
        self.context
    }

    fn session<'a>(&'a self, rows: usize) -> Box<dyn Session + 'a> {
        let model = self.model();
        let config = model.config();
        let sizes = [rows as i64, config.kv_heads, self.context as i64, config.d_head];
        let room = || Tensor::empty(sizes, (model.embedding.kind(), model.device()));
        Box::new(TorchSession {
            model,
            context: self.context,
            chunk: self.chunk,
            caches: (0..config.layers).map(|_| Cache { keys: room(), values: room() }).collect(),
            cleared: 0,
            lengths: vec![0; rows],
        })
    }
}

/// The keys and values of a layer.
#[derive(Debug)]
struct Cache {
    keys: Tensor,   // [R, K, N, E]
    values: Tensor, // [R, K, N, E]
}

#[derive(Debug)]
struct TorchSession<'m> {
    model: &'m Decoder,
    context: usize,
    chunk: usize,
    caches: Vec<Cache>,
    cleared: i64, // positions of every row that hold numbers: what is masked must not be NaN
    lengths: Vec<usize>,
}

impl Session for TorchSession<'_> {
    fn rows(&self) -> usize {
        self.lengths.len()
    }

    fn len(&self, row: usize) -> usize {
        self.lengths[row]
    }

    fn feed(&mut self, row: usize, tokens: &[u32], wanted: usize, logits: &mut Vec<f32>) {
        assert!(wanted <= tokens.len(), "logits of {wanted} of {} tokens", tokens.len());
        self.ensure_room(row, tokens);
        let mut hidden = Vec::new();
        for (index, chunk) in tokens.chunks(self.chunk).enumerate() {
            let all = no_grad(|| self.read(&[row], chunk)); // [1, S, D]
            let unread = tokens.len() - index * self.chunk - chunk.len();
            let kept = (wanted.saturating_sub(unread)).min(chunk.len()) as i64;
            if kept > 0 {
                hidden.push(all.select(0, 0).narrow(0, chunk.len() as i64 - kept, kept));
            }
        }
        self.write(&hidden, logits);
    }

    fn step(&mut self, rows: &[usize], tokens: &[u32], logits: &mut Vec<f32>) {
        assert_eq!(rows.len(), tokens.len(), "a token a row");
        for (index, (&row, token)) in rows.iter().zip(tokens).enumerate() {
            self.ensure_room(row, std::slice::from_ref(token));
            assert!(!rows[..index].contains(&row), "row {row} stands twice");
        }
        if rows.is_empty() {
            return logits.clear();
        }
        let hidden = no_grad(|| self.read(rows, tokens)); // [R, 1, D]
        self.write(&[hidden.select(1, 0)], logits);
    }

    fn truncate(&mut self, row: usize, len: usize) {
        assert!(len <= self.lengths[row], "row {row} holds {} tokens", self.lengths[row]);
        self.lengths[row] = len;
    }

    fn gather(&mut self, rows: &[usize]) {
        if rows.iter().copied().eq(0..self.rows()) {
            return;
        }
        let known = rows.iter().map(|&row| self.lengths[row]).max().unwrap_or(0) as i64;
        let from = index(rows, self.model.device());
        no_grad(|| {
            for Cache { keys, values } in &mut self.caches {
                for all in [keys, values] {
                    let [_, heads, context, width] = all.size()[..] else { continue };
                    let sizes = [rows.len() as i64, heads, context, width];
                    let gathered = Tensor::empty(sizes, (all.kind(), all.device()));
                    let chosen = all.narrow(2, 0, known).index_select(0, &from);
                    gathered.narrow(2, 0, known).copy_(&chosen);
                    *all = gathered;
                }
            }
        });
        self.cleared = known;
        self.lengths = rows.iter().map(|&row| self.lengths[row]).collect();
    }
}

impl TorchSession<'_> {
    fn ensure_room(&self, row: usize, tokens: &[u32]) {
        let needed = self.lengths[row] + tokens.len();
        assert!(needed <= self.context, "{needed} tokens do not fit a context of {}", self.context);
        let vocabulary = self.model.config().vocabulary;
        let foreign = tokens.iter().find(|&&token| i64::from(token) >= vocabulary);
        assert!(foreign.is_none(), "token {foreign:?} is none of {vocabulary}");
    }

    /// Reads as many tokens for each of `rows`, which stand one row after the other; gives what the head reads.
    ///
    /// # Shape
    /// `[rows, S, D]`.
    fn read(&mut self, rows: &[usize], tokens: &[u32]) -> Tensor {
        let device = self.model.device();
        let (count, read) = (rows.len() as i64, (tokens.len() / rows.len()) as i64);
        let tokens: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let tokens = Tensor::from_slice(&tokens).view([count, read]);
        let known: Vec<i64> = rows.iter().map(|&row| self.lengths[row] as i64).collect();
        let longest = known.iter().max().copied().unwrap_or(0) + read;
        self.clear_to(longest);
        let attention = self.model.config().attention;
        let spans = |band: Option<i64>| {
            let ends: Vec<i64> = known.iter().map(|it| it + 1).collect();
            let first = |end: &i64| band.map_or(0, |band| (end - band).max(0));
            let spans: Vec<i64> = ends.iter().flat_map(|end| [first(end), *end]).collect();
            Tensor::from_slice(&spans).view([count, 2]).to_device(device)
        };
        let place = Place {
            spans: (read == 1 && step::is_there(device))
                .then(|| [None, attention.band(1)].map(spans)),
            rows: index(rows, device),
            are_all: rows.iter().copied().eq(0..self.rows()),
            first_row: rows[0] as i64,
            positions: (Tensor::from_slice(&known).unsqueeze(-1)
                + Tensor::arange(read, (Kind::Int64, Device::Cpu)))
            .to_device(device), // [rows, S]
            shortest: known.iter().min().copied().unwrap_or(0),
            longest,
            are_alike: known.iter().all(|&it| it == known[0]),
        };
        let embedded = self.model.embed(&tokens);
        let mut pass = Pass { caches: &mut self.caches, place: &place, attention };
        let hidden =
            self.model.run(&embedded, &place.positions, false, Some(&mut pass), &mut |_, _| {});
        for &row in rows {
            self.lengths[row] += read as usize;
        }
        hidden
    }

    /// Makes sure that the first `len` positions of every row hold numbers.
    fn clear_to(&mut self, len: i64) {
        if len <= self.cleared {
            return;
        }
        let to = (len + CLEARED).min(self.context as i64);
        for Cache { keys, values } in &self.caches {
            for all in [keys, values] {
                let _ = all.narrow(2, self.cleared, to - self.cleared).zero_();
            }
        }
        self.cleared = to;
    }

    /// The head over rows of what it reads, `[.., D]` each.
    fn write(&self, hidden: &[Tensor], out: &mut Vec<f32>) {
        out.clear();
        if hidden.is_empty() {
            return;
        }
        let logits = no_grad(|| self.model.logits(&Tensor::cat(hidden, 0)));
        let logits = logits.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
        out.resize(logits.numel(), 0.);
        logits.copy_data(out, logits.numel());
    }
}

/// Where the tokens of one pass stand.
#[derive(Debug)]
struct Place {
    rows: Tensor, // [rows]
    are_all: bool,
    first_row: i64,
    positions: Tensor, // [rows, S]
    shortest: i64,     // tokens known before, of the row that holds fewest
    longest: i64,      // tokens known then, of the row that holds most
    are_alike: bool,
    /// On a GPU, what one token a row sees: in layers without a band, and in those with one, `[rows, 2]`.
    spans: Option<[Tensor; 2]>,
}

impl Place {
    /// What one token a row sees, for kernels.
    fn seen(&self, band: Option<i64>) -> Option<Seen<'_>> {
        let spans = &self.spans.as_ref()?[usize::from(band.is_some())];
        let longest = band.map_or(self.longest, |band| band.min(self.longest));
        Some(Seen { rows: Some(&self.rows), spans, longest })
    }
}

/// The caches of all layers in one pass.
#[derive(Debug)]
struct Pass<'p> {
    caches: &'p mut [Cache],
    place: &'p Place,
    attention: Attention,
}

impl Past for Pass<'_> {
    fn attend(&mut self, index: usize, heads: &Heads) -> Tensor {
        let cache = &mut self.caches[index];
        cache.append(self.place, heads);
        cache.attend(self.place, &heads.queries, self.attention.band(index as i64))
    }

    fn step(
        &mut self,
        index: usize,
        layer: &step::Layer<'_>,
        xs: &dyn Fn() -> Tensor,
        turn: Option<&Turn>,
    ) -> Option<Tensor> {
        let seen = self.place.seen(self.attention.band(index as i64))?;
        let Cache { keys, values } = &self.caches[index];
        let positions = &self.place.positions.squeeze_dim(-1);
        step::layer(&xs(), layer, &step::Place { keys, values, positions, seen, turn })
    }
}

impl Cache {
    /// Keeps the keys and values of a pass.
    fn append(&mut self, place: &Place, heads: &Heads) {
        for (all, new) in [(&mut self.keys, &heads.keys), (&mut self.values, &heads.values)] {
            if place.rows.numel() == 1 {
                let read = place.longest - place.shortest;
                let to = all.narrow(0, place.first_row, 1).narrow(2, place.shortest, read);
                to.shallow_clone().copy_(new);
            } else {
                let rows = place.rows.unsqueeze(-1); // [rows, 1]
                let at = [Some(&rows), None, Some(&place.positions)];
                let _ = all.index_put_(&at, &new.transpose(1, 2), false); // [rows, S, K, E]
            }
        }
    }

    /// What the queries `[rows, H, S, E]` find among all that their rows know, or in its last `band` positions.
    fn attend(&self, place: &Place, queries: &Tensor, band: Option<i64>) -> Tensor {
        let seen = place.seen(band);
        let found = seen.and_then(|it| of_cache(queries, &self.keys, &self.values, &it));
        if let Some(found) = found {
            return found;
        }
        let first = band.map_or(0, |band| (place.shortest + 1 - band).max(0));
        let known = |all: &Tensor| {
            let all = all.narrow(2, first, place.longest - first);
            match place.rows.numel() {
                1 => all.narrow(0, place.first_row, 1),
                _ if place.are_all => all,
                _ => all.index_select(0, &place.rows),
            }
        };
        let one = place.positions.size()[1] == 1;
        let mask = (!one || !place.are_alike).then(|| {
            let keys = Tensor::arange_start(first, place.longest, (Kind::Int64, queries.device()));
            let age = place.positions.unsqueeze(-1) - keys; // [rows, S, T]
            let seen = age.ge(0);
            let seen = band.map_or(seen.shallow_clone(), |band| seen.logical_and(&age.lt(band)));
            seen.unsqueeze(1) // [rows, 1, S, T]
        });
        masked(queries, &known(&self.keys), &known(&self.values), mask.as_ref())
    }
}

fn index(rows: &[usize], device: Device) -> Tensor {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    Tensor::from_slice(&rows).to_device(device)
}

#[cfg(test)]
mod tests;
