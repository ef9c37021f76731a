//! Lossless compression: sampling with the answer known.
//!
//! A range coder spends `-log2 p(x_i | x_<i)` bits on a symbol, with p from an engine of defined bits and quantised to
//! integers by one function on both sides: the frequencies of all levels ([`Categorical::frequencies`]), finer ones where there
//! are very many of them, or of a mixture over very many levels the cumulated ones of those that are asked for
//! ([`DiscretisedMixture::cumulated`]).
//!
//! [`Categorical::frequencies`]: crate::categorical::Categorical::frequencies
//! [`DiscretisedMixture::cumulated`]: crate::logistics::DiscretisedMixture::cumulated

mod archive;
mod symbol;

pub use archive::{Archive, Coding, Header};

use anyhow::{Result, ensure};
use constriction::backends::Cursor;
use constriction::stream::queue::{RangeDecoder, RangeEncoder};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

use crate::{
    autoregressive::{Conditional, Context, Engine},
    sampling::in_parallel,
};
use symbol::Symbols;

/// Words of 32 bits keep the end of a stream short; a state of 128 keeps the rounding of the range below 2^-72 a symbol,
/// where one of 64 bits would cost 0.1 % of images whose pixels are nearly certain.
type Encoder = RangeEncoder<u32, u128>;
type Decoder = RangeDecoder<u32, u128, Cursor<u32, Vec<u32>>>;

/// Examples that a thread steps side by side.
const GROUP: usize = 16;
/// Examples for which another stream pays: a stream costs a few bytes, and lets another thread work.
const EXAMPLES_PER_STREAM: usize = 256;
/// Streams at the most.
const MAX_STREAMS: usize = 8;

/// Rows of each stream: a function of the number of examples alone, so that a file does not depend on the machine.
fn streams(examples: usize) -> Vec<usize> {
    let count = (examples / EXAMPLES_PER_STREAM).clamp(1, MAX_STREAMS);
    (0..count).map(|i| examples * (i + 1) / count - examples * i / count).collect()
}

