//! `compress` and `decompress`: recordings to a `.chr` file and back, without loss at the network's resolution.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use core_layers::{
    bayes,
    checkpoint::write_atomic,
    cli::{self, DecompressArgs, ModelArgs, counted},
    codec::{self, Archive, Coding, Header},
    run::Ticker,
};
use ndarray::Array2;
use tch::Device;

use super::{load, speaker};
use crate::{
    data::{Clip, wav},
    evaluate,
    model::SoundContext,
    sample::ExactEngine,
    trained::Trained,
};

/// Most clips and samples of one file; a hostile one can make decoding allocate 12 bytes a sample.
const MAX_CLIPS: usize = 1 << 16;
const MAX_SAMPLES: usize = 1 << 26;

/// Flags of `compress`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  wavenet compress runs/voice a.wav b.wav --quantise --out ab.chr"
)]
pub struct CompressArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// WAV files of one channel at the model's rate.
    #[arg(required = true)]
    sounds: Vec<PathBuf>,
    /// Round samples to the model's levels; without it, a file that they cannot hold is refused.
    #[arg(long)]
    quantise: bool,
    /// Who speaks, by number or name; without it, the likeliest of each.
    #[arg(long)]
    speaker: Option<String>,
    /// The file to write.
    #[arg(long, value_name = "CHR")]
    out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs `compress`.
pub(super) fn run(args: &CompressArgs) -> Result<()> {
    cli::ensure_file("--out", &args.out)?;
    cli::ensure_apart("--out", &args.out, &args.sounds)?;
    Header::ensure_distinct(&args.sounds)?;
    let (trained, device) = load(&args.model)?;
    let chosen = args.speaker.as_deref().map(|text| speaker(text, &trained)).transpose()?;
    let mut clips = Vec::new();
    for path in &args.sounds {
        clips.push(read(&trained, path, args.quantise)?);
    }
    assign_speakers(&trained, &mut clips, chosen, device);
    let samples: usize = clips.iter().map(|clip| clip.levels.len()).sum();
    let bytes = compress(&trained, &clips, args.model.threads(), args.quiet || args.json)?;
    write_atomic(&args.out, &bytes)?;
    let bits_per_dim = 8. * bytes.len() as f64 / samples as f64;
    if args.json {
        super::print_json(&serde_json::json!({
            "file": args.out,
            "bytes": bytes.len(),
            "examples": clips.len(),
            "samples": samples,
            "bits_per_dim": bits_per_dim,
        }));
    } else {
        println!(
            "{}: {} bytes, {} of {}, {bits_per_dim:.4} bits per sample",
            args.out.display(),
            bytes.len(),
            counted(clips.len(), "clip"),
            counted(samples, "sample")
        );
    }
    Ok(())
}

/// One recording as levels.
fn read(trained: &Trained, path: &Path, quantise: bool) -> Result<Clip> {
    let sound = if quantise { wav::read(path)? } else { wav::read_16_bits(path)? };
    let (name, rate) = (path.display(), trained.model.sample_rate());
    ensure!(
        sound.sample_rate == rate,
        "{name}: has {} Hz, the model {rate} Hz; resampling would lose something",
        sound.sample_rate
    );
    let quantizer = trained.about.run.data.quantizer();
    let levels = quantizer.encode_all(&sound.samples);
    if !quantise {
        let same =
            |(&level, &x): (&u16, &f32)| wav::to_i16(quantizer.decode(level)) == wav::to_i16(x);
        let first = levels.iter().zip(&sound.samples).position(|pair| !same(pair));
        ensure!(
            first.is_none(),
            "{name}: sample {} is none of the model's {} levels; --quantise rounds it, which is a loss",
            first.unwrap_or(0),
            quantizer.num_levels()
        );
    }
    let base = path.file_name().with_context(|| format!("{name}: has no base name"))?;
    Ok(Clip {
        name: base.to_string_lossy().into_owned(),
        speaker: 0,
        levels,
        features: None,
        text: None,
    })
}

/// The speaker that was chosen, or of each clip the one under whom it is likeliest, and so smallest.
fn assign_speakers(trained: &Trained, clips: &mut [Clip], chosen: Option<u32>, device: Device) {
    let speakers = trained.model.config().speakers;
    if let Some(speaker) = chosen {
        for clip in clips {
            clip.speaker = speaker;
        }
    } else if speakers > 1 {
        let nats = evaluate::nats_by_speaker(&trained.model, clips, device, &mut |_| {});
        for (clip, nats) in clips.iter_mut().zip(nats) {
            clip.speaker = bayes::likeliest(&bayes::posterior(&nats)) as u32;
        }
    }
}

