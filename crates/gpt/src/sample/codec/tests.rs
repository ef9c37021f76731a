//! The codec's laws, over a small decoder of random weights.

use core_layers::{Conditional, Engine as _};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::*;
use crate::{
    config::DecoderConfig,
    sample::exact::tests::{gpt2, random_tokens, random_weights},
};

/// A byte model of a short context.
struct Subject {
    engine: ExactEngine,
    hash: String,
}

impl Subject {
    fn new() -> Self {
        let config = DecoderConfig { vocabulary: 257, d_model: 8, d_ff: 16, layers: 1, ..gpt2() };
        let weights = random_weights(&config, 4);
        let engine = ExactEngine::new(&config, &weights).unwrap();
        Self { hash: hash(&config, &weights, &Tokenizer::Bytes), engine }
    }

    fn codec(&self) -> TextCodec<'_> {
        let (engine, hash) = (&self.engine, &self.hash);
        TextCodec { engine, tokenizer: &Tokenizer::Bytes, hash, threads: 1 }
    }

    fn compress(&self, bytes: &[u8]) -> Vec<u8> {
        let codec = self.codec();
        let file = codec.spell("folder/a.txt".as_ref(), bytes).unwrap();
        codec.compress(&file, &|_| {}).unwrap()
    }
}

#[test]
fn any_bytes_come_back_on_any_number_of_threads() {
    let subject = Subject::new();
    let many: Vec<u8> = (0..20_000).map(|i| (i * i % 251) as u8).collect();
    for bytes in [&b""[..], b"x", &[0xff, 0x00, 0xc3], "Grüße\r\n".as_bytes(), &many[..300]] {
        let file = subject.compress(bytes);
        for threads in [1, 2] {
            let codec = TextCodec { threads, ..subject.codec() };
            let back = codec.decompress(&file, &|_| {}).unwrap();
            assert_eq!(back, ("a.txt".to_owned(), bytes.to_vec()));
        }
    }
}

const TEXT: &str = "p(x) = prod_t p(x_t | start, x_<t)\n";

#[test]
fn a_file_that_format_version_1_wrote_still_opens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/v1/text.chr");
    let file = std::fs::read(path).unwrap();
    let (name, bytes) = Subject::new().codec().decompress(&file, &|_| {}).unwrap();
    assert_eq!((name.as_str(), bytes), ("a.txt", TEXT.repeat(3).into_bytes()));
}

#[test]
fn a_file_of_several_parts_comes_back() {
    let subject = Subject::new();
    let bytes: Vec<u8> = (0..=2 * 16_384).map(|i| (i % 7 * 9) as u8).collect();
    let file = subject.compress(&bytes);
    assert_eq!(subject.codec().decompress(&file, &|_| {}).unwrap().1, bytes);
}

#[test]
fn the_bits_written_are_the_nats_of_the_model() {
    let subject = Subject::new();
    let bytes: Vec<u8> = random_tokens(&gpt2(), 1, 4000).iter().map(|&it| it as u8).collect();
    let engine = subject.engine.with_length(bytes.len());
    let mut stepper = engine.stepper(&TextContext::full(1));
    let mut conditional = Conditional::default();
    let mut nats = 0.;
    for &byte in &bytes {
        stepper.next(&mut conditional);
        let logits = conditional.row(0);
        let total: f64 = logits.iter().map(|&it| f64::from(it).exp()).sum();
        nats += total.ln() - f64::from(logits[byte as usize]);
        stepper.feed(&[u32::from(byte)]);
    }
    let header = subject.compress(b"").len();
    let written = 8. * (subject.compress(&bytes).len() - header) as f64;
    let bits = nats / std::f64::consts::LN_2;
    // and the words that end a stream, and digits in the header
    assert!(written >= bits && written <= bits * 1.001 + 96., "{written} for {bits}");
}

#[test]
fn a_file_of_another_model_is_refused() {
    let (subject, mut other) = (Subject::new(), Subject::new());
    let file = subject.compress(b"abc");
    other.hash = "0".repeat(64);
    let error = other.codec().decompress(&file, &|_| {}).unwrap_err().to_string();
    assert!(
        error.starts_with("was compressed with the model ") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn more_tokens_than_the_words_can_hold_are_refused_before_any_is_decoded() {
    let subject = Subject::new();
    let file = subject.compress(b"abcabcabc");
    let mut archive = Archive::from_bytes(&file).unwrap();
    assert_eq!(archive.header.shape, [9]);
    for (shape, wanted) in [
        (vec![9_000_000], "announces 9000000 tokens, too many for its "),
        (vec![usize::MAX], "announces 18446744073709551615 tokens, more than "),
        (vec![9, 1], "holds a file of shape [9, 1]"),
        (vec![10], "is corrupt"),
    ] {
        archive.header.shape = shape;
        let bytes = archive.to_bytes().unwrap();
        let error = subject.codec().decompress(&bytes, &|_| {}).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
}

#[test]
fn no_bytes_make_decompression_panic() {
    let subject = Subject::new();
    let good = subject.compress(b"the quick brown fox");
    let prefix = good.len() - 30; // a sound header, and anything behind it
    TestRunner::new(Config::with_cases(64))
        .run(&(any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), |(keep, bytes)| {
            let start = if keep { &good[..prefix] } else { &[] };
            let _ = subject.codec().decompress(&[start, &bytes].concat(), &|_| {});
            Ok(())
        })
        .unwrap();
}

#[test]
fn an_edited_file_is_refused_or_holds_the_same_bytes() {
    let subject = Subject::new();
    let text = b"the quick brown fox jumps";
    let good = subject.compress(text);
    let edits = prop::collection::vec((0..good.len(), any::<u8>()), 1..4);
    TestRunner::new(Config::with_cases(96))
        .run(&(edits, 0usize..20), |(edits, cut)| {
            let mut bytes = good.clone();
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            bytes.truncate(good.len() - cut);
            if let Ok((_, back)) = subject.codec().decompress(&bytes, &|_| {}) {
                prop_assert_eq!(back, text);
            }
            Ok(())
        })
        .unwrap();
}
