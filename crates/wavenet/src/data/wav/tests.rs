use proptest::prelude::*;

use super::*;

/// A file of one chunk of format and one of samples.
fn file(tag: u16, [channels, bits]: [u16; 2], sample_rate: u32, samples: &[u8]) -> Vec<u8> {
    let frame = channels * bits / 8;
    let mut format = Vec::new();
    format.extend(tag.to_le_bytes());
    format.extend(channels.to_le_bytes());
    format.extend(sample_rate.to_le_bytes());
    format.extend((sample_rate * u32::from(frame)).to_le_bytes());
    format.extend(frame.to_le_bytes());
    format.extend(bits.to_le_bytes());
    if tag == 0xfffe {
        let (extra, valid, mask) = (22u16, bits, 0u32);
        format.extend(extra.to_le_bytes());
        format.extend(valid.to_le_bytes());
        format.extend(mask.to_le_bytes());
        format.extend(*b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"); // integers
    }
    let mut content = b"RIFF\0\0\0\0WAVE".to_vec();
    chunk(&mut content, *b"fmt ", &format);
    chunk(&mut content, *b"data", samples);
    content
}

fn chunk(content: &mut Vec<u8>, name: [u8; 4], body: &[u8]) {
    content.extend(name);
    content.extend((body.len() as u32).to_le_bytes());
    content.extend(body);
    content.resize(content.len().next_multiple_of(2), 0);
}

fn pcm(samples: &[u8]) -> Vec<u8> {
    file(1, [1, 16], 8000, samples)
}

fn samples(content: &[u8]) -> Vec<f32> {
    parse(content).unwrap().samples
}

fn refusal(content: &[u8]) -> String {
    format!("{:#}", parse(content).unwrap_err())
}

#[test]
fn what_is_written_is_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.wav");
    let samples: Vec<f32> = (-500..500).map(|i| (i * 65) as f32 / 32_768.0).collect();
    write(&path, &samples, 16_000)?;
    assert_eq!(read(&path)?, Sound { samples, sample_rate: 16_000 });
    write(&path, &[2.0, -2.0, 0.99999], 8000)?;
    assert_eq!(read(&path)?.samples, [32_767.0 / 32_768.0, -1.0, 32_767.0 / 32_768.0]);
    Ok(())
}

#[test]
fn a_stream_is_read_to_its_end() -> Result<()> {
    let mut stream = Vec::new();
    write_stream_header(&mut stream, 8000)?;
    assert_eq!(stream.len(), 44);
    assert_eq!((&stream[4..8], &stream[40..44]), (&[0xff; 4][..], &[0xff; 4][..]));
    write_stream(&mut stream, &[0.5, -0.25])?;
    assert_eq!(samples(&stream), [0.5, -0.25]);
    stream.push(7); // cut off within a sample
    assert_eq!(samples(&stream), [0.5, -0.25]);
    Ok(())
}

#[test]
fn levels_survive_a_file_of_sixteen_bits() -> Result<()> {
    use super::super::{Encoding, Quantizer};
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.wav");
    for (encoding, count) in [(Encoding::MuLaw, 256), (Encoding::Linear, 65_536)] {
        let quantizer = Quantizer::new(encoding, count);
        let levels: Vec<u16> = (0..count).map(|level| level as u16).collect();
        write(&path, &quantizer.decode_all(&levels), 8000)?;
        assert_eq!(quantizer.encode_all(&read(&path)?.samples), levels);
    }
    Ok(())
}

#[test]
fn every_depth_is_read() {
    assert_eq!(samples(&file(1, [1, 8], 8000, &[0, 128, 192])), [-1.0, 0.0, 0.5]);
    assert_eq!(samples(&pcm(&[0, 0x80, 0, 0x40])), [-1.0, 0.5]);
    assert_eq!(samples(&file(1, [1, 24], 8000, &[0, 0, 0x40, 0, 0, 0xc0])), [0.5, -0.5]);
    assert_eq!(samples(&file(1, [1, 32], 8000, &[0, 0, 0, 0xe0])), [-0.25]);
    assert_eq!(samples(&file(3, [1, 32], 8000, &1.5f32.to_le_bytes())), [1.5]);
    assert_eq!(samples(&file(0xfffe, [1, 24], 8000, &[0, 0, 0x40])), [0.5]);
    let mut twenty_bits = file(0xfffe, [1, 24], 8000, &[0, 0, 0x40]);
    twenty_bits[38] = 20;
    assert_eq!(samples(&twenty_bits), [0.5]);
}

#[test]
fn channels_are_mixed_down_to_their_mean() {
    let three = [0i16, 0x3000, 0x3000, 0x6000, 0, 0].map(i16::to_le_bytes).concat();
    assert_eq!(samples(&file(1, [3, 16], 96_000, &three)), [0.25, 0.25]);
}

