//! `sample` and `complete`: pictures from a model.

use anyhow::{Result, ensure};
use clap::Args;
use core_layers::{
    ConfigError,
    autocast::Precision,
    cli::ModelArgs,
    run::Ticker,
    sampling::{Draws, SamplingConfig},
};
use ndarray::{Array2, Array4, Axis};
use tch::Device;

use super::{DrawArgs, GivenArgs, class, load};
use crate::{data::Images, evaluate, model::ImageContext, sample, trained::Trained};

/// Flags of `sample`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  pixelcnn sample runs/digits --count 20 --class 3 --temperature 0.9 --out threes.png"
)]
pub struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    draw: DrawArgs,
}

/// Runs `sample`.
pub(super) fn run(args: &SampleArgs) -> Result<()> {
    args.draw.validate()?;
    let (trained, device) = load(&args.model)?;
    let classes = trained.model.config().classes();
    let chosen = chosen_class(&args.draw, &trained)?;
    let context = match (chosen, classes) {
        (Some(class), _) => ImageContext::labels(vec![class; args.draw.count]),
        (None, 0) => ImageContext::none(args.draw.count),
        (None, classes) => ImageContext::labels(rows_of_classes(args.draw.count, classes as usize)),
    };
    let mut symbols =
        Array2::zeros((args.draw.count, trained.model.config().image().dims() as usize));
    let on = Drawing::new(&trained, device, &args.model);
    on.draw(&args.draw, &context, &mut symbols, 0)?;
    let images = to_levels(&trained, &symbols);
    let columns = match (chosen, classes) {
        (None, classes) if classes > 0 => args.draw.count.div_ceil(classes as usize),
        _ => (args.draw.count as f64).sqrt().ceil() as usize,
    };
    let num_levels = trained.model.config().image().levels as u32;
    args.draw.write(&images, &images, num_levels, columns)
}

/// Labels that fill a sheet row by row, a row a class, as evenly as `count` allows.
fn rows_of_classes(count: usize, classes: usize) -> Vec<u32> {
    let each = count.div_ceil(classes);
    (0..count).map(|i| (i / each) as u32).collect()
}

/// Symbols `[B, H W C]` as levels `[B, H, W, C]`.
pub(super) fn to_levels(trained: &Trained, symbols: &Array2<u32>) -> Array4<u16> {
    let image = trained.model.config().image();
    let shape =
        (symbols.nrows(), image.height as usize, image.width as usize, image.colours as usize);
    Array4::from_shape_vec(shape, symbols.iter().map(|&symbol| symbol as u16).collect())
        .expect("as many symbols as levels")
}

/// The class that was asked for.
fn chosen_class(draw: &DrawArgs, trained: &Trained) -> Result<Option<u32>, ConfigError> {
    draw.class.as_deref().map(|text| class(text, trained)).transpose()
}

/// Flags of `complete`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  pixelcnn complete runs/digits --image three.png --rows 4 --count 8 --out completions.png\n  pixelcnn complete runs/digits --image samples.npy --index 2 --rows 4 --out completions.png"
)]
pub struct CompleteArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    given: GivenArgs,
    /// Rows that are given.
    #[arg(long)]
    rows: usize,
    #[command(flatten)]
    draw: DrawArgs,
}

/// Runs `complete`.
pub(super) fn complete(args: &CompleteArgs) -> Result<()> {
    args.draw.validate()?;
    let (trained, device) = load(&args.model)?;
    let image = trained.model.config().image().clone();
    ConfigError::ensure(
        args.rows <= image.height as usize,
        "--rows",
        args.rows,
        &format!("0 to {}", image.height),
    )?;
    let shape = [image.height, image.width, image.colours].map(|size| size as usize);
    let given = args.given.read(shape, image.levels as u32)?;
    let drawing = Drawing::new(&trained, device, &args.model);
    let completed = drawing.complete(&given, args.rows, &args.draw)?;
    let shown = ndarray::concatenate(
        Axis(0),
        &[known_rows(&given, args.rows, image.levels).view(), completed.view()],
    )?;
    args.draw.write(&completed, &shown, image.levels as u32, shown.len_of(Axis(0)))
}