/// Encodes `symbols` `[B, N]` (by position; of each row as many as [`Context::length`] says) into streams of 32-bit words, on at most `threads` threads.
///
/// # Errors
/// A probability that is not a number, or a symbol outside its levels.
pub fn encode<E: Engine + Sync>(
    engine: &E,
    context: &E::Context,
    symbols: ArrayView2<'_, u32>,
    threads: usize,
    tick: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Vec<u32>>> {
    encode_streams(engine, context, symbols, &streams(symbols.nrows()), threads, tick)
}

/// [`encode`], with so many rows to each stream.
///
/// # Errors
/// As [`encode`].
///
/// # Panics
/// If the streams have more rows than there are.
pub fn encode_streams<E: Engine + Sync>(
    engine: &E,
    context: &E::Context,
    symbols: ArrayView2<'_, u32>,
    sizes: &[usize],
    threads: usize,
    tick: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Vec<u32>>> {
    let mut shares = Vec::new();
    let mut start = 0;
    for &rows in sizes {
        shares.push((start, symbols.slice_axis(Axis(0), (start..start + rows).into())));
        start += rows;
    }
    let encoded = in_parallel(shares, threads, |(first, share)| -> Result<Vec<u32>> {
        let mut coder = Encoder::new();
        each_group(engine, context, first, share.nrows(), |stepper, rows| {
            let mut conditional = Conditional::default();
            let mut model = Symbols::default();
            let ends = ends(engine, context, first, rows);
            for (k, &position) in engine.layout().order.iter().enumerate().take(last(&ends)) {
                let column: Vec<u32> =
                    rows.iter().map(|&row| share[[row, position as usize]]).collect();
                stepper.next(&mut conditional);
                for (row, &symbol) in column.iter().enumerate() {
                    if k >= ends[row] {
                        continue;
                    }
                    model.encode(symbol, &conditional, row, &mut coder)?;
                }
                stepper.feed(&column);
                tick(column.len());
            }
            Ok(())
        })?;
        Ok(coder.into_compressed().expect("a vector takes every word"))
    });
    encoded.into_iter().collect()
}

/// Decodes what [`encode`] made: the symbols `[B, N]` of `context.rows()` examples, zeros where a row has ended.
///
/// # Errors
/// Streams that are too few, or that the model cannot have written.
pub fn decode<E: Engine + Sync>(
    engine: &E,
    context: &E::Context,
    words: &[Vec<u32>],
    threads: usize,
    tick: &(dyn Fn(usize) + Sync),
) -> Result<Array2<u32>> {
    decode_streams(engine, context, words, &streams(context.rows()), threads, tick)
}

/// [`decode`] of what [`encode_streams`] made with the same `sizes`.
///
/// # Errors
/// As [`decode`].
///
/// # Panics
/// If the streams have more rows than there are.
pub fn decode_streams<E: Engine + Sync>(
    engine: &E,
    context: &E::Context,
    words: &[Vec<u32>],
    sizes: &[usize],
    threads: usize,
    tick: &(dyn Fn(usize) + Sync),
) -> Result<Array2<u32>> {
    let examples = context.rows();
    ensure!(
        words.len() == sizes.len(),
        "has {} streams, {examples} examples make {}",
        words.len(),
        sizes.len()
    );
    let mut symbols = Array2::zeros((examples, engine.layout().len()));
    let mut shares: Vec<(usize, ArrayViewMut2<'_, u32>, &Vec<u32>)> = Vec::new();
    let mut rest = symbols.view_mut();
    let mut start = 0;
    for (&rows, stream) in sizes.iter().zip(words) {
        let (share, tail) = rest.split_at(Axis(0), rows);
        rest = tail;
        shares.push((start, share, stream));
        start += rows;
    }
    let decoded = in_parallel(shares, threads, |(first, mut share, stream)| -> Result<()> {
        let mut coder = Decoder::from_compressed(stream.clone()).expect("a vector can be read");
        each_group(engine, context, first, share.nrows(), |stepper, rows| {
            let mut conditional = Conditional::default();
            let mut model = Symbols::default();
            let ends = ends(engine, context, first, rows);
            for (k, &position) in engine.layout().order.iter().enumerate().take(last(&ends)) {
                stepper.next(&mut conditional);
                let mut column = vec![0; rows.len()];
                for (row, &to) in rows.iter().enumerate() {
                    if k >= ends[row] {
                        continue;
                    }
                    let symbol = model.decode(&conditional, row, &mut coder)?;
                    share[[to, position as usize]] = symbol;
                    column[row] = symbol;
                }
                stepper.feed(&column);
                tick(column.len());
            }
            Ok(())
        })
    });
    decoded.into_iter().collect::<Result<()>>()?;
    Ok(symbols)
}

/// Steppers over `count` examples of `context` from `first` on, a group at a time; `rows` count from 0 within the share.
fn each_group<E: Engine>(
    engine: &E,
    context: &E::Context,
    first: usize,
    count: usize,
    mut work: impl FnMut(&mut dyn crate::Stepper, &[usize]) -> Result<()>,
) -> Result<()> {
    for start in (0..count).step_by(GROUP) {
        let rows: Vec<usize> = (start..(start + GROUP).min(count)).collect();
        let of_context: Vec<usize> = rows.iter().map(|row| first + row).collect();
        work(engine.stepper(&context.select(&of_context)).as_mut(), &rows)?;
    }
    Ok(())
}

/// Draws of each of `rows`, which count from `first` in the context.
fn ends<E: Engine>(engine: &E, context: &E::Context, first: usize, rows: &[usize]) -> Vec<usize> {
    let len = engine.layout().len();
    rows.iter().map(|row| context.length(first + row).unwrap_or(len).min(len)).collect()
}

fn last(ends: &[usize]) -> usize {
    ends.iter().copied().max().unwrap_or(0)
}

/// Packs symbols of `levels` equally likely levels: `log2(levels)` bits each, rounded up to whole bytes in all.
pub fn pack_uniform(symbols: &[u32], levels: u32) -> Vec<u8> {
    // digits of one large number in base `levels`, least significant first, carried through bytes
    let mut bytes: Vec<u8> = Vec::new();
    for &symbol in symbols.iter().rev() {
        let mut carry = u64::from(symbol);
        for byte in &mut bytes {
            let value = u64::from(*byte) * u64::from(levels) + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        while carry > 0 {
            bytes.push(carry as u8);
            carry >>= 8;
        }
    }
    bytes
}

/// Undoes [`pack_uniform`] for `count` symbols.
///
/// # Errors
/// Bytes that no `count` symbols of `levels` levels give.
pub fn unpack_uniform(bytes: &[u8], levels: u32, count: usize) -> Result<Vec<u32>> {
    ensure!(levels > 0 || count == 0, "the labels have no levels");
    let mut bytes = bytes.to_vec();
    let mut symbols = Vec::new();
    for _ in 0..count {
        let mut rest = 0u64;
        for byte in bytes.iter_mut().rev() {
            let value = (rest << 8) | u64::from(*byte);
            *byte = (value / u64::from(levels)) as u8;
            rest = value % u64::from(levels);
        }
        symbols.push(rest as u32);
    }
    ensure!(bytes.iter().all(|&byte| byte == 0), "the labels are corrupt");
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Markov;

    proptest! {
        #[test]
        fn labels_survive_packing(symbols in prop::collection::vec(0u32..10, 0..200)) {
            let bytes = pack_uniform(&symbols, 10);
            prop_assert!(bytes.len() as f64 <= (symbols.len() as f64 * 10f64.log2() / 8.).ceil() + 1.);
            prop_assert_eq!(unpack_uniform(&bytes, 10, symbols.len()).unwrap(), symbols);
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_on_any_number_of_threads() -> Result<()> {
        let model = Markov::new(40, 3);
        let symbols = model.sample(700, 5);
        let once = encode(&model, &crate::testing::rows(700), symbols.view(), 1, &|_| {})?;
        let twice = encode(&model, &crate::testing::rows(700), symbols.view(), 2, &|_| {})?;
        assert_eq!(once, twice);
        assert_eq!(decode(&model, &crate::testing::rows(700), &twice, 2, &|_| {})?, symbols);
        Ok(())
    }

    #[test]
    fn rows_that_end_early_are_coded_to_their_end() -> Result<()> {
        let model = Markov::new(30, 3);
        let context = crate::testing::Rows(vec![30, 4, 0, 17]);
        let mut symbols = model.sample(4, 5);
        let streams = encode(&model, &context, symbols.view(), 1, &|_| {})?;
        for (mut row, &end) in symbols.outer_iter_mut().zip(&context.0) {
            row.slice_mut(ndarray::s![end..]).fill(0);
        }
        assert_eq!(decode(&model, &context, &streams, 1, &|_| {})?, symbols);
        Ok(())
    }

    #[test]
    fn the_streams_are_as_long_as_the_nats_say() -> Result<()> {
        let model = Markov::new(200, 4);
        let symbols = model.sample(100, 6);
        let words: usize = encode(&model, &crate::testing::rows(100), symbols.view(), 1, &|_| {})?
            .iter()
            .map(Vec::len)
            .sum();
        let bits = model.nats(symbols.view()) / std::f64::consts::LN_2;
        let written = words as f64 * 32.;
        assert!(
            written >= bits && written <= bits * 1.0001 + 96.,
            "{written} bits written, {bits} bits of information"
        );
        Ok(())
    }

    #[test]
    fn a_symbol_beyond_its_levels_is_refused() {
        let model = Markov::new(4, 3);
        let symbols = Array2::from_elem((1, 4), 3);
        let error =
            encode(&model, &crate::testing::rows(1), symbols.view(), 1, &|_| {}).unwrap_err();
        assert_eq!(error.to_string(), "level 3 is beyond the model's 3");
    }
}
