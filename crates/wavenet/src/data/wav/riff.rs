//! The chunks of a WAV file, found and measured before anything believes them.
//!
//! A RIFF file is `RIFF`, a length, `WAVE`, then chunks: four letters, a length, so many bytes, and one more where that is
//! odd. Only `fmt ` and `data` matter here (<https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html>).

use anyhow::{Context, Result, ensure};

/// Announced lengths from here on come from programs that did not know them: 0xffffffff by convention, and a little less
/// than 2 GiB by some.
const UNKNOWN: usize = 0x7fff_0000;

/// The two chunks that hold the sound.
#[derive(Debug)]
pub(super) struct Chunks<'a> {
    pub(super) format: &'a [u8],
    /// Whole frames only.
    pub(super) samples: &'a [u8],
}

/// Finds the chunks.
///
/// A length that its writer did not know (a stream) means all that is there. Any other length must be there: a file that
/// was cut off is refused, since what else it lost cannot be known.
pub(super) fn chunks(content: &[u8]) -> Result<Chunks<'_>> {
    let is_wav = content.starts_with(b"RIFF") && content.get(8..12) == Some(b"WAVE");
    ensure!(is_wav, "not a WAV file");
    let mut rest = &content[12..];
    let mut format = None;
    loop {
        let Some((header, after)) = rest.split_at_checked(8) else {
            let lacking = if format.is_none() { "format" } else { "samples" };
            anyhow::bail!("it ends before its {lacking}");
        };
        let announced = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if &header[..4] == b"data" {
            let format = format.context("its samples come before their format")?;
            return Ok(Chunks { format, samples: samples(format, after, announced)? });
        }
        let held = after.len();
        let body = after.get(..announced).with_context(|| {
            let name = header[..4].escape_ascii().to_string();
            format!("its chunk {name:?} announces {announced} bytes, {held} are there")
        })?;
        if &header[..4] == b"fmt " {
            ensure!(announced >= 16, "its format has {announced} bytes, but must have at least 16");
            format = Some(body);
        }
        rest = after.get(announced + announced % 2..).unwrap_or_default();
    }
}

fn samples<'a>(format: &[u8], after: &'a [u8], announced: usize) -> Result<&'a [u8]> {
    let held = after.len();
    let frame = usize::from(u16::from_le_bytes([format[12], format[13]]));
    ensure!(frame > 0, "its samples have no bytes");
    if announced > held && announced >= UNKNOWN {
        return Ok(&after[..held - held % frame]);
    }
    ensure!(
        announced <= held,
        "it is cut off: its header announces {announced} bytes of samples, {held} are there"
    );
    ensure!(
        announced.is_multiple_of(frame),
        "its {announced} bytes of samples are no whole number of {frame} bytes"
    );
    Ok(&after[..announced])
}