/// Clips as the bytes of a `.chr` file, the longest first, so that those side by side end together.
pub(super) fn compress(
    trained: &Trained,
    clips: &[Clip],
    threads: usize,
    quiet: bool,
) -> Result<Vec<u8>> {
    let config = trained.model.config();
    ensure!(
        config.features == 0,
        "a model that is told features or a text cannot compress: the file would need them too"
    );
    ensure!(
        clips.len() <= MAX_CLIPS,
        "{} clips are more than the {MAX_CLIPS} of one file",
        clips.len()
    );
    let mut clips: Vec<&Clip> = clips.iter().collect();
    Header::ensure_distinct(&clips.iter().map(|clip| clip.name.clone()).collect::<Vec<_>>())?;
    clips.sort_by_key(|clip| std::cmp::Reverse(clip.levels.len()));
    let longest = clips.first().map_or(0, |clip| clip.levels.len());
    ensure!(
        longest * clips.len() <= MAX_SAMPLES,
        "{} clips of up to {longest} samples are more than the {MAX_SAMPLES} samples of one file",
        clips.len()
    );
    let mut symbols = Array2::zeros((clips.len(), longest));
    for (mut row, clip) in symbols.outer_iter_mut().zip(&clips) {
        for (to, &from) in row.iter_mut().zip(&clip.levels) {
            *to = u32::from(from);
        }
    }
    let lengths: Vec<usize> = clips.iter().map(|clip| clip.levels.len()).collect();
    let speakers: Vec<u32> = clips.iter().map(|clip| clip.speaker).collect();
    let engine = ExactEngine::new(&trained.model, longest)?;
    let ticker = Ticker::new("compress", symbols.len(), quiet);
    let context = context(trained, &speakers, &lengths);
    let streams = codec::encode(&engine, &context, symbols.view(), threads, &|n| ticker.tick(n))?;
    let header = Header {
        model: trained.hash[..32].to_owned(),
        examples: clips.len(),
        shape: vec![longest],
        names: clips.iter().map(|clip| clip.name.clone()).collect(),
        checksum: Archive::checksum(symbols_of(clips.iter().copied())),
        sections: Vec::new(),
    };
    let mut side: Vec<u8> =
        lengths.iter().flat_map(|&length| (length as u32).to_le_bytes()).collect();
    if config.speakers > 0 {
        side.extend(codec::pack_uniform(&speakers, config.speakers as u32));
    }
    Archive { coding: coding(trained), header, side, streams }.to_bytes()
}

/// The levels of all clips, one behind the other.
fn symbols_of<'c>(clips: impl IntoIterator<Item = &'c Clip>) -> impl Iterator<Item = u32> {
    clips.into_iter().flat_map(|clip| &clip.levels).map(|&level| u32::from(level))
}

fn coding(trained: &Trained) -> Coding {
    // a softmax has fewer levels
    Coding::of_mixtures(trained.model.config().levels as usize)
}

fn context(trained: &Trained, speakers: &[u32], lengths: &[usize]) -> SoundContext {
    let context = SoundContext::none(lengths.len()).with_lengths(lengths.to_vec());
    if trained.model.config().speakers > 0 {
        context.with_speakers(speakers.to_vec())
    } else {
        context
    }
}

