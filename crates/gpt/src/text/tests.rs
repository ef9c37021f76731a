use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const FIXTURES: [(&str, &str); 5] = [
    ("gpt2", include_str!("fixtures/gpt2.json")),
    ("smollm", include_str!("fixtures/smollm.json")),
    ("llama3", include_str!("fixtures/llama3.json")),
    ("llama", include_str!("fixtures/llama.json")),
    ("metaspace", include_str!("fixtures/metaspace.json")),
];

fn fixture(name: &str) -> Tokenizer {
    let (_, json) = FIXTURES.iter().find(|(it, _)| *it == name).unwrap();
    Tokenizer::from_json(json).unwrap()
}

fn cases() -> Value {
    serde_json::from_str(include_str!("fixtures/cases.json")).unwrap()
}

fn texts() -> Vec<String> {
    serde_json::from_value(cases()["texts"].clone()).unwrap()
}

fn spelled(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| tokenizer.bytes(token)).collect()
}

fn subwords(tokenizer: &Tokenizer) -> &Subwords {
    match tokenizer {
        Tokenizer::Subwords(it) => it,
        _ => panic!("no subwords"),
    }
}

fn refusal(json: &Value) -> String {
    let line = format!("{:#}", Tokenizer::from_json(&json.to_string()).unwrap_err());
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn tokens_are_those_of_hugging_face() {
    let cases = cases();
    for (name, _) in FIXTURES {
        let tokenizer = fixture(name);
        for (i, text) in texts().iter().enumerate() {
            let wanted = |how: &str| -> Vec<u32> {
                serde_json::from_value(cases[name][how][i].clone()).unwrap()
            };
            assert_eq!(tokenizer.encode(text), wanted("plain"), "{name}: {text:?}");
            assert_eq!(tokenizer.encode_special(text), wanted("special"), "{name}: {text:?}");
        }
    }
}

#[test]
fn the_bytes_of_a_texts_tokens_are_the_text() -> Result<()> {
    for (name, _) in FIXTURES {
        let tokenizer = fixture(name);
        for text in texts().iter().filter(|it| !it.is_empty()) {
            if !tokenizer.prefix().is_empty() && text.contains('\u{2581}') {
                let line = tokenizer.try_encode(text).unwrap_err().to_string();
                assert!(line.starts_with("no token stands for '\u{2581}', at byte "), "{line}");
            } else {
                let bytes = spelled(&tokenizer, &tokenizer.try_encode(text)?);
                let whole = [tokenizer.prefix(), text.as_bytes()].concat();
                assert!(bytes == whole || bytes == text.as_bytes(), "{name}: {text:?}");
                if !text.starts_with(' ') {
                    assert_eq!(tokenizer.decode(&tokenizer.encode(text)), *text, "{name}");
                }
            }
            let exact = tokenizer.encode_bytes(text.as_bytes())?;
            assert_eq!(spelled(&tokenizer, &exact), text.as_bytes(), "{name}: {text:?}");
        }
    }
    Ok(())
}

#[test]
fn exact_bytes_take_whole_words_without_a_space_before_the_text() -> Result<()> {
    for (name, _) in FIXTURES {
        let (tokenizer, text) = (fixture(name), "the lady and her father");
        let exact = tokenizer.encode_bytes(text.as_bytes())?;
        assert!(exact.len() < text.len() * 2 / 3, "{name}: {exact:?}");
        let rest = " and her father";
        let whole = tokenizer.encode(text);
        assert!(whole.ends_with(&tokenizer.encode_bytes(rest.as_bytes())?), "{name}");
    }
    Ok(())
}

#[test]
fn every_byte_has_a_token_that_spells_it() -> Result<()> {
    for tokenizer in FIXTURES.map(|(name, _)| fixture(name)).into_iter().chain([Tokenizer::Bytes]) {
        for byte in 0..=255u8 {
            let tokens = tokenizer.encode_bytes(&[byte])?;
            assert_eq!(spelled(&tokenizer, &tokens), [byte]);
        }
        let end = tokenizer.end_of_text();
        assert!(tokenizer.bytes(end).is_empty() && tokenizer.special(end).is_some());
        let count = tokenizer.vocabulary() as u32;
        assert!(tokenizer.bytes(count).is_empty() && tokenizer.bytes(u32::MAX).is_empty());
        assert!(tokenizer.special(count).is_none());
    }
    Ok(())
}

#[test]
fn a_text_in_parts_has_the_tokens_of_the_whole() {
    let text = texts().join(" and then, as she said, ").replace('\u{2581}', "_");
    let text = text.replace("two  spaces", "two, spaces"); // an added token of one of them
    for (name, _) in FIXTURES {
        let tokenizer = fixture(name);
        let subwords = subwords(&tokenizer);
        let whole = subwords.encode_in_parts(&text, usize::MAX);
        for size in [1, 7, 50] {
            assert_eq!(subwords.encode_in_parts(&text, size), whole, "{name}, {size}");
        }
    }
}

#[test]
fn a_tokenizer_survives_its_json() -> Result<()> {
    let texts = texts();
    let characters = Tokenizer::characters(texts.iter().map(String::as_str));
    let mut all = vec![Tokenizer::Bytes, characters];
    all.extend(FIXTURES.map(|(name, _)| fixture(name)));
    all.push(fixture("smollm").with_end_of_text(1)?);
    for tokenizer in all {
        let again = Tokenizer::from_json(&tokenizer.to_json())?;
        assert_eq!(again, tokenizer);
        assert_eq!(again.hash(), tokenizer.hash());
        assert_eq!(again.end_of_text(), tokenizer.end_of_text());
        let foreign = Tokenizer::from_json(&tokenizer.to_hugging_face())?;
        assert_eq!(foreign.vocabulary(), tokenizer.vocabulary());
        for text in &texts {
            assert_eq!(foreign.encode(text), tokenizer.encode(text), "{text:?}");
        }
        for token in 0..tokenizer.vocabulary() as u32 {
            assert_eq!(foreign.bytes(token), tokenizer.bytes(token));
            assert_eq!(foreign.special(token), tokenizer.special(token));
        }
    }
    assert_ne!(fixture("smollm").with_end_of_text(1)?, fixture("smollm"));
    assert_ne!(fixture("smollm"), fixture("gpt2"));
    assert!(fixture("smollm").with_end_of_text(400).is_err());
    Ok(())
}

#[test]
fn special_tokens_have_names() {
    let tokenizer = fixture("smollm");
    assert_eq!(tokenizer.special_token("<|im_start|>"), Some(1));
    assert_eq!(tokenizer.special_token("the"), None);
    assert_eq!(tokenizer.end_of_text(), 0);
    assert_eq!(fixture("llama").end_of_text(), 2, "</s>, not <unk> or <s>");
    assert_eq!(Tokenizer::Bytes.special_token(END_OF_TEXT), Some(256));
    let text = "<|im_start|>user";
    assert_eq!(spelled(&tokenizer, &tokenizer.encode_special(text)), b"user");
    assert_eq!(spelled(&tokenizer, &tokenizer.encode(text)), text.as_bytes());
}

#[test]
fn the_most_frequent_pairs_are_merged_first_and_always_the_same() -> Result<()> {
    let text = "low low low lower lower newest newest newest newest newest widest widest";
    let tokenizer = Tokenizer::train([text].into_iter(), 262)?;
    assert_eq!(tokenizer.vocabulary(), 262);
    // of these words, (e, s) stands 7 times, (es, t) 7, (space, n) is behind (l, o) 5, by its count of 5 and order
    let merged: Vec<String> = (257..262).map(|token| tokenizer.decode(&[token])).collect();
    assert_eq!(merged[..2], ["es", "est"]);
    assert_eq!(tokenizer.decode(&tokenizer.encode(text)), text);
    assert_eq!(Tokenizer::train([text].into_iter(), 262)?, tokenizer);
    let (first, second) = text.split_at(30);
    assert!(second.starts_with(' '));
    assert_eq!(Tokenizer::train([first, second].into_iter(), 262)?, tokenizer, "parts or whole");
    let line = Tokenizer::train([text].into_iter(), 256).unwrap_err().to_string();
    assert!(line.starts_with("the vocabulary of a BPE is 256, but must be 257"), "{line}");
    Ok(())
}

/// The vocabulary of a fixture in order, and its merges.
fn lists(name: &str) -> (Vec<String>, Vec<String>) {
    let (_, json) = FIXTURES.iter().find(|(it, _)| *it == name).unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    let numbered: BTreeMap<String, usize> =
        serde_json::from_value(json["model"]["vocab"].clone()).unwrap();
    let mut tokens = vec![String::new(); numbered.len()];
    for (string, token) in numbered {
        tokens[token] = string;
    }
    let merges: Vec<[String; 2]> = serde_json::from_value(json["model"]["merges"].clone()).unwrap();
    (tokens, merges.iter().map(|pair| pair.join(" ")).collect())
}

#[test]
fn gpt_2s_own_files_say_what_its_json_says() -> Result<()> {
    let (tokens, merges) = lists("gpt2");
    let vocabulary: BTreeMap<&String, usize> = tokens.iter().zip(0..).collect();
    let vocabulary = serde_json::to_string(&vocabulary)?;
    let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
    let (found, wanted) = (Tokenizer::from_gpt2(&vocabulary, &merges)?, fixture("gpt2"));
    for text in texts() {
        assert_eq!(found.encode(&text), wanted.encode(&text));
    }
    let line = |vocabulary: &str, merges: &str| {
        Tokenizer::from_gpt2(vocabulary, merges).unwrap_err().to_string()
    };
    assert!(line("{", "").starts_with("the vocabulary is no JSON"));
    assert_eq!(line("{}", ""), "the vocabulary has no <|endoftext|>");
    assert_eq!(line(&vocabulary, "#version\nt h\nx"), "line 3 of the merges is no pair");
    assert!(line(&vocabulary, "th zzzzz").starts_with("is no tokenizer of Hugging Face"));
    Ok(())
}

#[test]
fn a_gguf_says_what_the_json_says() -> Result<()> {
    for (name, pre) in [("gpt2", "gpt-2"), ("smollm", "smollm"), ("llama3", "llama-bpe")] {
        let (mut tokens, merges) = lists(name);
        let wanted = fixture(name);
        let kinds: Vec<i32> = (0..wanted.vocabulary() as u32)
            .map(|token| if wanted.special(token).is_some() { 3 } else { 1 })
            .collect();
        let others = tokens.len() as u32..wanted.vocabulary() as u32;
        tokens.extend(others.map(|token| {
            wanted.special(token).map_or_else(|| wanted.decode(&[token]), str::to_owned)
        }));
        let mut gguf = GgufTokenizer {
            model: "gpt2".into(),
            pre: Some(pre.into()),
            tokens,
            token_types: kinds,
            merges,
            ..GgufTokenizer::default()
        };
        if name == "llama3" {
            *gguf.token_types.last_mut().unwrap() = 4;
        }
        let found = Tokenizer::from_gguf(&gguf)?;
        assert_eq!(found.end_of_text(), wanted.end_of_text());
        for text in texts() {
            assert_eq!(found.encode(&text), wanted.encode(&text), "{name}: {text:?}");
            assert_eq!(found.encode_special(&text), wanted.encode_special(&text), "{name}");
        }
    }
    Ok(())
}

/// Of llama.cpp's kind: the union with the greatest score first, the leftmost of equal ones.
fn sentence_piece(tokens: &[(&str, f32)]) -> GgufTokenizer {
    let mut gguf = GgufTokenizer { model: "llama".into(), ..GgufTokenizer::default() };
    let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    let fixed = [("<unk>", 2), ("<s>", 3), ("</s>", 3)].map(|(it, kind)| (it.to_owned(), kind, 0.));
    let bytes = bytes.into_iter().map(|it| (it, 6, 0.));
    let normal = tokens.iter().map(|&(it, score)| (it.to_owned(), 1, score));
    for (string, kind, score) in fixed.into_iter().chain(bytes).chain(normal) {
        gguf.tokens.push(string);
        gguf.token_types.push(kind);
        gguf.scores.push(score);
    }
    gguf
}

#[test]
fn sentence_pieces_of_a_gguf_merge_by_score() -> Result<()> {
    let pieces =
        [("\u{2581}", -9.), ("a", -8.), ("b", -7.), ("ab", -2.), ("ba", -1.), ("\u{2581}ab", -3.)];
    let tokenizer = Tokenizer::from_gguf(&sentence_piece(&pieces))?;
    let cut = |text: &str| -> Vec<String> {
        let tokens = tokenizer.try_encode(text).unwrap();
        tokens.iter().map(|&it| String::from_utf8_lossy(tokenizer.spelling(it)).into()).collect()
    };
    assert_eq!(cut("ab"), [" ab"]);
    assert_eq!(cut("aba"), [" ", "a", "ba"], "ba scores more than ab");
    assert_eq!(tokenizer.encode("\n"), [259, 3 + 10], "a space, and a byte");
    assert_eq!(tokenizer.decode(&tokenizer.encode(" b\u{e9}")), " b\u{e9}");
    assert_eq!(tokenizer.prefix(), b" ");
    let mut plain = sentence_piece(&pieces);
    plain.add_space_prefix = Some(false);
    assert_eq!(Tokenizer::from_gguf(&plain)?.encode("ab"), [262]);
    Ok(())
}

#[test]
fn a_gguf_that_makes_no_sense_is_refused_with_the_field() {
    let good = sentence_piece(&[("a", -1.)]);
    let line = |gguf: &GgufTokenizer| format!("{:#}", Tokenizer::from_gguf(gguf).unwrap_err());
    let refused = |change: &dyn Fn(&mut GgufTokenizer)| {
        let mut gguf = good.clone();
        change(&mut gguf);
        line(&gguf)
    };
    let found = refused(&|it| it.model = "bert".into());
    assert_eq!(found, "tokenizer.ggml.model is \"bert\", but must be one of gpt2, llama");
    assert!(refused(&|it| it.scores.clear()).starts_with("tokenizer.ggml.scores is missing"));
    let found = refused(&|it| it.token_types.push(1));
    assert_eq!(found, "tokenizer.ggml.token_type has 261 entries, but there are 260 tokens");
    let found = refused(&|it| (it.model, it.pre) = ("gpt2".into(), Some("x".into())));
    assert!(found.starts_with("tokenizer.ggml.pre is \"x\", but must be one of"), "{found}");
    let found = refused(&|it| (it.model, it.merges) = ("gpt2".into(), vec!["a".into()]));
    assert_eq!(found, "tokenizer.ggml.merges[0] is \"a\", no pair");
}

#[test]
fn what_is_no_tokenizer_is_refused_in_one_line() -> Result<()> {
    let good: Value = serde_json::from_str(FIXTURES[0].1)?;
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        refusal(&json)
    };
    assert!(refused(&|it| it["model"]["type"] = "WordPiece".into()).contains("must be BPE"));
    assert!(refused(&|it| it["model"]["vocab"]["!"] = 5.into()).contains("have the number 5"));
    let line = refused(&|it| it["model"]["vocab"]["!"] = u32::MAX.into());
    assert_eq!(line, "a token has the number 4294967295, but there are only 400");
    assert!(refused(&|it| it["model"]["vocab"]["!"] = (-1).into()).contains("the number -1"));
    assert!(refused(&|it| it["model"] = Value::Null).contains("model.type is none"));
    assert!(refused(&|it| it["added_tokens"] = Value::Array(vec![])).contains("ends a text"));
    assert!(refused(&|it| it["added_tokens"][0]["id"] = 7.into()).contains("but must have 0"));
    assert!(refused(&|it| it["model"]["end_of_word_suffix"] = "</w>".into()).contains("left out"));
    assert!(refused(&|it| it["decoder"]["type"] = "WordPiece".into()).contains("do not spell"));
    assert!(refused(&|it| it["end_of_text"] = 400.into()).contains("cannot end a text"));
    for part in [
        r#"{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#,
        r#"{"type":"Prepend","prepend":""}"#,
        r#"{"type":"Replace","pattern":{"Regex":"a*"},"content":"x"}"#,
    ] {
        let part: Value = serde_json::from_str(part)?;
        assert!(refused(&|it| it["normalizer"] = part.clone()).starts_with("normalizer "));
    }
    let fixed: Value = serde_json::from_str(r#"{"type":"FixedLength","length":0}"#)?;
    let line = refused(&|it| it["pre_tokenizer"] = fixed.clone());
    assert_eq!(line, "pre_tokenizer is FixedLength, which is not supported");
    assert_eq!(refusal(&Value::Array(vec![])), "is no JSON object");
    assert!(Tokenizer::from_json("{").unwrap_err().to_string().starts_with("is no JSON"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_kept(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "\\PC{0,20}") {
        for name in ["gpt2", "llama"] {
            let tokenizer = fixture(name);
            let bytes = [text.as_bytes(), &bytes].concat();
            let tokens = tokenizer.encode_bytes(&bytes).unwrap();
            prop_assert_eq!(spelled(&tokenizer, &tokens), bytes);
        }
    }

    #[test]
    fn a_damaged_tokenizer_never_panics(
        which in 0..5usize, at in any::<prop::sample::Index>(), byte in 0x20..0x7Fu8, cut in any::<bool>(),
    ) {
        let mut json = FIXTURES[which].1.as_bytes().to_vec();
        let at = at.index(json.len());
        if cut { json.truncate(at) } else { json[at] = byte }
        if let Ok(json) = String::from_utf8(json) {
            match Tokenizer::from_json(&json) {
                Ok(tokenizer) => {
                    let tokens = tokenizer.encode("some text 123 \u{e9}\n");
                    tokenizer.decode(&tokens);
                }
                Err(error) => {
                    let line = format!("{error:#}");
                    prop_assert!(!line.contains('\n'), "{}", line);
                }
            }
        }
    }
}
