//! Attention: `softmax(q k^T / sqrt(E)) v` over the positions that a query may see (Vaswani et al., 2017,
//! <https://arxiv.org/abs/1706.03762>).
//! Letters: B examples, H query heads, K key and value heads, S queries, T keys, E width of a head, W band.
//!
//! Query head h reads key and value head `h K / H` (Ainslie et al., "GQA", 2023, <https://arxiv.org/abs/2305.13245>).
//! Dropout acts on the weights of the softmax, as in GPT-2: each is zero with probability p, else divided by `1 - p`.

use tch::{Kind, Tensor};

use crate::{
    kernels::{cuda, decoder},
    rope::Turn,
};

/// Causal self-attention of queries, keys and values that stand side by side, queries and keys turned first where there
/// are angles: in one pass over each head where the CPU multiplies bfloat16, which takes a third of the time. That pass
/// drops nothing: with `dropout` the definition is taken.
///
/// # Shape
/// `[B, T, (H + 2 K) E]` to `[B, T, H E]`; `heads` are H and K.
pub fn joint(all: &Tensor, turn: Option<&Turn>, heads: [i64; 2], dropout: f64) -> Tensor {
    let tables = turn.and_then(Turn::tables);
    let rows_are_alike = turn.is_none() || tables.is_some();
    if dropout == 0. && rows_are_alike && decoder::takes_attention(all, heads) {
        return decoder::attention(all, tables, heads)
            .unwrap_or_else(|error| panic!("attention: {error}"));
    }
    if let Some(turn) = turn
        && let (rows, time, width) = all.size3().expect("projections are [B, T, C]")
        && let split = all.view([rows, time, heads[0] + 2 * heads[1], -1])
        && let Some(turned) = turn.of_first(&split, heads[0] + heads[1])
    {
        return plain_joint(&turned.view([rows, time, width]), None, heads, dropout);
    }
    plain_joint(all, turn, heads, dropout)
}

/// The definition of [`joint`].
fn plain_joint(all: &Tensor, turn: Option<&Turn>, heads: [i64; 2], dropout: f64) -> Tensor {
    let (rows, time, _) = all.size3().expect("projections are [B, T, C]");
    let split = all.view([rows, time, heads[0] + 2 * heads[1], -1]).transpose(1, 2);
    let part = |first, count| split.narrow(1, first, count); // [B, count, T, E]
    let turned = |xs: Tensor| turn.map_or(xs.shallow_clone(), |turn| turn.forward(&xs));
    let (qs, ks) = (turned(part(0, heads[0])), turned(part(heads[0], heads[1])));
    let ys = causal(&qs, &ks, &part(heads[0] + heads[1], heads[1]), dropout);
    ys.transpose(1, 2).reshape([rows, time, -1])
}

/// Every position sees those up to its own.
///
/// # Shape
/// Queries `[B, H, T, E]`, keys and values `[B, K, T, E]` to `[B, H, T, E]`.
pub fn causal(qs: &Tensor, ks: &Tensor, vs: &Tensor, dropout: f64) -> Tensor {
    let (ks, vs) = (for_queries(ks, qs), for_queries(vs, qs));
    let no_mask: Option<Tensor> = None;
    Tensor::scaled_dot_product_attention(qs, &ks, &vs, no_mask, dropout, true, None, false)
}

/// Queries see the keys where `mask` is true, or all; one that sees none gives zeros. Keys and values are not copied for
/// the queries that share them.
///
/// # Shape
/// Queries `[B, H, S, E]`, keys and values `[B, K, T, E]`, a mask `[B, 1, S, T]` or `[1, 1, S, T]`, to `[B, H, S, E]`.
pub fn masked(qs: &Tensor, ks: &Tensor, vs: &Tensor, mask: Option<&Tensor>) -> Tensor {
    let (rows, heads, queries, head) = qs.size4().expect("queries are [B, H, S, E]");
    let shared = heads / ks.size()[1];
    // the queries of a group are as many queries of one head
    let grouped = qs.reshape([rows, heads / shared, shared * queries, head]);
    let mask = mask.map(|mask| mask.repeat([1, 1, shared, 1]));
    let ys = Tensor::scaled_dot_product_attention(&grouped, ks, vs, mask, 0., false, None, false);
    ys.reshape([rows, heads, queries, head])
}