/// Runs `decompress`.
pub(super) fn decompress_file(args: &DecompressArgs) -> Result<()> {
    cli::ensure_folder("--out", &args.out)?;
    let (trained, _) = load(&args.model)?;
    let threads = args.model.threads();
    let clips = args.restore(|bytes| decompress(&trained, bytes, threads, args.quiet))?;
    let quantizer = trained.about.run.data.quantizer();
    for clip in clips {
        let path = args.out.join(&clip.name).with_extension("wav");
        wav::write(&path, &quantizer.decode_all(&clip.levels), trained.model.sample_rate())?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The clips of a `.chr` file, verified against its checksum.
pub(super) fn decompress(
    trained: &Trained,
    bytes: &[u8],
    threads: usize,
    quiet: bool,
) -> Result<Vec<Clip>> {
    let archive = Archive::of_model(bytes, &trained.hash, coding(trained))?;
    let Header { examples, ref shape, ref names, .. } = archive.header;
    ensure!(examples <= MAX_CLIPS, "announces {examples} clips, more than {MAX_CLIPS}");
    ensure!(names.len() == examples, "has names for {} of {examples} clips", names.len());
    let Some((lengths, packed)) = archive.side.split_at_checked(4 * examples) else {
        return Err(anyhow!("is cut off: has no lengths of its clips"));
    };
    let length = |it: &[u8]| u32::from_le_bytes([it[0], it[1], it[2], it[3]]) as usize;
    let lengths: Vec<usize> = lengths.chunks_exact(4).map(length).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let total = longest.checked_mul(examples).filter(|&total| total <= MAX_SAMPLES);
    let total = total.with_context(|| {
        format!("announces {examples} clips of up to {longest} samples, more than {MAX_SAMPLES}")
    })?;
    ensure!(*shape == [longest], "holds clips of {shape:?} samples, its lengths say {longest}");
    let least_bits = archive.coding.least_bits(trained.model.config().levels as usize);
    let words: usize = archive.streams.iter().map(Vec::len).sum();
    let samples: usize = lengths.iter().sum();
    ensure!(
        samples as f64 * least_bits <= 32. * words as f64,
        "announces {samples} samples, too many for its {words} words"
    );
    let count = trained.model.config().speakers as u32;
    let speakers = codec::unpack_uniform(packed, count, if count == 0 { 0 } else { examples })?;
    let engine = ExactEngine::new(&trained.model, longest)?;
    let ticker = Ticker::new("decompress", total, quiet);
    let context = context(trained, &speakers, &lengths);
    let symbols = codec::decode(&engine, &context, &archive.streams, threads, &|n| ticker.tick(n))?;
    let clips: Vec<Clip> = names
        .iter()
        .enumerate()
        .map(|(row, name)| Clip {
            name: name.clone(),
            speaker: speakers.get(row).copied().unwrap_or(0),
            levels: symbols.row(row).iter().take(lengths[row]).map(|&it| it as u16).collect(),
            features: None,
            text: None,
        })
        .collect();
    archive.header.ensure_checksum(symbols_of(&clips))?;
    Ok(clips)
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::*,
        test_runner::{Config, TestRunner},
    };

    use super::*;
    use crate::trained::Weights;

    /// The trained voice, and the bytes of two of its clips.
    fn subject() -> (Trained, Vec<Clip>, Vec<u8>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/v1");
        let trained =
            Trained::load(&path.join("voice.safetensors"), Weights::Ema, Device::Cpu).unwrap();
        let clip = |(name, speaker, samples): (&str, u32, usize)| Clip {
            name: name.into(),
            speaker,
            levels: (0..samples).map(|t| 128 + (t * t % 23) as u16).collect(),
            features: None,
            text: None,
        };
        let clips: Vec<Clip> = [("a.wav", 1, 40), ("b.wav", 0, 25)].into_iter().map(clip).collect();
        let bytes = compress(&trained, &clips, 1, true).unwrap();
        (trained, clips, bytes)
    }

    #[test]
    fn no_bytes_make_decompression_panic() {
        let (trained, _, good) = subject();
        let prefix = good.len() - 60; // a sound header, and anything behind it
        TestRunner::new(Config::with_cases(64))
            .run(&(any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), |(keep, bytes)| {
                let start = if keep { &good[..prefix] } else { &[] };
                let _ = decompress(&trained, &[start, &bytes].concat(), 1, true);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn an_edited_file_is_refused_or_holds_the_same_sound() {
        let (trained, clips, good) = subject();
        let edits = prop::collection::vec((0..good.len(), any::<u8>()), 1..4);
        TestRunner::new(Config::with_cases(128))
            .run(&(edits, 0usize..20), |(edits, cut)| {
                let mut bytes = good.clone();
                for (at, byte) in edits {
                    bytes[at] = byte;
                }
                bytes.truncate(good.len() - cut);
                if let Ok(back) = decompress(&trained, &bytes, 1, true) {
                    let same = back.iter().zip(&clips).all(|(a, b)| a.levels == b.levels);
                    prop_assert!(same && back.len() == clips.len());
                }
                Ok(())
            })
            .unwrap();
    }
}
