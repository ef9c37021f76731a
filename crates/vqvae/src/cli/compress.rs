//! `compress` and `decompress`: images as codes under the priors, with loss.
//!
//! The file: magic `CHRV`, version, then for each level from the top down the length and the bytes of a `.chr` archive of
//! its codes, the first with the classes as side information. The priors' hashes stand in the archives; a prior is tied to
//! its autoencoder, so they name the decoder too.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use core_layers::{
    bayes::likeliest,
    checkpoint::write_atomic,
    cli::{DecompressArgs, ModelArgs, ensure_apart, ensure_file, ensure_folder, label},
    codec::{self, Archive, Coding, Header},
    dataset::Split,
    run::Ticker,
};
use ndarray::Array4;
use pixelcnn::{
    data::{self, Images},
    evaluate::{nats_by_class, symbols},
    sample::ExactEngine,
};
use serde_json::json;
use tch::Device;

use super::{load_with_priors, print_json, reconstruct::read, rivals::Rivals};
use crate::{
    data::level_images,
    evaluate::encode,
    sample::{decode, level_context, to_codes},
    trained::TrainedPipeline,
};

const MAGIC: &[u8; 4] = b"CHRV";
const VERSION: u16 = 1;
/// Most images in one file: what a damaged header may announce.
const MAX_IMAGES: usize = 1 << 20;

/// Flags of `compress`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vqvae compress runs/vq a.png b.png --out ab.chr\n  vqvae compress runs/vq --split test --out test.chr --rivals"
)]
pub struct CompressArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures of the model's size, or one .npy array.
    #[arg(value_name = "PNG|NPY", required_unless_present = "split")]
    images: Vec<PathBuf>,
    /// A split of the run's data instead.
    #[arg(long, value_enum, conflicts_with = "images")]
    split: Option<Split>,
    /// The class of all images, by number or name [default: their own, or the likeliest].
    #[arg(long)]
    class: Option<String>,
    /// The file to write.
    #[arg(long, value_name = "CHR")]
    out: PathBuf,
    /// Compare with JPEG and WebP of the same size: all images in one sheet each.
    #[arg(long)]
    rivals: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs `compress`.
pub(super) fn run(args: &CompressArgs) -> Result<()> {
    ensure_file("--out", &args.out)?;
    ensure_apart("--out", &args.out, &args.images)?;
    Header::ensure_distinct(&args.images)?;
    let (trained, device) = load_with_priors(&args.model)?;
    let config = trained.autoencoder.model.config();
    let mut images = match (args.split, args.images.as_slice()) {
        (Some(split), _) => data::load(&trained.pipeline.data)?.split(split).clone(),
        (None, [path]) if path.extension().is_some_and(|end| end == "npy") => data::read_npy(path)?,
        (None, paths) => read(config, paths)?,
    };
    let shape = [config.height, config.width, config.colours].map(|size| size as usize);
    ensure!(
        images.levels.shape()[1..] == shape,
        "images are {:?} (height, width, colours), the model's {shape:?}",
        &images.levels.shape()[1..]
    );
    if let Some(beyond) = images.levels.iter().find(|&&level| i64::from(level) >= config.levels) {
        bail!("an image holds the level {beyond}, the model has {}", config.levels);
    }
    if let Some(text) = &args.class {
        let names = trained.classes();
        let class = label("--class", "classes", text, names, names.len() as u32)?;
        images.labels = Some(vec![class; images.len()]);
    }
    let bytes = compress(&trained, &images, device, args.model.threads(), args.quiet)?;
    write_atomic(&args.out, &bytes)?;
    let back = decompress(&trained, &bytes, args.model.threads(), true)?;
    let rivals = Rivals::measure(
        &images.levels,
        &back.levels,
        config.levels as u32,
        bytes.len(),
        args.rivals,
    )?;
    if args.json {
        let mut value = rivals.to_json();
        value["file"] = json!(args.out);
        value["examples"] = json!(images.len());
        print_json(&value);
    } else {
        println!("{}: {} bytes, {} images", args.out.display(), bytes.len(), images.len());
        println!("{rivals}");
    }
    Ok(())
}

