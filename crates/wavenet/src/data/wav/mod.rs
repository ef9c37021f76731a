//! WAV files of any rate, depth and number of channels to samples, and back.

mod resample;
mod riff;
#[cfg(test)]
mod tests;

use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use core_layers::checkpoint::write_atomic;
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use super::files;

/// Name and version of the reader and the resampler, part of a set's hash.
pub(super) const DECODER: &str = "hound/3.5 rubato/0.16 mean-of-channels/1";

/// Rates that are read, Hz.
const RATES: std::ops::RangeInclusive<u32> = 1000..=768_000;

/// One channel of sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples, -1..=1 being full scale; those of float files may lie beyond.
    pub samples: Vec<f32>,
    /// Samples per second, Hz.
    pub sample_rate: u32,
}

impl Sound {
    /// How long it is, seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }

    /// The same sound at another rate: band-limited, without a shift in time, the same in every run.
    ///
    /// # Errors
    /// When the result would not fit into memory.
    pub fn resampled(self, sample_rate: u32) -> Result<Self> {
        let samples = resample::resample(self.samples, self.sample_rate, sample_rate)?;
        Ok(Self { samples, sample_rate })
    }
}

/// Reads a WAV file: 8, 16, 24 or 32 bits or 32-bit floats, at any rate; channels are mixed down to their mean.
///
/// # Errors
/// One line with the file's name: it cannot be read, is cut off, is not a WAV file of these kinds, has no samples, or a
/// sample is not a finite number.
pub fn read(path: &Path) -> Result<Sound> {
    let content = files::read(path, files::MAX_FILE)?;
    parse(&content).with_context(|| path.display().to_string())
}

/// Reads a WAV file of one channel whose every sample is a number of 16 bits: what [`write()`] gives back bit for bit.
///
/// # Errors
/// As [`read`], and on several channels or a finer sample.
pub fn read_16_bits(path: &Path) -> Result<Sound> {
    let content = files::read(path, files::MAX_FILE)?;
    let name = || path.display().to_string();
    let (sound, channels) = parts(&content).with_context(name)?;
    ensure!(channels == 1, "{}: has {channels} channels, a .chr file holds one", name());
    let is_fine = |x: &f32| f64::from(to_i16(*x)) != f64::from(*x) * 32_768.0;
    let fine = sound.samples.iter().position(is_fine);
    ensure!(fine.is_none(), "{}: sample {} has more than 16 bits", name(), fine.unwrap_or(0));
    Ok(sound)
}

/// Reads the bytes of a WAV file.
///
/// # Errors
/// As [`read`], without a name.
pub fn parse(content: &[u8]) -> Result<Sound> {
    Ok(parts(content)?.0)
}

/// The sound, and how many channels were mixed down to it.
fn parts(content: &[u8]) -> Result<(Sound, u16)> {
    let chunks = riff::chunks(content)?;
    let header = header(&chunks);
    let reader = WavReader::new(header.as_slice().chain(chunks.samples)).map_err(broken)?;
    let WavSpec { channels, sample_rate, sample_format, bits_per_sample } = reader.spec();
    ensure!(
        RATES.contains(&sample_rate),
        "its rate is {sample_rate} Hz, but must be {}..={} Hz",
        RATES.start(),
        RATES.end()
    );
    ensure!(reader.duration() > 0, "it has no samples");
    let samples = match sample_format {
        SampleFormat::Float => mixed(reader.into_samples::<f32>(), channels),
        SampleFormat::Int => {
            let full = 2f64.powi(i32::from(bits_per_sample) - 1);
            let scaled = |x: i32| (f64::from(x) / full) as f32;
            mixed(reader.into_samples::<i32>().map(|x| x.map(scaled)), channels)
        }
    }?;
    Ok((Sound { samples, sample_rate }, channels))
}

/// A header for the decoder without what it would stumble over: other chunks, extra bytes, unknown lengths.
fn header(chunks: &riff::Chunks<'_>) -> Vec<u8> {
    const EXTENSIBLE: [u8; 2] = [0xfe, 0xff];
    let extensible = chunks.format.starts_with(&EXTENSIBLE) && chunks.format.len() >= 40;
    let mut format = chunks.format[..if extensible { 40 } else { 16 }].to_vec();
    if extensible {
        format[16..18].copy_from_slice(&22u16.to_le_bytes());
        // samples stand at the upper end of their bytes, however many bits are said to be valid
        format[18..20].fill(0);
    }
    let (format_len, samples_len) = (format.len() as u32, chunks.samples.len() as u32);
    let len = (4 + 8 + format_len).saturating_add(8).saturating_add(samples_len);
    [
        b"RIFF",
        &len.to_le_bytes()[..],
        b"WAVEfmt ",
        &format_len.to_le_bytes(),
        &format,
        b"data",
        &samples_len.to_le_bytes(),
    ]
    .concat()
}

/// The mean over channels, frame by frame.
fn mixed(values: impl Iterator<Item = hound::Result<f32>>, channels: u16) -> Result<Vec<f32>> {
    let mut samples = Vec::new();
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        let value = value.map_err(broken)?;
        let frame = samples.len();
        ensure!(value.is_finite(), "sample {frame} is {value}, but must be a finite number");
        sum += f64::from(value);
        count += 1;
        if count == channels {
            samples.push((sum / f64::from(channels)) as f32);
            (sum, count) = (0.0, 0);
        }
    }
    Ok(samples)
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn broken(error: hound::Error) -> anyhow::Error {
    let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    anyhow!(words).context("not a WAV file that can be read")
}

const fn mono(sample_rate: u32) -> WavSpec {
    WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int }
}

/// The 16-bit number of a sample: the nearest of `x * 32768`, clipped.
pub fn to_i16(x: f32) -> i16 {
    (f64::from(x) * 32_768.0).round() as i16 // saturates
}

/// Writes one channel of 16-bit samples; the file appears whole or not at all.
///
/// # Errors
/// The file cannot be written, or the sound is too long for a WAV file (4 GiB); what stood there before still does.
pub fn write(path: &Path, samples: &[f32], sample_rate: u32) -> Result<()> {
    let name = || path.display().to_string();
    ensure!(samples.len() < 1 << 31, "{}: too long for a WAV file", name());
    let mut content = Cursor::new(Vec::with_capacity(44 + 2 * samples.len()));
    let mut writer = WavWriter::new(&mut content, mono(sample_rate)).with_context(name)?;
    for &x in samples {
        writer.write_sample(to_i16(x)).with_context(name)?;
    }
    writer.finalize().with_context(name)?;
    Ok(write_atomic(path, content.get_ref())?)
}

/// Writes the header of a WAV stream: one channel, 16 bits, and lengths of 0xffffffff, which players read as "until it
/// ends". Samples follow by [`write_stream`].
///
/// # Errors
/// When the stream cannot be written to.
pub fn write_stream_header(out: &mut impl Write, sample_rate: u32) -> io::Result<()> {
    out.write_all(&mono(sample_rate).into_header_for_infinite_file())
}

/// Writes samples after [`write_stream_header`] and hands them on.
///
/// # Errors
/// When the stream cannot be written to; a closed pipe is [`io::ErrorKind::BrokenPipe`].
pub fn write_stream(out: &mut impl Write, samples: &[f32]) -> io::Result<()> {
    let bytes: Vec<u8> = samples.iter().flat_map(|&x| to_i16(x).to_le_bytes()).collect();
    out.write_all(&bytes)?;
    out.flush()
}
