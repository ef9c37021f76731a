use std::path::{Path, PathBuf};

use core_layers::{
    Conditional, Engine as _, checkpoint::Weights, dataset::Split, sampling::SamplingConfig,
};
use pixelcnn::{data, sample::ExactEngine};
use tch::Device;

use super::*;
use crate::{
    data::{AboutCodes, Codes, SplitCodes},
    evaluate::{encode, reconstruct},
};

/// A run of two levels, of 2 x 2 and 4 x 4 codes, on the embedded digits.
fn run() -> Result<TrainedPipeline> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/v1/codes");
    TrainedPipeline::load(&path, Weights::Ema, Device::Cpu)
}

fn draws() -> Draws {
    Draws { config: SamplingConfig::default(), seed: 5, known: 0 }
}

fn draw(trained: &TrainedPipeline, labels: &[u32]) -> Result<Vec<Array4<u16>>> {
    let request = Request { count: labels.len(), labels: Some(labels.to_vec()), given: None };
    draw_codes(trained, &request, &Drawing::default(), draws(), &|_| {})
}

#[test]
fn codes_come_back_from_a_file_and_decode_to_the_reconstruction() -> Result<()> {
    let trained = run()?;
    let mut dataset = data::load(&trained.pipeline.data)?;
    dataset.train = dataset.train.select(&[0, 1, 2]);
    let place = tempfile::tempdir()?;
    let path = place.path().join("codes.safetensors");
    let autoencoder = &trained.autoencoder;
    let about = AboutCodes {
        autoencoder: autoencoder.hash.clone(),
        dataset: dataset.name.clone(),
        label_names: dataset.label_names.clone(),
        protocol: dataset.protocol.clone(),
    };
    let made = Codes::new(
        about,
        Split::ALL.map(|split| {
            let images = dataset.split(split);
            let levels = encode(&autoencoder.model, images, Device::Cpu, &mut |_| {});
            SplitCodes { levels, labels: images.labels.clone() }
        }),
    )?;
    made.save(&path)?;
    let read = Codes::load(&path, autoencoder.model.config())?;
    assert_eq!(read, made);
    for split in Split::ALL {
        let back = reconstruct(&autoencoder.model, dataset.split(split), Device::Cpu, &mut |_| {});
        assert_eq!(read.split(split).levels, back.codes);
        assert_eq!(decode(&trained, &read.split(split).levels), back.levels);
    }
    Ok(())
}

#[test]
fn a_code_above_moves_what_is_expected_below() -> Result<()> {
    let trained = run()?;
    let above = draw(&trained, &[3])?.remove(1);
    let engine = ExactEngine::new(&trained.priors[0].model)?;
    let first = |above: &Array4<u16>| {
        let context = level_context(&trained, 0, Some(&[3]), Some(above), 1);
        let mut conditional = Conditional::default();
        engine.stepper(&context).next(&mut conditional);
        conditional.row(0).to_vec()
    };
    let before = first(&above);
    for place in [[0, 0, 0, 0], [0, 1, 1, 0]] {
        let mut other = above.clone();
        other[place] = (other[place] + 1) % 16;
        assert_ne!(first(&other), before, "{place:?} is not seen by the first code below");
    }
    assert_eq!(first(&above), before);
    Ok(())
}

/// The top codes are those of the top prior alone, the bottom ones those of the bottom prior told them.
#[test]
fn codes_are_drawn_from_the_top_down() -> Result<()> {
    let trained = run()?;
    let labels = [1, 7, 7];
    let drawn = draw(&trained, &labels)?;
    for level in [1, 0] {
        let prior = &trained.priors[level].model;
        let context = level_context(&trained, level, Some(&labels), drawn.get(level + 1), 3);
        let mut symbols = Array2::zeros((3, prior.config().image().dims() as usize));
        Drawing::default().draw(prior, &context, &mut symbols, draws(), &|_| {})?;
        assert_eq!(to_codes(prior, &symbols), drawn[level], "level {level}");
    }
    assert_eq!((drawn[0].dim(), drawn[1].dim()), ((3, 4, 4, 1), (3, 2, 2, 1)));
    Ok(())
}