/// Images as the bytes of a file.
pub(super) fn compress(
    trained: &TrainedPipeline,
    images: &Images,
    device: Device,
    threads: usize,
    quiet: bool,
) -> Result<Vec<u8>> {
    ensure!(!images.is_empty(), "there is no image to compress");
    Header::ensure_distinct(&images.names)?;
    let codes = encode(&trained.autoencoder.model, images, device, &mut |_| {});
    let classes = trained.classes().len();
    let labels = match (&images.labels, classes) {
        (_, 0) => Vec::new(),
        (Some(labels), _) => labels.clone(),
        (None, _) => likeliest_classes(trained, &codes, device),
    };
    ensure!(
        labels.iter().all(|&label| (label as usize) < classes),
        "a label is beyond the model's {classes} classes"
    );
    let total = codes.iter().map(Array4::len).sum();
    let ticker = Ticker::new("compress", total, quiet);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    for (level, prior) in trained.priors.iter().enumerate().rev() {
        let told = (!labels.is_empty()).then_some(labels.as_slice());
        let context = level_context(trained, level, told, codes.get(level + 1), images.len());
        let symbols = symbols(codes[level].view());
        let engine = ExactEngine::new(&prior.model)?;
        let streams =
            codec::encode(&engine, &context, symbols.view(), threads, &|n| ticker.tick(n))?;
        let is_top = level + 1 == trained.priors.len();
        let header = Header {
            model: prior.hash[..32].to_owned(),
            examples: images.len(),
            shape: codes[level].shape()[1..].to_vec(),
            names: if is_top { images.names.clone() } else { Vec::new() },
            checksum: Archive::checksum(symbols.iter().copied()),
            sections: Vec::new(),
        };
        let side = if is_top { codec::pack_uniform(&labels, classes as u32) } else { Vec::new() };
        let archive = Archive { coding: Coding::Tables, header, side, streams }.to_bytes()?;
        bytes.extend((archive.len() as u32).to_le_bytes());
        bytes.extend(archive);
    }
    Ok(bytes)
}

/// The class under which the codes of the top level are likeliest, for each image.
fn likeliest_classes(trained: &TrainedPipeline, codes: &[Array4<u16>], device: Device) -> Vec<u32> {
    let top = trained.priors.len() - 1;
    let images = level_images(&codes[top], None, None);
    let nats = nats_by_class(&trained.priors[top].model, &images, device, &mut |_| {});
    let log_probs = |nats: &Vec<f64>| nats.iter().map(|nats| -nats).collect::<Vec<_>>();
    nats.iter().map(|nats| likeliest(&log_probs(nats)) as u32).collect()
}

/// The pictures of a file.
pub(super) fn decompress(
    trained: &TrainedPipeline,
    bytes: &[u8],
    threads: usize,
    quiet: bool,
) -> Result<Images> {
    ensure!(bytes.len() >= 6 && &bytes[..4] == MAGIC, "is not a .chr file of vqvae");
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    ensure!(version == VERSION, "has format version {version}, this program reads {VERSION}");
    let mut rest = &bytes[6..];
    let mut above: Option<Array4<u16>> = None;
    let (mut labels, mut names) = (Vec::new(), Vec::new());
    let mut codes = Vec::new();
    let classes = trained.classes().len() as u32;
    for (level, prior) in trained.priors.iter().enumerate().rev() {
        let (length, tail) = rest.split_at_checked(4).context("is cut off")?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let (archive, tail) = tail.split_at_checked(length).context("is cut off")?;
        rest = tail;
        let archive = Archive::of_model(archive, &prior.hash, Coding::Tables)?;
        let Header { examples, ref shape, .. } = archive.header;
        let image = prior.model.config().image();
        let wanted = [image.height, image.width, image.colours].map(|size| size as usize);
        ensure!(*shape == wanted, "holds codes of {shape:?}, the model's are {wanted:?}");
        ensure!(examples <= MAX_IMAGES, "announces {examples} images, more than {MAX_IMAGES}");
        if let Some(above) = &above {
            let found = above.dim().0;
            ensure!(found == examples, "has levels of {found} and of {examples} images");
        } else {
            let count = if classes == 0 { 0 } else { examples };
            labels = codec::unpack_uniform(&archive.side, classes, count)?;
            names.clone_from(&archive.header.names);
        }
        let told = (!labels.is_empty()).then_some(labels.as_slice());
        let context = level_context(trained, level, told, above.as_ref(), examples);
        let engine = ExactEngine::new(&prior.model)?;
        let ticker = Ticker::new("decompress", examples * wanted.iter().product::<usize>(), quiet);
        let symbols =
            codec::decode(&engine, &context, &archive.streams, threads, &|n| ticker.tick(n))?;
        archive.header.ensure_checksum(symbols.iter().copied())?;
        let found = to_codes(&prior.model, &symbols);
        above = Some(found.clone());
        codes.push(found);
    }
    ensure!(rest.is_empty(), "has {} bytes too many", rest.len());
    codes.reverse();
    let told = (!labels.is_empty()).then_some(labels);
    Ok(Images { names, ..Images::new(decode(trained, &codes), told) })
}

/// Runs `decompress`.
pub(super) fn decompress_file(args: &DecompressArgs) -> Result<()> {
    ensure_folder("--out", &args.out)?;
    let (trained, _) = load_with_priors(&args.model)?;
    let threads = args.model.threads();
    let images = args.restore(|bytes| decompress(&trained, bytes, threads, args.quiet))?;
    let levels = trained.autoencoder.model.config().levels as u32;
    for path in data::write_images(&args.out, &images, levels)? {
        println!("{}", path.display());
    }
    Ok(())
}
