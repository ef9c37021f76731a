//! Laws of the file format: what is saved is loaded, and hostile bytes are refused in one line.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use tch::Device;

use super::*;

fn sample() -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    checkpoint.metadata.insert("config".into(), "{\"width\": 3}\n".into());
    let ramp = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([3, 4]) / 7.0 - 0.5;
    for (kind, _) in KINDS {
        let x = if kind == Kind::Bool { ramp.gt(0.) } else { (&ramp * 9.0).abs().to_kind(kind) };
        checkpoint.tensors.insert(format!("x.{kind:?}"), x);
    }
    checkpoint.tensors.insert("turned".into(), ramp.transpose(0, 1));
    checkpoint.tensors.insert("scalar".into(), Tensor::from(2.5f32));
    checkpoint.tensors.insert("empty".into(), Tensor::zeros([0, 3], (Kind::Float, Device::Cpu)));
    checkpoint
}

fn bytes_of(checkpoint: &Checkpoint) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    checkpoint.save(&path).unwrap();
    fs::read(path).unwrap()
}

fn load(bytes: &[u8]) -> Result<Checkpoint, String> {
    let path = PathBuf::from("x.safetensors");
    let read = Checkpoint::parse(&path, &mut &bytes[..], bytes.len() as u64);
    read.map_err(|error| error.to_string())
}

/// A file with this header and no tensors.
fn with_header(header: &str, tensors: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat()
}

fn refusal(bytes: &[u8]) -> String {
    let message = load(bytes).unwrap_err();
    assert!(message.starts_with("x.safetensors: ") && message.lines().count() == 1, "{message}");
    message
}

#[test]
fn what_is_saved_is_loaded_in_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let saved = sample();
    saved.save(&path).unwrap();
    let loaded = Checkpoint::load(&path).unwrap();
    assert_eq!(loaded.metadata, saved.metadata);
    assert_eq!(loaded.tensors.len(), saved.tensors.len());
    for (name, x) in &saved.tensors {
        let y = &loaded.tensors[name];
        assert_eq!((x.size(), x.kind()), (y.size(), y.kind()), "{name}");
        assert!(x.equal(y), "{name}");
    }
}

#[test]
fn equal_checkpoints_are_equal_files_that_other_readers_understand() {
    let bytes = bytes_of(&sample());
    assert_eq!(bytes, bytes_of(&load(&bytes).unwrap()));
    let foreign = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(foreign.tensor("turned").unwrap().shape(), [4, 3]);
    assert_eq!(foreign.tensor("scalar").unwrap().data(), 2.5f32.to_le_bytes());
}

#[test]
fn another_format_version_is_refused_with_both_numbers() {
    let file = with_header(r#"{"__metadata__":{"format_version":"7"}}"#, &[]);
    assert_eq!(refusal(&file), "x.safetensors: format version 7, but this program reads version 1");
    let foreign = with_header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]);
    assert!(refusal(&foreign).contains("states no format_version"));
}

#[test]
fn damage_is_named() {
    let whole = bytes_of(&sample());
    assert!(refusal(&[]).contains("is no checkpoint: 0 bytes"));
    assert!(refusal(b"\x89PNG\r\n\x1a\n and so on").contains("is no checkpoint"));
    assert!(refusal(&whole[..100]).contains("is cut short: 100 bytes"));
    assert!(refusal(&whole[..whole.len() - 1]).contains("its header announces"));
    assert!(refusal(&with_header("{nonsense\n}", &[])).contains("the header is damaged"));
    let long = [&(1u64 << 30).to_le_bytes()[..], b"{"].concat();
    assert!(refusal(&long).contains("is no checkpoint"));
}

#[test]
fn shapes_that_no_memory_holds_are_refused_before_anything_is_allocated() {
    let version = r#""__metadata__":{"format_version":"1"}"#;
    for (shape, end) in [
        ("[4611686018427387904]", 1u64 << 40),
        ("[4611686018427387904,4]", 16),
        ("[0,4611686018427387904,4611686018427387904]", 0),
        ("[0,9223372036854775808]", 0),
        ("[1,1,1,1,1,1,1,1,1]", 4),
    ] {
        let header = format!(
            r#"{{{version},"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#
        );
        refusal(&with_header(&header, &[0; 4][..(end as usize).min(4)]));
    }
}

#[test]
fn types_and_bools_that_cannot_be_are_refused() {
    let header = |dtype| {
        format!(
            r#"{{"__metadata__":{{"format_version":"1"}},"a":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,1]}}}}"#
        )
    };
    assert!(load(&with_header(&header("BOOL"), &[1])).is_ok());
    assert!(refusal(&with_header(&header("BOOL"), &[2])).contains("neither 0 nor 1"));
    assert!(refusal(&with_header(&header("I8"), &[2])).contains("unsupported type I8"));
}

#[test]
fn a_kind_that_a_checkpoint_cannot_hold_is_refused_when_saving() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::default();
    checkpoint.tensors.insert("z".into(), Tensor::zeros([1], (Kind::Int8, Device::Cpu)));
    let message = checkpoint.save(&folder.path().join("x")).unwrap_err().to_string();
    assert!(message.ends_with("tensor \"z\" is Int8, which a checkpoint cannot hold"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(load(&bytes).is_err());
    }

    #[test]
    fn a_random_header_never_panics(header in "\\PC{0,80}", tensors in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = load(&with_header(&header, &tensors));
    }

    #[test]
    fn an_edited_byte_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = bytes_of(&sample());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Err(message) = load(&bytes) {
            prop_assert_eq!(message.lines().count(), 1);
        }
    }

    #[test]
    fn a_cut_file_is_refused(at in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&sample());
        prop_assert!(load(&bytes[..at.index(bytes.len())]).is_err());
    }
}
