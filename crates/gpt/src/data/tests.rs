use std::{collections::BTreeSet, fs};

use proptest::prelude::*;

use super::*;

fn config(data: &Path, tokenizer: &str) -> DataConfig {
    let data = data.display().to_string();
    DataConfig { data, tokenizer: tokenizer.into(), ..DataConfig::default() }
}

/// A folder of `count` short texts.
fn folder(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    for i in 0..count {
        let inner = if i % 2 == 0 { "inner/" } else { "" };
        let text = format!("Text number {i} says {}.\n", "so ".repeat(i % 7));
        fs::write(folder.path().join(format!("{inner}{i:03}.txt")), text).unwrap();
    }
    folder
}

fn documents(dataset: &Dataset, split: Split) -> Vec<String> {
    let tokens = dataset.split(split);
    let text = |i| dataset.tokenizer.decode(&tokens.range(tokens.document(i)).collect::<Vec<_>>());
    (0..tokens.documents()).map(text).collect()
}

fn refusal(config: &DataConfig) -> String {
    let line = format!("{:#}", load(config).unwrap_err());
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn no_document_stands_in_two_splits_and_none_is_lost() -> Result<()> {
    let folder = folder(120);
    fs::copy(folder.path().join("001.txt"), folder.path().join("inner/copy.txt"))?;
    let dataset = load(&config(folder.path(), "bytes"))?;
    let [train, valid, test] = Split::ALL.map(|split| documents(&dataset, split));
    let sets = [&train, &valid, &test].map(|it| it.iter().collect::<BTreeSet<_>>());
    assert!(sets[0].is_disjoint(&sets[1]) && sets[0].is_disjoint(&sets[2]));
    assert!(sets[1].is_disjoint(&sets[2]));
    let found = train.len() + valid.len() + test.len();
    assert_eq!((found, sets.iter().map(BTreeSet::len).sum::<usize>()), (121, 120));
    assert!(!valid.is_empty() && !test.is_empty() && train.len() > 90);
    Split::ALL.into_iter().try_for_each(|split| dataset.ensure_split(split))
}

#[test]
fn a_long_text_is_cut_into_blocks_that_make_it_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("one.txt");
    let text = (0..500).map(|i| format!("{i} bottles of beer\n")).collect::<Vec<_>>().concat();
    fs::write(&path, &text)?;
    let dataset = load(&config(&path, "characters"))?;
    let parts = Split::ALL.map(|split| documents(&dataset, split).concat());
    assert_eq!(parts.concat(), text);
    assert_eq!((dataset.name.as_str(), parts[0].len() * 100 / text.len()), ("one.txt", 90));
    assert!(dataset.protocol.contains("first 90 per cent"), "{}", dataset.protocol);
    Ok(())
}

#[test]
fn ends_stand_between_documents_and_at_both_ends() -> Result<()> {
    let folder = folder(110);
    let dataset = load(&config(folder.path(), "bytes"))?;
    let tokens = &dataset.train;
    assert_eq!((tokens.get(0), tokens.get(tokens.len() - 1)), (256, 256));
    for i in 0..tokens.documents() {
        let range = tokens.document(i);
        assert_eq!(tokens.get(range.start - 1), 256);
        assert_eq!(tokens.range(range.clone()).filter(|&it| it == 256).count(), 1);
        let bytes = tokens.bytes(&dataset.tokenizer, range.clone());
        assert_eq!(bytes, range.len() - 1);
    }
    Ok(())
}

#[test]
fn prepared_tokens_are_those_read_directly() -> Result<()> {
    let folder = folder(110);
    for tokenizer in ["bytes", "characters", "bpe:300"] {
        let config = config(folder.path(), tokenizer);
        let out = folder.path().join(".tokens.bin");
        let mut seen = Vec::new();
        let prepared = prepare(&config, None, &out, &mut |done, all| seen.push((done, all)))?;
        let direct = load(&config)?;
        let again = load(&tests::config(&out, "auto"))?;
        for dataset in [&prepared, &again] {
            assert_eq!((&dataset.tokenizer, &dataset.hash), (&direct.tokenizer, &direct.hash));
            assert_eq!((&dataset.name, &dataset.protocol), (&direct.name, &direct.protocol));
            for split in Split::ALL {
                let (found, wanted) = (dataset.split(split), direct.split(split));
                assert!(found.range(0..found.len()).eq(wanted.range(0..wanted.len())));
                assert_eq!(documents(dataset, split), documents(&direct, split));
            }
        }
        assert!(seen.last().is_some_and(|(done, all)| done == all && *done > 0), "{seen:?}");
        assert_eq!(prepared.report, direct.report);
        load_for(&tests::config(&out, "auto"), Some(&direct.tokenizer))?;
    }
    let out = folder.path().join(".tokens.bin");
    let line = refusal(&config(&out, "bytes"));
    assert!(line.ends_with("auto, since a prepared file has its own"), "{line}");
    let other = load_for(&config(&out, "auto"), Some(&Tokenizer::Bytes)).unwrap_err().to_string();
    assert!(other.ends_with("was prepared with another tokenizer than the model's"), "{other}");
    let twice = prepare(&config(&out, "auto"), None, &folder.path().join("x"), &mut |_, _| {});
    assert!(twice.unwrap_err().to_string().ends_with("is prepared already"));
    Ok(())
}

