//! Files made here, whole, wrong and hostile.

mod file;

use core_layers::encoded::{Encoded, Encoding};
use proptest::prelude::*;

use self::file::{File, said, text};
use super::*;
use crate::{
    config::{Norm, Positions, Scaling},
    formats::tests::{fixture, for_edits, greatest_difference, path},
};

/// The line that refuses a small file after an edit.
fn refusal(edit: impl FnOnce(&mut File)) -> String {
    let mut file = File::small();
    edit(&mut file);
    let line = format!("{:#}", file.read().unwrap_err());
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn a_small_file_is_read_where_it_lies() {
    let bytes = Bytes::from(File::small().bytes());
    let model = parse(&bytes, "x").unwrap();
    let config = &model.config;
    assert_eq!((config.vocabulary, config.layers, config.d_head, config.kv_heads), (5, 1, 32, 1));
    assert_eq!((config.norm, config.norm_epsilon, config.tied), (Norm::RmsNorm, 1e-5, true));
    let theta = Positions::Rope { theta: 10_000., scaling: Scaling::None };
    assert_eq!((config.positions, model.name.as_str(), model.starts), (theta, "x", false));
    let up = model.weights.of("layers.0.feed_forward.up.weight");
    assert_eq!((up.rows(), up.columns(), up.encoding()), (64, 32, Encoding::Q8_0));
    assert!(bytes.as_ptr_range().contains(&up.bytes().as_ptr()), "without a copy");
}

#[test]
fn rows_of_queries_and_keys_are_put_in_the_order_of_halves() {
    let model = File::small().read().unwrap();
    let (query, value) = (
        model.weights.of("layers.0.attention.query.weight"),
        model.weights.of("layers.0.attention.value.weight"),
    );
    // neighbours 2 i and 2 i + 1 were a pair; now i and i + 16 are
    for (row, from) in [(0, 0), (1, 2), (15, 30), (16, 1), (31, 31)] {
        assert_eq!(query.row(row), value.row(from), "row {row}");
    }
}

#[test]
fn biases_of_queries_move_with_their_rows() {
    let bias: Vec<f32> = (0..8).map(|it| it as f32).collect();
    let ordered = tensors::paired_by_halves(&Encoded::from_f32(1, 8, &bias), 2).unwrap();
    assert_eq!(ordered.to_f32(), [0., 2., 1., 3., 4., 6., 5., 7.]);
    assert!(
        tensors::paired_by_halves(&Encoded::from_f32(1, 9, &[0.; 9]), 3).is_none(),
        "odd heads"
    );
}

#[test]
fn gpt_2_s_fused_projections_are_taken_apart() {
    let (model, mut file) = (fixture("gpt2-tied"), File::default());
    file.set("general.architecture", said(8, &text("gpt2")));
    let config = &model.config;
    for (key, value) in [
        ("block_count", config.layers),
        ("context_length", config.context),
        ("embedding_length", config.d_model),
        ("feed_forward_length", config.d_ff),
        ("attention.head_count", config.heads),
    ] {
        file.set(&format!("gpt2.{key}"), said(4, &(value as u32).to_le_bytes()));
    }
    file.set("gpt2.attention.layer_norm_epsilon", said(6, &1e-5f32.to_le_bytes()));
    let mut add = |name: &str, parts: &[&str], end: &str| {
        let parts: Vec<&Encoded> =
            parts.iter().map(|it| model.weights.of(&format!("{it}.{end}"))).collect();
        let is_vector = end == "bias" || name.ends_with("norm");
        let (rows, columns) = (parts.iter().map(|it| it.rows()).sum::<usize>(), parts[0].columns());
        let shape = if is_vector { vec![rows * columns] } else { vec![columns, rows] };
        let shape: Vec<u64> = shape.into_iter().map(|it| it as u64).collect();
        file.add(&format!("{name}.{end}"), &shape, 0, 0);
        file.data.extend(parts.iter().flat_map(|it| it.bytes()));
    };
    for (name, ours) in [("token_embd", "embedding"), ("position_embd", "position")] {
        add(name, &[ours], "weight");
    }
    for end in ["weight", "bias"] {
        add("output_norm", &["norm"], end);
        for layer in 0..2 {
            let ours = |part: &str| format!("layers.{layer}.{part}");
            let fused = ["query", "key", "value"].map(|it| ours(&format!("attention.{it}")));
            add(&format!("blk.{layer}.attn_qkv"), &fused.each_ref().map(String::as_str), end);
            for (name, part) in [
                ("attn_norm", "attention_norm"),
                ("attn_output", "attention.output"),
                ("ffn_norm", "feed_forward_norm"),
                ("ffn_up", "feed_forward.up"),
                ("ffn_down", "feed_forward.down"),
            ] {
                add(&format!("blk.{layer}.{name}"), &[&ours(part)], end);
            }
        }
    }
    let read = file.read().unwrap();
    assert_eq!((read.config.norm, read.config.positions), (Norm::LayerNorm, Positions::Learned));
    let greatest = greatest_difference(&read, "gpt2-tied");
    assert!(greatest < 1e-4, "{greatest}");
}

#[test]
fn metadata_that_changes_the_model_is_read_or_refused() {
    let whole = |value: u32| said(4, &value.to_le_bytes());
    let set = |key: &'static str, value: Vec<u8>| move |file: &mut File| file.set(key, value);
    let linear = |file: &mut File| {
        file.set("llama.rope.scaling.type", said(8, &text("linear")));
        file.set("llama.rope.scaling.factor", said(6, &2.5f32.to_le_bytes()));
        file.set("llama.rope.freq_base", said(6, &1e6f32.to_le_bytes()));
    };
    let mut file = File::small();
    linear(&mut file);
    let positions = Positions::Rope { theta: 1e6, scaling: Scaling::Linear { factor: 2.5 } };
    assert_eq!(file.read().unwrap().config.positions, positions);
    for (edit, line) in [
        (
            set("llama.rope.scaling.type", said(8, &text("yarn"))),
            "llama.rope.scaling.type is \"yarn\", but must be one of none, linear",
        ),
        (
            set("llama.attention.scale", said(6, &[0; 4])),
            "\"llama.attention.scale\" is 0, but must be left out: nobody here knows what it changes",
        ),
        (
            set("llama.expert_count", whole(8)),
            "llama.expert_count is 8, but must be 0: mixtures are not known",
        ),
        (
            set("llama.rope.dimension_count", whole(16)),
            "llama.rope.dimension_count is 16, but must be the width of a head, 32",
        ),
        (
            set("general.architecture", said(8, &text("qwen2"))),
            "general.architecture is \"qwen2\", but must be one of llama, gpt2",
        ),
        (
            set("llama.block_count", whole(2)),
            "tensor \"layers.1.attention.key.weight\" is missing, the configuration needs [32, 32]",
        ),
        (
            set("llama.block_count", whole(9_999_999)),
            "holds 11 tensors, too few for the 9999999 layers of its configuration",
        ),
        (
            set("llama.block_count", said(8, &text("x"))),
            "llama.block_count is \"x\", but must be a whole number",
        ),
        (set("llama.vocab_size", whole(6)), "llama.vocab_size is 6, but the embedding has 5 rows"),
        (
            set("llama.attention.head_count", whole(0)),
            "model.heads is 0, but must be between 1 and 16777216",
        ),
        (
            set(
                "llama.attention.head_count_kv",
                said(
                    9,
                    &[&4u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[1, 0, 0, 0, 2, 0, 0, 0]]
                        .concat(),
                ),
            ),
            "llama.attention.head_count_kv differs from layer to layer, but must not",
        ),
    ] {
        assert_eq!(refusal(edit), line);
    }
}

#[test]
fn divisors_of_llama_3_become_its_scaling() {
    let with = |first: f32| {
        let mut file = File::small();
        file.set("llama.rope.freq_base", said(6, &500_000f32.to_le_bytes()));
        let start = file.data.len();
        file.add("rope_freqs.weight", &[16], 0, 64);
        let start = start.next_multiple_of(32);
        let low = |i: i32| std::f32::consts::TAU * 500_000f32.powf(i as f32 / 16.);
        for i in 0..16 {
            let smooth = ((8192. / low(i) - 1.) / 3.).clamp(0., 1.);
            let divisor = if i == 0 { first } else { 1. / ((1. - smooth) / 8. + smooth) };
            file.data[start + 4 * i as usize..][..4].copy_from_slice(&divisor.to_le_bytes());
        }
        file.read()
    };
    let scaling = Scaling::Llama3 {
        factor: 8.,
        low_frequency_factor: 1.,
        high_frequency_factor: 4.,
        original_context: 8192,
    };
    assert_eq!(with(1.).unwrap().config.positions, Positions::Rope { theta: 500_000., scaling });
    let line = format!("{:#}", with(2.).unwrap_err());
    assert!(
        line.starts_with("tensor \"rope_freqs.weight\" is 2 at 0, but must be 1.0000"),
        "{line}"
    );
}

#[test]
fn lies_about_sizes_and_places_are_refused() {
    type Lie<'a> = (&'a dyn Fn(&mut File), &'a str);
    let name = "blk.0.attn_q.weight";
    let cases: [Lie<'_>; 9] = [
        (
            &|file| file.tensor(name).3 = 1 << 40,
            ": goes from 1099511627776 over 1088 bytes, the file has ",
        ),
        (
            &|file| file.tensor(name).3 = u64::MAX - 31,
            ": goes from 18446744073709551584 over 1088 bytes, the file has ",
        ),
        (&|file| file.tensor(name).3 += 1, ": starts at 193, but must at a multiple of 32"),
        (
            &|file| file.tensor(name).1 = vec![33, 32],
            ": has rows of 33 values, q8_0 needs a multiple of 32",
        ),
        (
            &|file| file.tensor(name).1 = vec![32, u64::MAX],
            ": has impossible shape [18446744073709551615, 32]",
        ),
        (
            &|file| file.tensor(name).1 = vec![1 << 40, 1 << 40],
            ": has impossible shape [1099511627776, 1099511627776]",
        ),
        (&|file| file.tensor(name).1 = vec![32, 0], ": has impossible shape [32, 0]"),
        (&|file| file.tensor(name).1 = vec![1; 5], ": has 5 axes, but must have 1 to 4"),
        (
            &|file| file.tensor(name).2 = 10,
            ": has type 10, but must have one of f32, f16, bf16, q8_0, ",
        ),
    ];
    for (edit, wanted) in cases {
        let line = refusal(|file| edit(file));
        assert!(line.contains(name) && line.contains(wanted), "{line}, not {wanted}");
    }
    let line = refusal(|file| file.tensor(name).3 -= 32);
    assert_eq!(line, format!("tensors \"token_embd.weight\" and \"{name}\" overlap"));
    let line = refusal(|file| file.tensor(name).0 = "blk.0.attn_k.weight".into());
    assert_eq!(line, "tensor \"blk.0.attn_k.weight\" stands twice");
    let line = refusal(|file| file.metadata.extend(file.metadata.clone()));
    assert_eq!(line, "metadata \"general.architecture\" stands twice");
    let line = refusal(|file| file.tensor(name).0 = "blk.0.attn_z.weight".into());
    assert_eq!(
        line,
        "tensor \"layers.0.attention.query.weight\" is missing, the configuration needs [32, 32]"
    );
    let line = refusal(|file| file.set("general.alignment", said(4, &[0; 4])));
    assert_eq!(line, "general.alignment is 0, but must be a power of two below 2^20");
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_allocated() {
    let line =
        |start: &[u8]| format!("{:#}", parse(&Bytes::from(start.to_vec()), "x").unwrap_err());
    let many = [&b"GGUF\x03\0\0\0"[..], &u64::MAX.to_le_bytes(), &[0; 8]].concat();
    assert_eq!(
        line(&many),
        "of tensors: announces 18446744073709551615 things, there is room for 0"
    );
    assert_eq!(
        line(b"GGUF\0\0\0\x03"),
        "has GGUF version 50331648, but must have 2 or 3, little-endian"
    );
    assert_eq!(line(b"GGML"), "is no GGUF: it does not start with that word");
    for (value, wanted) in [
        (
            said(8, &u64::MAX.to_le_bytes()),
            "is cut short: 18446744073709551615 bytes should follow",
        ),
        (
            said(9, &[&4u32.to_le_bytes()[..], &(1u64 << 61).to_le_bytes()].concat()),
            "announces 2305843009213693952 things",
        ),
        (
            said(9, &[&8u32.to_le_bytes()[..], &(1u64 << 40).to_le_bytes()].concat()),
            "announces 1099511627776 things",
        ),
        (said(9, &[&9u32.to_le_bytes()[..], &[0; 8]].concat()), "is an array of arrays"),
        (said(13, &[]), "has kind 13, but must have 0 to 12"),
        (said(7, &[2]), "is a bool of 2"),
        (said(8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]), "holds a text that is no UTF-8: \\xff"),
    ] {
        let line = refusal(|file| file.set("general.name", value));
        assert!(line.starts_with("metadata \"general.name\": ") && line.contains(wanted), "{line}");
    }
}

#[test]
fn a_tokenizer_of_more_tokens_than_the_model_is_refused() {
    let bytes = std::fs::read(path("gguf-text/model.gguf")).unwrap();
    let model = fixture("gguf-text/model.gguf");
    assert_eq!((model.tokenizer.vocabulary(), model.config.vocabulary), (289, 289));
    assert_eq!((model.stops.as_slice(), model.starts, model.config.start), (&[2][..], false, 1));
    assert!(model.chat_template.is_some_and(|it| it.contains("<|im_start|>")));
    assert_eq!(model.name, "A small llama");
    // 288 rows for 289 tokens: in the embedding's shape and in what is said of it
    let mut edited = bytes.clone();
    let at = |bytes: &[u8], what: &[u8]| {
        bytes.windows(what.len()).position(|it| it == what).unwrap() + what.len()
    };
    let place = at(&bytes, b"token_embd.weight") + 4 + 8;
    edited[place..place + 8].copy_from_slice(&288u64.to_le_bytes());
    let place = at(&bytes, b"llama.vocab_size") + 4;
    edited[place..place + 4].copy_from_slice(&288u32.to_le_bytes());
    let line = format!("{:#}", parse(&edited.into(), "x").unwrap_err());
    assert_eq!(line, "its tokenizer has 289 tokens, the model knows 288");
}

#[test]
fn an_edited_or_cut_file_is_read_or_refused() {
    let bytes = File::small().bytes();
    let header = bytes.len() - File::small().data.len();
    for_edits(&bytes[..header], 3000, |edited| {
        let cut = edited.len() < header;
        let rest = if cut { &[][..] } else { &bytes[header..] };
        if let Ok(model) = parse(&Bytes::from([&edited, rest].concat()), "x") {
            let _ = model.weights.0.values().map(|it| it.to_f32().len()).sum::<usize>();
        }
    });
    for_edits(&bytes, 300, |edited| drop(parse(&Bytes::from(edited), "x")));
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(version in 2u8..4, counts in any::<[u8; 2]>(), tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let start = [b'G', b'G', b'U', b'F', version, 0, 0, 0, counts[0] % 4, 0, 0, 0, 0, 0, 0, 0, counts[1] % 4, 0, 0, 0, 0, 0, 0, 0];
        let _ = parse(&Bytes::from([&start[..], &tail].concat()), "x");
        let _ = parse(&Bytes::from(tail), "x");
    }
}
