//! Writing: the header with its keys in order, then the tensors by name, so that equal checkpoints are equal files.

use std::{
    io::{self, Write},
    path::Path,
};

use safetensors::Dtype;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::{Checkpoint, CheckpointError, FORMAT_VERSION, KINDS, VERSION_KEY, atomic};

impl Checkpoint {
    /// Writes the file and stamps it with [`FORMAT_VERSION`]; a file that was there is replaced when this one is whole.
    ///
    /// # Errors
    /// When it cannot be written (what was there is still there), or a tensor's kind is not one that it can hold.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let header = self.header().map_err(|what| CheckpointError::malformed(path, what))?;
        atomic::replace(path, |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            self.tensors.values().try_for_each(|x| {
                file.write_all(&bytes(x).map_err(|error| io::Error::other(error.to_string()))?)
            })
        })
    }

    fn header(&self) -> Result<Vec<u8>, String> {
        let mut metadata = self.metadata.clone();
        metadata.insert(VERSION_KEY.into(), FORMAT_VERSION.to_string());
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!(metadata));
        let mut start = 0;
        for (name, x) in &self.tensors {
            let dtype = dtype(x.kind()).ok_or_else(|| {
                format!("tensor {name:?} is {:?}, which a checkpoint cannot hold", x.kind())
            })?;
            let end = start + x.numel() * x.kind().elt_size_in_bytes();
            let entry = json!({ "dtype": dtype, "shape": x.size(), "data_offsets": [start, end] });
            header.insert(name.clone(), entry);
            start = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' '); // tensors aligned for whoever maps the file
        Ok(header)
    }
}

fn dtype(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|&&(k, _)| k == kind).map(|&(_, dtype)| dtype)
}

/// The elements in index order, little-endian.
pub(super) fn bytes(x: &Tensor) -> Result<Vec<u8>, tch::TchError> {
    let x = x.detach().f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; x.numel() * x.kind().elt_size_in_bytes()];
    x.f_copy_data_u8(&mut bytes, x.numel())?;
    Ok(bytes)
}
