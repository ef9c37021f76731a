//! The embedded voices: two speakers, the same sentences in English and Italian, 8 kHz (`datasets/voice/README.md`).

use std::io::Read;

use anyhow::{Context, Result, ensure};
use core_layers::dataset::{FileDigest, Split};
use flate2::read::GzDecoder;

use super::gather::{Gathering, Recording, Source};
use super::{DataConfig, Dataset, Sound, folder};

const PACKED: &[u8] = include_bytes!("../../../../datasets/voice/voice.bin.gz");
const SAMPLE_RATE: u32 = 8000;

/// The voices, by the split of their names.
pub(super) fn read(config: &DataConfig) -> Result<Dataset> {
    let clips = clips().context("the embedded voices")?;
    let mut names: Vec<String> = clips.iter().map(|clip| clip.speaker.clone()).collect();
    names.sort();
    names.dedup();
    let speakers = folder::choose(names, config)?;
    let rate = if config.sample_rate == 0 { SAMPLE_RATE } else { config.sample_rate };
    let mut gathering = Gathering::new(config, rate);
    for Voice { speaker, name, text, samples } in clips {
        let Some(speaker) = speakers.iter().position(|it| *it == speaker) else { continue };
        gathering.add(Recording {
            speaker: speaker as u32,
            name,
            split: None,
            sound: Sound { samples, sample_rate: SAMPLE_RATE },
            text: Some(text),
            npy: None,
        })?;
    }
    Ok(gathering.finish(Source {
        name: "voice".into(),
        rule: format!("voice, {}; {}", speakers.join(" and "), Split::NAME_RULE),
        speakers,
        files: vec![FileDigest::new("voice.bin.gz", PACKED)],
    }))
}

struct Voice {
    speaker: String,
    name: String,
    text: String,
    samples: Vec<f32>,
}

/// Unpacks: lines `speaker TAB name TAB samples TAB text`, an empty line, then of all clips' samples in turn the differences
/// to the one before, 16 bits with wrapping: first their low bytes, then their high bytes.
fn clips() -> Result<Vec<Voice>> {
    let mut bytes = Vec::new();
    GzDecoder::new(PACKED).read_to_end(&mut bytes)?;
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").context("no end of the lines")?;
    let (low, high) = bytes[end + 2..].split_at((bytes.len() - end - 2) / 2);
    let mut last = 0i16;
    let mut samples = low.iter().zip(high).map(|(&low, &high)| {
        last = last.wrapping_add(i16::from_le_bytes([low, high]));
        f32::from(last) / 32_768.0
    });
    let mut clips = Vec::new();
    for line in std::str::from_utf8(&bytes[..end])?.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[speaker, name, count, text] = &fields[..] else {
            anyhow::bail!("a line has {} fields", fields.len())
        };
        let count: usize = count.parse()?;
        let samples: Vec<f32> = samples.by_ref().take(count).collect();
        ensure!(samples.len() == count, "{name} is not whole");
        let [speaker, name, text] = [speaker, name, text].map(str::to_owned);
        clips.push(Voice { speaker, name, text, samples });
    }
    Ok(clips)
}

#[cfg(test)]
mod tests {
    use super::super::{Condition, load};
    use super::*;

    #[test]
    fn two_speakers_say_the_same_sentences() -> Result<()> {
        let data = load(&DataConfig::default())?;
        assert_eq!(data.speakers, ["en-allison", "it-carlo"]);
        assert_eq!((data.sample_rate, data.num_levels, data.hop), (8000, 256, 0));
        for split in Split::ALL {
            let clips = data.split(split);
            let names = |speaker| {
                let mut names: Vec<&str> = clips
                    .iter()
                    .filter(|it| it.speaker == speaker)
                    .map(|it| it.name.as_str())
                    .collect();
                names.sort_unstable();
                names
            };
            assert_eq!(names(0), names(1), "the same are held out");
            assert!(clips.iter().all(|clip| clip.text.is_some() && clip.features.is_none()));
        }
        let seconds = Split::ALL.map(|split| data.seconds(split));
        assert!(seconds[0] > 25.0 && seconds[1] > 3.0 && seconds[2] > 3.0, "{seconds:?}");
        let one = load(&DataConfig { speakers: "it-carlo".into(), ..DataConfig::default() })?;
        assert_eq!(one.speakers, ["it-carlo"]);
        assert!(one.train.iter().all(|clip| clip.speaker == 0));
        assert_ne!(one.hash, data.hash);
        let nobody = DataConfig { speakers: "bob".into(), ..DataConfig::default() };
        let refusal = load(&nobody).unwrap_err().to_string();
        assert_eq!(refusal, "data.speakers names bob, but there are en-allison, it-carlo");
        Ok(())
    }

    #[test]
    fn mu_law_levels_of_speech_carry_fewer_than_eight_bits() -> Result<()> {
        let data = load(&DataConfig::default())?;
        let mut counts = [0f64; 256];
        for &level in data.train.iter().flat_map(|clip| &clip.levels) {
            counts[usize::from(level)] += 1.0;
        }
        let total: f64 = counts.iter().sum();
        let bits =
            |count: &f64| if *count > 0.0 { -count / total * (count / total).log2() } else { 0.0 };
        let entropy: f64 = counts.iter().map(bits).sum();
        assert!((5.0..7.9).contains(&entropy), "{entropy}");
        let most = (0..256).max_by(|&a, &b| counts[a].total_cmp(&counts[b])).unwrap_or(0);
        assert!(most.abs_diff(128) <= 4, "the commonest level is {most}");
        Ok(())
    }

    #[test]
    fn conditions_have_a_frame_for_every_hop() -> Result<()> {
        for (condition, features) in [(Condition::Characters, 29), (Condition::Mel, 40)] {
            let data = load(&DataConfig { condition, limit: 2, ..DataConfig::default() })?;
            assert_eq!((data.hop, data.num_features), (80, features));
            for clip in Split::ALL.iter().flat_map(|&split| data.split(split)) {
                let frames = clip.levels.len().div_ceil(80);
                assert_eq!(
                    clip.features.as_ref().map(ndarray::Array2::dim),
                    Some((frames, features))
                );
            }
        }
        let npy = DataConfig { condition: Condition::Npy, hop: 80, ..DataConfig::default() };
        let refusal = load(&npy).unwrap_err().to_string();
        assert_eq!(refusal, "data.condition is npy, but voice has no such files");
        Ok(())
    }

    #[test]
    fn another_rate_keeps_the_seconds() -> Result<()> {
        let plain = DataConfig { trim_db: 0.0, limit: 1, ..DataConfig::default() };
        let fast = load(&DataConfig { sample_rate: 16_000, ..plain.clone() })?;
        let slow = load(&plain)?;
        assert_eq!(fast.sample_rate, 16_000);
        assert!((fast.seconds(Split::Test) - slow.seconds(Split::Test)).abs() < 1e-3);
        Ok(())
    }
}
