use super::super::load;
use super::*;

/// A tone of so many samples at 8 kHz; another `pitch`, another sound.
fn tone(root: &Path, path: &str, pitch: usize, count: usize) -> Result<()> {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap())?;
    let samples: Vec<f32> =
        (0..count).map(|t| (t * (pitch + 7) % 251) as f32 / 500.0 - 0.25).collect();
    wav::write(&path, &samples, 8000)
}

fn config(root: &Path) -> DataConfig {
    DataConfig { data: root.display().to_string(), trim_db: 0.0, ..DataConfig::default() }
}

fn refusal(config: &DataConfig) -> String {
    let message = format!("{:#}", load(config).unwrap_err());
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Names of every split: `0` to `39` fill all three.
fn many(root: &Path, speakers: &[&str]) -> Result<()> {
    for (i, speaker) in speakers.iter().enumerate() {
        for n in 0..40 {
            tone(root, &format!("{speaker}/{n}.wav"), 1 + 2 * (40 * i + n), 2400)?;
        }
    }
    Ok(())
}

#[test]
fn sub_folders_are_speakers_and_a_name_is_held_out_for_all() -> Result<()> {
    let folder = tempfile::tempdir()?;
    many(folder.path(), &["b", "a/deep"])?;
    fs::write(folder.path().join("README.md"), "no sound")?;
    fs::write(folder.path().join("b/7.txt"), " Hello.\n")?;
    let data = load(&config(folder.path()))?;
    assert_eq!(data.speakers, ["a", "b"]);
    assert_eq!(data.sample_rate, 8000);
    let all: Vec<_> = Split::ALL.iter().flat_map(|&split| data.split(split)).collect();
    assert_eq!(all.len(), 80, "{:?}", data.report);
    for split in Split::ALL {
        assert!(data.split(split).iter().all(|clip| Split::of_name(&clip.name) == split));
    }
    assert!(all.iter().any(|clip| clip.name.starts_with("deep/") && clip.speaker == 0));
    let said = all.iter().find(|clip| clip.name == "7" && clip.speaker == 1);
    assert_eq!(said.and_then(|clip| clip.text.as_deref()), Some("Hello."));
    Ok(())
}

#[test]
fn what_is_left_out_is_counted_with_its_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    for n in 0..24 {
        tone(root, &format!("{n}.wav"), 1 + 2 * n, 2400)?;
    }
    tone(root, "30.wav", 49, 800)?;
    tone(root, "31.wav", 49, 24_000)?;
    wav::write(&root.join("32.wav"), &[0.0; 4000], 8000)?;
    fs::write(root.join("33.wav"), b"RIFF")?;
    fs::copy(root.join("1.wav"), root.join("34.wav"))?;
    let cut = fs::read(root.join("1.wav"))?;
    fs::write(root.join("35.wav"), &cut[..1000])?;
    std::os::unix::fs::symlink("/dev/zero", root.join("36.wav"))?;
    let data = load(&DataConfig { max_seconds: 1.0, ..config(root) })?;
    let report = data.report.join("\n");
    for line in [
        "24 of 31 recordings kept, 7.2 of ",
        "1 left out: shorter than 0.25 s: 30",
        "1 left out: longer than 1 s: 31",
        "1 left out: silent (no 10 ms above -60 dB of full scale): 32",
        "1 left out: not a WAV file: 33.wav",
        "1 left out: the very sound of another: 34",
        "36.wav: it is not a regular file: 36.wav",
        "1 left out: it is cut off: its header announces 4800 bytes of samples, 956 are there: 35.wav",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    assert_eq!(data.speakers.len(), 1);
    assert!(data.protocol.contains("0.25 s and longer"), "{}", data.protocol);
    Ok(())
}

#[test]
fn named_splits_are_kept() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (i, split) in Split::ALL.into_iter().enumerate() {
        tone(folder.path(), &format!("{}/anna/x.wav", split.name()), 1 + 2 * i, 2400)?;
    }
    let data = load(&config(folder.path()))?;
    assert_eq!(data.speakers, ["anna"]);
    assert!(data.protocol.contains("split by sub-folder"), "{}", data.protocol);
    tone(folder.path(), "y.wav", 1, 2400)?;
    assert!(refusal(&config(folder.path())).contains("y.wav: it lies outside train, valid and"));
    Ok(())
}

#[test]
fn features_beside_the_sound_must_fit_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    many(root, &["a"])?;
    let npy = DataConfig { condition: Condition::Npy, hop: 64, ..config(root) };
    assert!(refusal(&npy).contains("0.npy: No such file"), "{}", refusal(&npy));
    let write = |name: &str, frames: usize, width: usize| -> Result<()> {
        let header =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({frames}, {width}), }}\n");
        let mut content = b"\x93NUMPY\x01\0".to_vec();
        content.extend((header.len() as u16).to_le_bytes());
        content.extend(header.bytes());
        let value = |i: usize| (i / width) as f32; // the number of the frame
        content.extend((0..frames * width).flat_map(|i| value(i).to_le_bytes()));
        Ok(fs::write(root.join("a").join(name), content)?)
    };
    for n in 0..40 {
        write(&format!("{n}.npy"), 38, 3)?; // 2400 samples at hop 64
    }
    let data = load(&npy)?;
    assert_eq!((data.hop, data.num_features), (64, 3));
    assert_eq!(data.test[0].features.as_ref().map(ndarray::Array2::dim), Some((38, 3)));

    // trimmed by whole frames, features with it
    let mut samples = vec![0.0; 2400];
    samples[1000..1400].fill(0.5);
    wav::write(&root.join("a/5.wav"), &samples, 8000)?;
    let trimmed = load(&DataConfig { trim_db: 40.0, min_seconds: 0.0, ..npy.clone() })?;
    let all = Split::ALL.iter().flat_map(|&split| trimmed.split(split));
    let clip = all.into_iter().find(|clip| clip.name == "5").unwrap();
    let features = clip.features.as_ref().unwrap();
    assert_eq!(features[[0, 0]], 8.0, "frames of 10 ms from 960 on, 400 before: 560, 512 = 8 * 64");
    assert_eq!(features.nrows(), clip.levels.len().div_ceil(64));

    write("9.npy", 38, 4)?;
    let width = refusal(&npy);
    assert!(width.contains("features a frame, those before it"), "{width}");
    write("9.npy", 30, 3)?;
    assert!(refusal(&npy).contains("9.npy has 30 frames, 2400 samples at hop 64 need 38"));
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_used_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    assert!(refusal(&config(root)).ends_with("no .wav files in it"));
    tone(root, "x.wav", 1, 2400)?;
    let data = read(root, &config(root))?;
    let empty: Vec<String> = Split::ALL
        .into_iter()
        .filter_map(|split| data.ensure_split(split).err().map(|error| error.to_string()))
        .collect();
    let [first, _] = &empty[..] else { panic!("two splits are empty: {empty:?}") };
    let said = first.contains(" split is empty (1 clip: ") && first.contains("so add clips");
    assert!(said && !first.contains('\n'), "{first}");
    tone(root, "a/y.wav", 1, 2400)?;
    assert!(refusal(&config(root)).ends_with("x.wav: it lies beside folders, which are speakers"));
    fs::remove_file(root.join("x.wav"))?;
    fs::write(root.join("a/y.wav"), [0; 99])?;
    assert!(refusal(&config(root)).contains("y.wav: not a WAV file"), "{}", refusal(&config(root)));
    let unknown = DataConfig { data: "vioce".into(), ..DataConfig::default() };
    assert!(refusal(&unknown).starts_with("vioce: no such data; there are voice, speech"));
    Ok(())
}
