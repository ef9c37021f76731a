//! `compress` and `decompress`: images to a `.chr` file and back, without loss.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use core_layers::{
    Engine,
    autocast::Precision,
    bayes,
    checkpoint::write_atomic,
    cli::{self, DecompressArgs, ModelArgs, counted},
    codec::{self, Archive, Coding, Header},
    run::Ticker,
};
use ndarray::{Array4, Axis};
use tch::Device;

use super::{class, load, sample::to_levels};
use crate::{
    data::{self, Images},
    evaluate,
    model::ImageContext,
    sample::ExactEngine,
    trained::Trained,
};

/// Most images of one file: what a hostile file can make decoding allocate.
const MAX_IMAGES: usize = 1 << 20;

/// Flags of `compress`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pixelcnn compress runs/digits a.png b.png --out ab.chr")]
pub struct CompressArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures, or one .npy file of levels.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The class of all images, by number or name; without it, that of <stem>.labels.npy, or else the likeliest of each.
    #[arg(long)]
    class: Option<String>,
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
    cli::ensure_apart("--out", &args.out, &args.images)?;
    Header::ensure_distinct(&args.images)?;
    let (trained, device) = load(&args.model)?;
    let images = read(&trained, &args.images)?;
    let chosen = args.class.as_deref().map(|text| class(text, &trained)).transpose()?;
    let quiet = args.quiet || args.json;
    let bytes = compress(
        &trained,
        &images,
        chosen,
        &Machine { device, threads: args.model.threads(), precision: args.model.precision, quiet },
    )?;
    write_atomic(&args.out, &bytes)?;
    let bits_per_dim = 8. * bytes.len() as f64 / (images.len() * images.dims()) as f64;
    if args.json {
        super::print_json(&serde_json::json!({
            "file": args.out,
            "bytes": bytes.len(),
            "examples": images.len(),
            "dims": images.dims(),
            "bits_per_dim": bits_per_dim,
        }));
    } else {
        println!(
            "{}: {} bytes, {}, {bits_per_dim:.4} bits per dimension",
            args.out.display(),
            bytes.len(),
            counted(images.len(), "image")
        );
    }
    Ok(())
}

/// On what a codec runs.
pub(super) struct Machine {
    pub(super) device: Device,
    pub(super) threads: usize,
    /// Of what chooses classes; the exact engine has its own.
    pub(super) precision: Precision,
    pub(super) quiet: bool,
}

/// The images as the bytes of a `.chr` file.
pub(super) fn compress(
    trained: &Trained,
    images: &Images,
    class: Option<u32>,
    machine: &Machine,
) -> Result<Vec<u8>> {
    ensure!(
        images.len() <= MAX_IMAGES,
        "{} images are more than the {MAX_IMAGES} of one file",
        images.len()
    );
    Header::ensure_distinct(&images.names)?;
    let image = trained.model.config().image();
    ensure!(
        trained.model.config().context_channels() == 0,
        "a model of a context map needs its map to compress"
    );
    let classes = trained.model.config().classes();
    let labels = match (class, &images.labels, classes) {
        (_, _, 0) => Vec::new(),
        (Some(class), ..) => vec![class; images.len()],
        (None, Some(labels), _) => labels.clone(),
        (None, None, _) => likeliest(trained, images, machine),
    };
    if let Some(label) = labels.iter().find(|&&label| i64::from(label) >= classes) {
        bail!("the label {label} is beyond the model's {classes} classes");
    }
    let engine = ExactEngine::new(&trained.model)?;
    let symbols = evaluate::symbols(images.levels.view());
    let progress = Ticker::new("compress", symbols.len(), machine.quiet);
    let streams = codec::encode(
        &engine,
        &context(&labels, images.len()),
        symbols.view(),
        machine.threads,
        &|n| progress.tick(n),
    )?;
    let header = Header {
        model: trained.hash[..32].to_owned(),
        examples: images.len(),
        shape: [image.height, image.width, image.colours].map(|size| size as usize).to_vec(),
        names: images.names.clone(),
        checksum: Archive::checksum(symbols.iter().copied()),
        sections: Vec::new(),
    };
    let side = codec::pack_uniform(&labels, classes as u32);
    Archive { coding: Coding::Tables, header, side, streams }.to_bytes()
}