#[test]
fn lines_of_json_are_documents() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.jsonl");
    let lines = (0..150)
        .map(|i| format!("{{\"id\":{i},\"body\":\"caf\\u00e9\\n{i}\",\"text\":\"{i}\"}}\n\n"))
        .collect::<Vec<_>>()
        .concat();
    fs::write(&path, &lines)?;
    let config = DataConfig { field: "body".into(), ..config(&path, "bytes") };
    let dataset = load(&config)?;
    let mut all: Vec<String> =
        Split::ALL.iter().flat_map(|&split| documents(&dataset, split)).collect();
    all.sort_by_key(|it| it.lines().last().and_then(|it| it.parse::<u32>().ok()));
    assert_eq!(all[7], "caf\u{e9}\n7");
    assert_eq!(all.len(), 150);
    let few = load(&DataConfig { limit: 120, ..config.clone() })?;
    assert_eq!(Split::ALL.map(|split| few.split(split).documents()).iter().sum::<usize>(), 120);
    let line = refusal(&DataConfig { field: "no".into(), ..config.clone() });
    assert!(line.ends_with("a.jsonl: line 1 has no text \"no\""), "{line}");
    fs::write(&path, format!("{lines}{{"))?;
    assert!(refusal(&config).contains("a.jsonl: line 301 is no JSON"), "{}", refusal(&config));
    Ok(())
}

#[test]
fn what_is_no_text_is_refused_alone_and_left_out_among_others() -> Result<()> {
    let folder = folder(110);
    let path = folder.path().join("picture");
    fs::write(&path, b"ab\xFF\x00")?;
    fs::write(folder.path().join("empty"), "")?;
    fs::write(folder.path().join(".hidden"), "hidden")?;
    let line = refusal(&config(&path, "bpe:300"));
    assert!(line.ends_with("is no UTF-8 at byte 2; a tokenizer of bytes takes it"), "{line}");
    assert_eq!(load(&config(&path, "bytes"))?.train.bytes(&Tokenizer::Bytes, 0..4), 3);
    let dataset = load(&config(folder.path(), "bpe:300"))?;
    let report = &dataset.report[1..];
    assert_eq!(report, ["1 file left out: no UTF-8", "1 document left out: empty"]);
    assert!(dataset.report[0].contains("110 documents, "), "{:?}", dataset.report);
    let line = refusal(&config(&folder.path().join("none"), "bytes"));
    assert!(line.contains("none: no such data; there are book, text, and paths"), "{line}");
    assert!(refusal(&config(&folder.path().join("empty"), "bytes")).ends_with("holds no text"));
    Ok(())
}

#[test]
fn the_model_s_own_tokenizer_cuts_and_no_other_is_taken() -> Result<()> {
    let folder = folder(30);
    let all = Tokenizer::characters(["Textnumbersays0123456789 .\no"]);
    let dataset = load_for(&config(folder.path(), "auto"), Some(&all))?;
    assert_eq!(dataset.tokenizer, all);
    let none = Tokenizer::characters(["Text"]);
    let error = load_for(&config(folder.path(), "auto"), Some(&none)).unwrap_err();
    let line = format!("{error:#}");
    assert!(line.contains("001.txt: the character ' ' (U+0020) is none of the 4"), "{line}");
    let error = load_for(&config(folder.path(), "bytes"), Some(&all)).unwrap_err();
    assert!(error.is::<ConfigError>(), "{error}");
    assert!(load_for(&config(folder.path(), "bytes"), Some(&Tokenizer::Bytes)).is_ok());
    Ok(())
}

#[test]
fn the_book_is_there_and_its_identity_is_known() -> Result<()> {
    let dataset = load(&DataConfig { tokenizer: "characters".into(), ..DataConfig::default() })?;
    assert_eq!(Split::ALL.map(|split| dataset.split(split).documents()).iter().sum::<usize>(), 105);
    let bytes = Split::ALL.map(|split| {
        let tokens = dataset.split(split);
        tokens.bytes(&dataset.tokenizer, 0..tokens.len())
    });
    assert_eq!(bytes.iter().sum::<usize>(), 1_551_658 - 104, "form feeds stand between chapters");
    assert!(bytes[1] > 30_000 && bytes[2] > 30_000, "{bytes:?}");
    let first = documents(&dataset, Split::Train).concat();
    assert!(first.contains("Emma Woodhouse, handsome, clever, and rich"));
    assert_eq!(dataset.hash.len(), 64);
    let other = load(&DataConfig { tokenizer: "bytes".into(), ..DataConfig::default() })?;
    assert_ne!(other.hash, dataset.hash, "another cut is other data");
    Ok(())
}

