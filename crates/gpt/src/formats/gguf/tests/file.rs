//! GGUF files made in memory, tensor by tensor.

use anyhow::Result;
use core_layers::encoded::Bytes;

use super::super::parse;
use crate::formats::Delivered;

/// A file under construction.
#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) metadata: Vec<(String, Vec<u8>)>,
    pub(super) tensors: Vec<(String, Vec<u64>, u32, u64)>,
    pub(super) data: Vec<u8>,
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn said(kind: u32, value: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], value].concat()
}

impl File {
    /// A llama of one layer, width 32, a head of 32, and 5 tokens; its weights count up.
    pub(super) fn small() -> Self {
        let mut file = Self::default();
        file.set("general.architecture", said(8, &text("llama")));
        for (key, value) in [
            ("block_count", 1u32),
            ("context_length", 16),
            ("embedding_length", 32),
            ("feed_forward_length", 64),
            ("attention.head_count", 1),
        ] {
            file.set(&format!("llama.{key}"), said(4, &value.to_le_bytes()));
        }
        file.set("llama.attention.layer_norm_rms_epsilon", said(6, &1e-5f32.to_le_bytes()));
        for (name, rows, columns) in [
            ("token_embd", 5, 32),
            ("blk.0.attn_q", 32, 32),
            ("blk.0.attn_k", 32, 32),
            ("blk.0.attn_v", 32, 32),
            ("blk.0.attn_output", 32, 32),
            ("blk.0.ffn_gate", 64, 32),
            ("blk.0.ffn_up", 64, 32),
            ("blk.0.ffn_down", 32, 64),
        ] {
            file.add(
                &format!("{name}.weight"),
                &[columns, rows],
                8,
                (columns / 32 * rows * 34) as usize,
            );
        }
        for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
            file.add(&format!("{name}.weight"), &[32], 0, 128);
        }
        file
    }

    pub(super) fn set(&mut self, key: &str, value: Vec<u8>) {
        self.metadata.retain(|(known, _)| known != key);
        self.metadata.push((key.to_owned(), value));
    }

    pub(super) fn add(&mut self, name: &str, shape: &[u64], kind: u32, bytes: usize) {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensors.push((name.to_owned(), shape.to_vec(), kind, self.data.len() as u64));
        self.data.extend((0..bytes).map(|i| (i % 48) as u8));
    }

    pub(super) fn tensor(&mut self, name: &str) -> &mut (String, Vec<u64>, u32, u64) {
        self.tensors.iter_mut().find(|it| it.0 == name).unwrap()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        for (name, shape, kind, start) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((shape.len() as u32).to_le_bytes());
            bytes.extend(shape.iter().flat_map(|it| it.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(start.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    pub(super) fn read(&self) -> Result<Delivered> {
        parse(&Bytes::from(self.bytes()), "x")
    }
}