/// What one query a row sees of a cache of keys and values. Letters: R rows.
#[derive(Debug)]
pub struct Seen<'a> {
    /// In which row of the cache each query looks, `[R]`, int64; its own without.
    pub rows: Option<&'a Tensor>,
    /// The first position that it sees and the one behind its last, `[R, 2]`, int64.
    pub spans: &'a Tensor,
    /// Positions of the longest span; of longer ones the rest is not seen.
    pub longest: i64,
}

/// [`masked`] for one query a row, in a kernel that cuts the sequence so that few rows fill a GPU; none where no kernel takes
/// it, without which a mask does the same.
///
/// # Shape
/// Queries `[R, H, 1, E]`, a cache of keys and one of values `[C, K, N, E]`, to `[R, H, 1, E]`.
///
/// # Panics
/// If shapes, kinds or devices do not fit.
pub fn of_cache(qs: &Tensor, ks: &Tensor, vs: &Tensor, seen: &Seen<'_>) -> Option<Tensor> {
    let is_known = cuda::Element::of(qs.kind()).is_some()
        && qs.size().last().is_some_and(|&width| width <= cuda::decode_attention::WIDEST);
    let gpu = cuda::of(qs.device()).filter(|_| is_known)?;
    let found = cuda::decode_attention::attend(gpu, qs, ks, vs, seen);
    Some(found.unwrap_or_else(|error| panic!("attention over a cache: {error}")))
}

/// Every position sees the last `band` up to its own, at a cost that grows with `T band`.
///
/// Positions are cut into blocks of the band's size; what a block's queries see lies in its own block and the one before.
///
/// # Shape
/// As [`causal`].
pub fn banded(qs: &Tensor, ks: &Tensor, vs: &Tensor, band: i64, dropout: f64) -> Tensor {
    let (rows, heads, time, head) = qs.size4().expect("queries are [B, H, T, E]");
    if time <= band {
        return causal(qs, ks, vs, dropout);
    }
    let blocks = (time + band - 1) / band;
    let padding = blocks * band - time;
    let (ks, vs) = (for_queries(ks, qs), for_queries(vs, qs));
    let blocked = |xs: &Tensor| {
        let xs = xs.constant_pad_nd([0, 0, 0, padding]);
        xs.reshape([rows * heads, blocks, band, head])
    };
    let with_previous = |xs: &Tensor| {
        let own = blocked(xs); // [B H, blocks, W, E]
        let previous = own.narrow(1, 0, blocks - 1).constant_pad_nd([0, 0, 0, 0, 1, 0]);
        Tensor::cat(&[previous, own], 2) // [B H, blocks, 2 W, E]
    };
    let mask = Some(band_mask(blocks, band).to_device(qs.device())); // [blocks, W, 2 W]
    let (qs, ks, vs) = (blocked(qs), with_previous(&ks), with_previous(&vs)); // blocks stand as heads
    let ys = Tensor::scaled_dot_product_attention(&qs, &ks, &vs, mask, dropout, false, None, false);
    ys.reshape([rows, heads, blocks * band, head]).narrow(2, 0, time)
}

/// Which of the last and the own block each query sees: `[blocks, W, 2 W]`. Nothing stands before the first block.
fn band_mask(blocks: i64, band: i64) -> Tensor {
    let place = Tensor::arange(2 * band, (Kind::Int64, tch::Device::Cpu)); // of keys; queries stand at W + i
    let query = place.narrow(0, band, band).unsqueeze(-1); // [W, 1]
    let seen = place.le_tensor(&query).logical_and(&place.gt_tensor(&(&query - band))); // [W, 2 W]
    let first = seen.logical_and(&place.ge(band));
    let others = seen.unsqueeze(0).expand([blocks - 1, -1, -1], false);
    Tensor::cat(&[first.unsqueeze(0), others], 0)
}

