//! Reading: nothing is allocated that the length of the file does not back.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::Path,
};

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use tch::{Kind, Tensor};

use super::{Checkpoint, CheckpointError, FORMAT_VERSION, KINDS, VERSION_KEY};

/// Longest header that is read, in bytes: some 100,000 tensors.
const MAX_HEADER: u64 = 16 << 20;

/// Most axes a tensor may have.
const MAX_AXES: usize = 8;

impl Checkpoint {
    /// Reads a file that [`Checkpoint::save`] wrote, onto the CPU.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, is no checkpoint, or has another format version.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let failed = |error: io::Error| CheckpointError::read(path, &error);
        let about = fs::metadata(path).map_err(failed)?;
        if !about.is_file() {
            return Err(CheckpointError::malformed(path, "is no ordinary file")); // opening a pipe would wait
        }
        let file = File::open(path).map_err(failed)?;
        Self::parse(path, &mut BufReader::new(file), about.len())
    }

    /// Reads `len` bytes; `path` is for messages.
    pub(super) fn parse(
        path: &Path,
        file: &mut impl Read,
        len: u64,
    ) -> Result<Self, CheckpointError> {
        let malformed = |what: String| CheckpointError::malformed(path, what);
        let header_len = header_len(path, file, len)?;
        let header = read_bytes(path, file, header_len)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| malformed(format!("the header is damaged: {error}")))?;
        let (announced, held) = (header.data_len() as u64, len - 8 - header_len);
        if announced != held {
            return Err(malformed(format!(
                "holds {held} bytes of tensors, its header announces {announced}"
            )));
        }
        let mut metadata: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        ensure_version(path, metadata.remove(VERSION_KEY))?;

        let mut tensors = BTreeMap::new();
        for name in header.offset_keys() {
            let info = header.info(&name).expect("a name that the header listed");
            let kind = kind(info.dtype).ok_or_else(|| {
                malformed(format!("tensor {name:?} has unsupported type {}", info.dtype))
            })?;
            let shape = shape(info).ok_or_else(|| {
                malformed(format!("tensor {name:?} has impossible shape {:?}", info.shape))
            })?;
            let (start, end) = info.data_offsets;
            let bytes = read_bytes(path, file, (end - start) as u64)?;
            if kind == Kind::Bool && bytes.iter().any(|&byte| byte > 1) {
                return Err(malformed(format!(
                    "tensor {name:?} holds a bool that is neither 0 nor 1"
                )));
            }
            let tensor = Tensor::f_from_data_size(&bytes, &shape, kind).map_err(|_| {
                malformed(format!("tensor {name:?} of shape {shape:?} does not fit in memory"))
            })?;
            tensors.insert(name, tensor);
        }
        Ok(Self { metadata, tensors })
    }
}

/// The length of the header, which the file has room for.
fn header_len(path: &Path, file: &mut impl Read, len: u64) -> Result<u64, CheckpointError> {
    let malformed = |what: String| CheckpointError::malformed(path, what);
    let no_checkpoint = || {
        malformed(format!(
            "is no checkpoint: {len} bytes, which do not start with a safetensors header"
        ))
    };
    if len < 8 {
        return Err(no_checkpoint());
    }
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes).map_err(|error| CheckpointError::read(path, &error))?;
    let header_len = u64::from_le_bytes(bytes);
    if header_len > len - 8 {
        // Foreign text as a length is astronomical; the length of a file that was cut is not.
        return Err(if header_len > MAX_HEADER {
            no_checkpoint()
        } else {
            malformed(format!("is cut short: {len} bytes, but its header alone has {header_len}"))
        });
    }
    if header_len > MAX_HEADER {
        return Err(malformed(format!(
            "has a header of {header_len} bytes, more than {MAX_HEADER}"
        )));
    }
    Ok(header_len)
}

fn ensure_version(path: &Path, found: Option<String>) -> Result<(), CheckpointError> {
    let Some(found) = found else {
        return Err(CheckpointError::malformed(
            path,
            format!("states no {VERSION_KEY}: no checkpoint of this program"),
        ));
    };
    if found.parse() == Ok(FORMAT_VERSION) {
        return Ok(());
    }
    Err(CheckpointError::version(path, &found))
}

/// Reads exactly `len` bytes, which the file is known to hold.
fn read_bytes(path: &Path, file: &mut impl Read, len: u64) -> Result<Vec<u8>, CheckpointError> {
    let mut bytes = Vec::new();
    let reserved = usize::try_from(len).ok().and_then(|len| bytes.try_reserve_exact(len).ok());
    if reserved.is_none() {
        return Err(CheckpointError::malformed(path, format!("{len} bytes do not fit in memory")));
    }
    let read = file.take(len).read_to_end(&mut bytes);
    let read = read.map_err(|error| CheckpointError::read(path, &error))?;
    if read as u64 == len {
        return Ok(bytes);
    }
    let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read");
    Err(CheckpointError::read(path, &cut))
}

fn kind(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|&&(_, d)| d == dtype).map(|&(kind, _)| kind)
}

/// The shape for libtorch; none when its axes or the product of those that are not 0 are beyond i64.
fn shape(info: &TensorInfo) -> Option<Vec<i64>> {
    if info.shape.len() > MAX_AXES {
        return None;
    }
    let shape: Vec<i64> =
        info.shape.iter().map(|&n| i64::try_from(n).ok()).collect::<Option<_>>()?;
    let bytes = shape.iter().try_fold(8i64, |product, &n| product.checked_mul(n.max(1)));
    bytes.map(|_| shape)
}