/// A small file of prepared tokens.
fn prepared() -> Vec<u8> {
    let folder = folder(110);
    let out = folder.path().join(".tokens.bin");
    prepare(&config(folder.path(), "bytes"), None, &out, &mut |_, _| {}).unwrap();
    fs::read(&out).unwrap()
}

fn parsed(bytes: Vec<u8>) -> String {
    file::parse(&bytes.into()).map_or_else(|error| format!("{error:#}"), |_| "good".into())
}

/// The same with bytes replaced, and a checksum that matches.
fn forged(good: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    let sum = core_layers::checkpoint::sha256(&bytes[112..]);
    bytes[80..112].copy_from_slice(&sum);
    bytes
}

#[test]
fn vocabularies_beyond_16_bits_take_4_bytes_a_token() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (path, out) = (folder.path().join("many.txt"), folder.path().join("tokens"));
    let text: String = (0x10000..0x21000).filter_map(char::from_u32).collect();
    fs::write(&path, &text)?;
    let dataset = prepare(&config(&path, "characters"), None, &out, &mut |_, _| {})?;
    assert_eq!(dataset.tokenizer.vocabulary(), 0x11001);
    let parts = Split::ALL.map(|split| documents(&dataset, split).concat());
    assert_eq!(parts.concat(), text);
    let last = dataset.test.get(dataset.test.len() - 2);
    assert_eq!((last, dataset.test.get(0)), (0x10FFF, 0x11000));
    Ok(())
}

#[test]
fn files_of_version_1_are_read() -> Result<()> {
    let bytes = include_bytes!("fixtures/v1.tokens"); // 24 lines `Document {i}, caf\u{e9}.`, i mod 5 times `x`
    let dataset = file::parse(&bytes.to_vec().into())?;
    let mut all: Vec<String> =
        Split::ALL.iter().flat_map(|&split| documents(&dataset, split)).collect();
    all.sort();
    assert_eq!((all.len(), all[0].as_str()), (24, "Document 0, caf\u{e9}.\n"));
    assert!(all.contains(&"Document 23, caf\u{e9}.\nxxx".to_owned()));
    assert_eq!((dataset.name.as_str(), dataset.tokenizer), ("v1.jsonl", Tokenizer::Bytes));
    Ok(())
}

#[test]
fn a_file_of_tokens_that_lies_is_refused() {
    let good = prepared();
    assert_eq!(parsed(good.clone()), "good");
    let line = |at, with: &[u8]| parsed(forged(&good, at, with));
    assert_eq!(line(0, b"x"), "is no file of prepared tokens");
    assert!(line(8, &[2]).starts_with("has format version 2, but this program reads 1"));
    assert!(line(12, &[4]).starts_with("has 4 bytes a token, but a vocabulary of 257 needs 2"));
    assert!(line(16, &[0; 8]).starts_with("has a vocabulary of 0"));
    assert!(line(16, &[2]).ends_with("but its tokenizer has 257 tokens"), "{}", line(16, &[2]));
    assert!(line(16, &70_000u32.to_le_bytes()).ends_with("a vocabulary of 70000 needs 4"));
    assert!(line(48, &[0xFF; 8]).starts_with("announces more than a file can hold"));
    assert!(line(48, &[0xFF; 7]).contains("but its header announces"));
    let description = u64::from_le_bytes(good[72..80].try_into().unwrap()) as usize;
    let starts = 112 + description;
    assert!(line(starts, &[0]).contains("document 0 begins at token 0, where none can"));
    assert!(line(starts + 8, &[1]).contains("document 1 begins at token 1, where none can"));
    assert!(line(starts + 8, &[0xFF; 8]).contains("document 1 begins at"));
    let last = good.len() - 2;
    assert_eq!(line(last, &[7, 7]), "holds token 1799, but the vocabulary has 257");
    assert_eq!(line(last, &[7, 0]), "does not end with the token that ends a text");
    assert!(line(112, b"[").starts_with("its description: "));
    let mut damaged = good.clone();
    damaged[last] ^= 1;
    assert_eq!(parsed(damaged), "is damaged: its checksum does not match");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_header_is_read_or_refused_in_one_line(
        at in 8..112usize, byte in any::<u8>(), cut in prop::option::of(0..200usize),
    ) {
        thread_local! { static GOOD: Vec<u8> = prepared(); }
        let good = GOOD.with(Clone::clone);
        let mut bytes = forged(&good, at, &[byte]);
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        let line = parsed(bytes);
        prop_assert!(!line.contains('\n'), "{}", line);
    }

    #[test]
    fn any_line_of_json_is_a_document_or_refused(line in "\\PC{0,40}|\\{\"text\":[^\n]{0,20}\\}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        fs::write(&path, &line).unwrap();
        if let Err(error) = load(&config(&path, "bytes")) {
            let line = format!("{error:#}");
            prop_assert!(!line.contains('\n'), "{}", line);
        }
    }
}