/// Key or value heads, each repeated for the queries that read it: `[B, K, T, E]` to `[B, H, T, E]`.
fn for_queries(xs: &Tensor, qs: &Tensor) -> Tensor {
    match qs.size()[1] / xs.size()[1] {
        1 => xs.shallow_clone(),
        shared => xs.repeat_interleave_self_int(shared, 1, None),
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::rope::Rotations;

    /// A name, attention with so much dropout, and its band.
    type Way<'a> = (&'a str, &'a dyn Fn(f64) -> Tensor, i64);

    fn random(heads: i64, time: i64) -> Tensor {
        Tensor::randn([2, heads, time, 8], (Kind::Float, Device::Cpu))
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// The definition, with the mask of a band; one as long as the text is none.
    fn plain(qs: &Tensor, ks: &Tensor, vs: &Tensor, band: i64) -> Tensor {
        let time = qs.size()[2];
        let place = Tensor::arange(time, (Kind::Int64, Device::Cpu));
        let age = place.unsqueeze(-1) - &place; // [S, T]
        let hidden = age.lt(0).logical_or(&age.ge(band));
        let scores = qs.matmul(&ks.transpose(-1, -2)) / (qs.size()[3] as f64).sqrt();
        scores.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Float).matmul(vs)
    }

    #[test]
    fn causal_attention_is_its_formula() {
        let [qs, ks, vs] = [4, 4, 4].map(|heads| random(heads, 13));
        assert!(difference(&causal(&qs, &ks, &vs, 0.), &plain(&qs, &ks, &vs, 13)) < 1e-5);
    }

    #[test]
    fn the_fused_pass_is_the_formula_in_values_and_gradients() {
        for (time, heads, width, is_turned) in [
            (7, [2, 2], 16, false),
            (49, [2, 1], 32, true),
            (100, [6, 2], 48, true),
            (130, [1, 1], 128, false),
        ] {
            let options = (Kind::Float, Device::Cpu);
            let all = Tensor::randn([2, time, (heads[0] + 2 * heads[1]) * width], options);
            let all = all.to_kind(Kind::BFloat16);
            if !decoder::takes_attention(&all, heads) {
                return; // this CPU has the definition only
            }
            let frequencies: Vec<f64> = (0..width / 2).map(|i| 0.7f64.powi(i as i32)).collect();
            let place = Tensor::arange(time, (Kind::Int64, Device::Cpu));
            let turn = is_turned.then(|| Rotations::new(&frequencies, Device::Cpu).at(&place));
            let coefficients = Tensor::randn([2, time, heads[0] * width], options);
            let run = |of: fn(&Tensor, Option<&Turn>, [i64; 2], f64) -> Tensor, kind| {
                let all = all.to_kind(kind).detach().set_requires_grad(true);
                let ys = of(&all, turn.as_ref(), heads, 0.);
                let loss = (ys.to_kind(Kind::Float) * &coefficients).sum(Kind::Float);
                let gradient = Tensor::run_backward(&[loss], &[&all], false, false).remove(0);
                [ys.detach(), gradient].map(|it| it.to_kind(Kind::Float))
            };
            let [wanted, plain] = [Kind::Float, Kind::BFloat16].map(|kind| run(plain_joint, kind));
            let found = run(joint, Kind::BFloat16);
            for ((found, wanted), plain) in found.iter().zip(&wanted).zip(&plain) {
                let error = |xs: &Tensor| ((xs - wanted).norm() / wanted.norm()).double_value(&[]);
                let (found, plain) = (error(found), error(plain));
                assert!(found < 5e-3 && found < 1.2 * plain, "{time}: {found}, not {plain}");
            }
        }
    }

    #[test]
    fn a_band_is_the_masked_dense_one_in_values_and_gradients() {
        for (time, band) in [(12, 4), (13, 4), (7, 4), (4, 4), (3, 4), (9, 1), (30, 7)] {
            let tensors = [2, 2, 2].map(|heads| random(heads, time).set_requires_grad(true));
            let [qs, ks, vs] = &tensors;
            let coefficients = random(2, time);
            let found = banded(qs, ks, vs, band, 0.);
            let wanted = plain(qs, ks, vs, band);
            assert!(difference(&found, &wanted) < 1e-5, "{time}, {band}");
            let gradients = |ys: &Tensor| {
                let loss = (ys * &coefficients).sum(Kind::Float);
                Tensor::run_backward(&[loss], &[qs, ks, vs], false, false)
            };
            for (found, wanted) in gradients(&found).iter().zip(gradients(&wanted)) {
                assert!(difference(found, &wanted) < 1e-4, "{time}, {band}");
            }
        }
    }

    #[test]
    fn a_band_computes_no_scores_beyond_two_blocks_a_query() {
        let mask = band_mask(8, 16);
        assert_eq!(mask.size(), [8, 16, 32], "T 2 W scores, not T T");
        let seen = mask.sum_dim_intlist(-1, false, Kind::Int64); // of each query
        assert_eq!(seen.get(0), Tensor::arange_start(1, 17, (Kind::Int64, Device::Cpu)));
        assert_eq!(seen.get(7).eq(16).all().int64_value(&[]), 1, "no more than the band");
    }

    #[test]
    fn shared_heads_are_repeated_next_to_each_other() {
        let (qs, ks, vs) = (random(6, 5), random(2, 5), random(2, 5));
        let repeated = |xs: &Tensor| {
            let one = |head: i64| xs.select(1, head / 3);
            Tensor::stack(&(0..6).map(one).collect::<Vec<_>>(), 1)
        };
        let wanted = plain(&qs, &repeated(&ks), &repeated(&vs), 5);
        assert!(difference(&causal(&qs, &ks, &vs, 0.), &wanted) < 1e-5);
    }

    #[test]
    fn a_group_of_queries_reads_its_head_without_copies_of_it() {
        let (qs, ks, vs) = (random(6, 5), random(2, 5), random(2, 5));
        let mask = Tensor::ones([5, 5], (Kind::Bool, Device::Cpu)).tril(0).view([1, 1, 5, 5]);
        let found = masked(&qs, &ks, &vs, Some(&mask));
        assert!(difference(&found, &causal(&qs, &ks, &vs, 0.)) < 1e-5);
        let last = masked(&qs.narrow(2, 4, 1), &ks, &vs, None);
        assert!(difference(&last, &found.narrow(2, 4, 1)) < 1e-5);
    }

    #[test]
    fn one_head_for_all_queries_is_multi_query_attention() {
        let (qs, ks, vs) = (random(6, 5), random(1, 5), random(1, 5));
        let wanted = plain(&qs, &ks, &vs, 5); // broadcast
        assert!(difference(&causal(&qs, &ks, &vs, 0.), &wanted) < 1e-5);
        assert!(difference(&banded(&qs, &ks, &vs, 2, 0.), &plain(&qs, &ks, &vs, 2)) < 1e-5);
    }

    #[test]
    fn a_query_that_sees_nothing_gives_zeros_and_harms_no_other() {
        let tensors = [2, 2, 2].map(|heads| random(heads, 5).set_requires_grad(true));
        let [qs, ks, vs] = &tensors;
        let mask = Tensor::ones([5, 5], (Kind::Bool, Device::Cpu)).tril(0);
        let _ = mask.get(2).fill_(0);
        let ys = masked(qs, ks, vs, Some(&mask.view([1, 1, 5, 5])));
        let dense = plain(qs, ks, vs, 5);
        for i in [0, 1, 3, 4] {
            assert!(difference(&ys.select(2, i), &dense.select(2, i)) < 1e-5);
        }
        assert_eq!(ys.select(2, 2).abs().max().double_value(&[]), 0.);
        let gradients =
            Tensor::run_backward(&[ys.square().sum(Kind::Float)], &[qs, ks, vs], false, false);
        for gradient in gradients {
            assert_eq!(gradient.isfinite().all().int64_value(&[]), 1);
        }
    }

    #[test]
    fn dropout_zeroes_a_share_of_the_weights_and_scales_the_others() {
        let (heads, time) = (6, 16);
        let shape = [2, heads, time, time];
        let options = (Kind::Float, Device::Cpu);
        let [qs, ks] = [(); 2].map(|()| Tensor::randn(shape, options));
        let unit = Tensor::eye(time, options).expand(shape, false); // what is found is the weights themselves
        let joined = |xs: [&Tensor; 3]| {
            let flat = |xs: &Tensor| xs.transpose(1, 2).reshape([2, time, heads * time]);
            Tensor::cat(&xs.map(flat), -1)
        };
        let all = joined([&qs, &ks, &unit]);
        let by_joint = |dropout| {
            let ys = joint(&all, None, [heads, heads], dropout);
            ys.view([2, time, heads, time]).transpose(1, 2).contiguous()
        };
        let ways: [Way<'_>; 4] = [
            ("causal", &|dropout| causal(&qs, &ks, &unit, dropout), time),
            ("joint", &by_joint, time),
            ("short", &|dropout| banded(&qs, &ks, &unit, time, dropout), time),
            ("banded", &|dropout| banded(&qs, &ks, &unit, 5, dropout), 5),
        ];
        for (name, of, band) in ways {
            let (kept, found) = (of(0.), of(0.25));
            assert!(difference(&kept, &plain(&qs, &ks, &unit, band)) < 1e-5, "{name}");
            let is_zero = found.eq(0.).logical_and(&kept.gt(0.));
            let share = is_zero.sum(Kind::Double) / kept.gt(0.).sum(Kind::Double);
            let share = share.double_value(&[]); // of 1632 or 840
            assert!((share - 0.25).abs() < 0.06, "{name}: {share}");
            let scaled = (&kept / 0.75).masked_fill(&is_zero, 0.);
            assert!(difference(&found, &scaled) < 1e-5, "{name}");
        }
    }
}