/// A model, and on what it draws.
struct Drawing<'t> {
    trained: &'t Trained,
    device: Device,
    threads: usize,
    precision: Precision, // of full passes; the exact engine has its own
}

impl<'t> Drawing<'t> {
    fn new(trained: &'t Trained, device: Device, args: &ModelArgs) -> Self {
        Self { trained, device, threads: args.threads(), precision: args.precision }
    }

    /// Draws what is not known of `symbols` `[B, N]`.
    fn draw(
        &self,
        draw: &DrawArgs,
        context: &ImageContext,
        symbols: &mut Array2<u32>,
        known: usize,
    ) -> Result<()> {
        let draws = Draws { config: draw.config, seed: draw.seed, known };
        let ticker = Ticker::new("draw", symbols.len(), draw.quiet);
        let drawing = sample::Drawing {
            sampler: draw.sampler,
            device: self.device,
            threads: self.threads,
            precision: self.precision,
        };
        drawing.draw(&self.trained.model, context, symbols, draws, &|count| ticker.tick(count))?;
        Ok(())
    }

    /// Endings of the image `given` `[1, H, W, C]` of which `rows` rows are kept.
    fn complete(&self, given: &Array4<u16>, rows: usize, draw: &DrawArgs) -> Result<Array4<u16>> {
        let model = &self.trained.model;
        let image = model.config().image();
        let known = rows * (image.width * image.colours) as usize;
        let layout = core_layers::Autoregressive::layout(model);
        let raster = layout.order.iter().enumerate().all(|(k, &position)| k == position as usize);
        ensure!(
            raster,
            "complete needs a model that draws row by row; this one has an order of its own"
        );
        let count = draw.count;
        let context = match (chosen_class(draw, self.trained)?, model.config().classes()) {
            (Some(class), _) => ImageContext::labels(vec![class; count]),
            (None, 0) => ImageContext::none(count),
            (None, _) => {
                let _autocast = self.precision.autocast(self.device);
                let posterior =
                    evaluate::posterior_of_prefix(model, given.view(), known, self.device);
                ImageContext::labels(evaluate::draw_classes(&posterior, count, draw.seed))
            }
        };
        let one = evaluate::symbols(given.view());
        let mut symbols =
            Array2::from_shape_fn(
                (count, one.ncols()),
                |(_, i)| if i < known { one[[0, i]] } else { 0 },
            );
        self.draw(draw, &context, &mut symbols, known)?;
        Ok(to_levels(self.trained, &symbols))
    }
}

/// The image with its first `rows` rows, the rest in the middle level.
fn known_rows(given: &Array4<u16>, rows: usize, levels: i64) -> Array4<u16> {
    let mut known = given.clone();
    known.slice_mut(ndarray::s![.., rows.., .., ..]).fill((levels / 2) as u16);
    known
}

/// Of each image: itself, what is given of it, and `count` endings.
pub(super) fn completion_rows(
    trained: &Trained,
    images: &Images,
    rows: usize,
    count: usize,
) -> Result<Array4<u16>> {
    let draw = DrawArgs {
        count,
        class: None,
        out: None,
        npy: None,
        config: SamplingConfig::default(),
        seed: 1,
        sampler: None,
        quiet: true,
    };
    let drawing = Drawing {
        trained,
        device: Device::Cpu,
        threads: core_layers::device::physical_cores(),
        precision: Precision::F32,
    };
    let mut all = Vec::new();
    for row in 0..images.len() {
        let given = images.select(&[row]).levels;
        let known = known_rows(&given, rows, trained.model.config().image().levels);
        let endings = drawing.complete(&given, rows, &draw)?;
        all.extend([given, known, endings]);
    }
    let views: Vec<_> = all.iter().map(Array4::view).collect();
    Ok(ndarray::concatenate(Axis(0), &views)?)
}