#[test]
fn other_chunks_are_passed_over() {
    let mut content = b"RIFF\0\0\0\0WAVE".to_vec();
    chunk(&mut content, *b"LIST", b"odd"); // padded to 4
    content.extend(&pcm(&[0, 0x40])[12..]);
    chunk(&mut content, *b"junk", &[0xff; 9]);
    assert_eq!(samples(&content), [0.5]);
}

#[test]
fn a_wrong_file_is_told_in_one_line() {
    assert_eq!(refusal(b""), "not a WAV file");
    assert_eq!(refusal(b"RIFF\0\0\0\0AVI LIST"), "not a WAV file");
    let good = pcm(&[0; 9600]);
    assert_eq!(
        refusal(&good[..4044]),
        "it is cut off: its header announces 9600 bytes of samples, 4000 are there"
    );
    assert_eq!(refusal(&good[..30]), "its chunk \"fmt \" announces 16 bytes, 10 are there");
    assert_eq!(refusal(&good[..40]), "it ends before its samples");
    assert_eq!(refusal(&good[..14]), "it ends before its format");
    assert_eq!(refusal(&pcm(&[])), "it has no samples");
    assert_eq!(refusal(&pcm(&[0; 3])), "its 3 bytes of samples are no whole number of 2 bytes");
    let silent_rate = file(1, [1, 16], 7, &[0; 4]);
    assert_eq!(refusal(&silent_rate), "its rate is 7 Hz, but must be 1000..=768000 Hz");
    let mut floats = vec![0; 8];
    floats[4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_eq!(
        refusal(&file(3, [1, 32], 8000, &floats)),
        "sample 1 is NaN, but must be a finite number"
    );
    floats[4..].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    assert!(refusal(&file(3, [2, 32], 8000, &floats)).starts_with("sample 0 is -inf"));
    assert!(refusal(&file(85, [1, 16], 8000, &[0; 4])).starts_with("not a WAV file that can be"));
    let adpcm = refusal(&file(2, [1, 16], 8000, &[0; 4]));
    assert!(!adpcm.contains('\n'), "{adpcm}");
}

#[test]
fn a_huge_announced_length_allocates_nothing() {
    let mut content = pcm(&[0, 0x40]);
    content[40..44].copy_from_slice(&0x7ffe_0000u32.to_le_bytes());
    assert_eq!(
        refusal(&content),
        "it is cut off: its header announces 2147352576 bytes of samples, 2 are there"
    );
    content[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refusal(&content).contains("announces 4294967295 bytes"), "{}", refusal(&content));
}

#[test]
fn what_is_no_file_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let message = format!("{:#}", read(folder.path()).unwrap_err());
    assert!(message.ends_with("it is not a regular file"), "{message}");
    let message = format!("{:#}", read(&folder.path().join("no.wav")).unwrap_err());
    assert!(message.contains("no.wav") && !message.contains('\n'), "{message}");
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_are_refused_not_panicked_at(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&tail);
        let _ = parse(&[b"RIFF\0\0\0\0WAVE", &tail[..]].concat());
        let _ = parse(&[b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0", &tail[..]].concat());
        let _ = parse(&file(3, [2, 32], 8000, &tail[..tail.len() / 8 * 8]));
    }

    #[test]
    fn an_edited_file_is_read_or_refused_not_panicked_at(
        edits in proptest::collection::vec((0usize..100, any::<u8>()), 1..6),
        tag in prop_oneof![Just(1u16), Just(3), Just(0xfffe)],
        cut in 0usize..120,
    ) {
        let mut content = file(tag, [2, 32], 8000, &[0x3e; 24]);
        for (at, byte) in edits {
            let at = at % content.len();
            content[at] = byte;
        }
        let read = parse(&content);
        prop_assert!(read.is_err() || read.is_ok_and(|sound| sound.samples.iter().all(|x| x.is_finite())));
        content.truncate(cut);
        let _ = parse(&content);
    }
}

#[test]
fn what_sixteen_bits_cannot_hold_is_not_read_as_if_they_could() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.wav");
    let refused = |content: &[u8]| -> Result<String> {
        std::fs::write(&path, content)?;
        Ok(format!("{:#}", read_16_bits(&path).unwrap_err()))
    };
    let stereo = refused(&file(1, [2, 16], 8000, &[1, 0, 1, 0]))?;
    assert!(stereo.ends_with("has 2 channels, a .chr file holds one"), "{stereo}");
    let fine = refused(&file(1, [1, 24], 8000, &[0, 1, 0, 1, 1, 0]))?;
    assert!(fine.ends_with("sample 1 has more than 16 bits"), "{fine}");
    std::fs::write(&path, pcm(&[1, 0, 0, 0x80]))?;
    assert_eq!(read_16_bits(&path)?, read(&path)?);
    Ok(())
}