fn context(labels: &[u32], rows: usize) -> ImageContext {
    if labels.is_empty() { ImageContext::none(rows) } else { ImageContext::labels(labels.to_vec()) }
}

/// The class under which each image is likeliest, and so smallest.
fn likeliest(trained: &Trained, images: &Images, machine: &Machine) -> Vec<u32> {
    let _autocast = machine.precision.autocast(machine.device);
    let nats = evaluate::nats_by_class(&trained.model, images, machine.device, &mut |_| {});
    nats.iter().map(|nats| bayes::likeliest(&bayes::posterior(nats)) as u32).collect()
}

/// Pictures, or the array of a single .npy file.
fn read(trained: &Trained, paths: &[PathBuf]) -> Result<Images> {
    let image = trained.model.config().image();
    let levels = image.levels as u32;
    let images = match paths {
        [path] if path.extension().is_some_and(|end| end == "npy") => data::read_npy(path)?,
        _ => {
            let mut views = Vec::new();
            for path in paths {
                let one =
                    data::read_image(path, levels, image.colours as usize)?.insert_axis(Axis(0));
                evaluate::ensure_fits(
                    trained.model.config(),
                    one.view(),
                    levels,
                    &path.display().to_string(),
                )?;
                views.push(one);
            }
            let views: Vec<_> = views.iter().map(Array4::view).collect();
            let mut images = Images::new(ndarray::concatenate(Axis(0), &views)?, None);
            images.names = paths.iter().map(|path| base_name(path)).collect::<Result<_>>()?;
            images
        }
    };
    let what = paths[0].display().to_string();
    evaluate::ensure_fits(trained.model.config(), images.levels.view(), levels, &what)?;
    if let Some(beyond) = images.levels.iter().find(|&&level| u32::from(level) >= levels) {
        bail!("{what}: holds the level {beyond}, the model has {levels}");
    }
    Ok(images)
}

fn base_name(path: &Path) -> Result<String> {
    let name = path.file_name().with_context(|| format!("{}: has no base name", path.display()))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Runs `decompress`.
pub(super) fn decompress_file(args: &DecompressArgs) -> Result<()> {
    cli::ensure_folder("--out", &args.out)?;
    let (trained, device) = load(&args.model)?;
    let machine = Machine {
        device,
        threads: args.model.threads(),
        precision: args.model.precision,
        quiet: args.quiet,
    };
    let images = args.restore(|bytes| decompress(&trained, bytes, &machine))?;
    let levels = trained.model.config().image().levels as u32;
    for path in data::write_images(&args.out, &images, levels)? {
        println!("{}", path.display());
    }
    Ok(())
}

/// The images of a `.chr` file, verified against its checksum.
pub(super) fn decompress(trained: &Trained, bytes: &[u8], machine: &Machine) -> Result<Images> {
    let archive = Archive::of_model(bytes, &trained.hash, Coding::Tables)?;
    let Header { examples, ref shape, .. } = archive.header;
    let image = trained.model.config().image();
    let wanted = [image.height, image.width, image.colours].map(|size| size as usize);
    ensure!(*shape == wanted, "holds images of {shape:?}, the model's are {wanted:?}");
    ensure!(examples <= MAX_IMAGES, "announces {examples} images, more than {MAX_IMAGES}");
    let classes = trained.model.config().classes();
    let labels = codec::unpack_uniform(
        &archive.side,
        classes as u32,
        if classes == 0 { 0 } else { examples },
    )?;
    let engine = ExactEngine::new(&trained.model)?;
    let progress = Ticker::new("decompress", examples * engine.layout().len(), machine.quiet);
    let symbols = codec::decode(
        &engine,
        &context(&labels, examples),
        &archive.streams,
        machine.threads,
        &|n| progress.tick(n),
    )?;
    archive.header.ensure_checksum(symbols.iter().copied())?;
    let mut images = Images::new(to_levels(trained, &symbols), (classes > 0).then_some(labels));
    images.names = archive.header.names;
    Ok(images)
}
