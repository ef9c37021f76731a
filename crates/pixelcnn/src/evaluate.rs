//! How probable images are under a model, and which class they belong to.

use core_layers::{
    Autoregressive, Context as _,
    bayes::{marginal, posterior},
    likelihood::{self, Tally},
};
use ndarray::{Array2, ArrayView4};
use tch::{Device, Kind, Tensor};

use crate::{
    config::ModelConfig,
    data::Images,
    model::{ImageContext, Model},
};

/// Levels `[N, H, W, C]` as symbols `[N, H W C]`.
pub fn symbols(levels: ArrayView4<'_, u16>) -> Array2<u32> {
    let count = levels.shape()[0];
    let flat: Vec<u32> = levels.iter().map(|&level| u32::from(level)).collect();
    let dims = levels.shape()[1..].iter().product();
    Array2::from_shape_vec((count, dims), flat).expect("as many symbols as levels")
}

/// The images `rows` as a tensor of symbols `[rows, H W C]`.
pub fn batch(images: &Images, rows: &[usize], device: Device) -> Tensor {
    let dims = images.dims();
    let mut flat = Vec::with_capacity(rows.len() * dims);
    for &row in rows {
        flat.extend(
            images.levels.index_axis(ndarray::Axis(0), row).iter().map(|&level| i64::from(level)),
        );
    }
    Tensor::from_slice(&flat).reshape([rows.len() as i64, dims as i64]).to_device(device)
}

/// What `model` is told about the images `rows`: their labels and their maps, if it wants them.
pub fn context(model: &Model, images: &Images, rows: &[usize]) -> ImageContext {
    let context = match &images.labels {
        Some(labels) if model.config().classes() > 0 => {
            ImageContext::labels(rows.iter().map(|&row| labels[row]).collect())
        }
        _ => ImageContext::none(rows.len()),
    };
    match &images.maps {
        Some(maps) if model.config().context_channels() > 0 => context.with_map(maps.maps(rows)),
        _ => context,
    }
}

/// Images that are evaluated at once: enough for the cores, few enough for their caches.
const BATCH: usize = 32;

/// Nats of each image given its own label, where the model wants one; every image once. `tick` hears of images done.
pub fn nats(model: &Model, images: &Images, device: Device, tick: &mut dyn FnMut(usize)) -> Tally {
    let mut tally = Tally::default();
    let all: Vec<usize> = (0..images.len()).collect();
    for rows in all.chunks(BATCH) {
        tally.add(batch_nats(model, &batch(images, rows, device), &context(model, images, rows)));
        tick(rows.len());
    }
    tally
}

fn batch_nats(model: &Model, xs: &Tensor, context: &ImageContext) -> Vec<f64> {
    let nats = tch::no_grad(|| likelihood::nll(model, xs, context))
        .to_kind(Kind::Double)
        .to_device(Device::Cpu);
    Vec::try_from(nats).expect("a flat double tensor is a vector")
}

/// Mean nats of each pixel `[H W]`, its colours together.
pub fn nats_by_pixel(model: &Model, images: &Images, device: Device) -> Vec<f64> {
    let colours = model.config().image().colours;
    let all: Vec<usize> = (0..images.len()).collect();
    let mut total = vec![0.; (model.config().image().dims() / colours) as usize];
    for rows in all.chunks(BATCH) {
        let xs = batch(images, rows, device);
        let log_probs = tch::no_grad(|| {
            model.conditionals(&model.embed(&xs), &context(model, images, rows)).log_prob(&xs)
        });
        let by_pixel = log_probs
            .reshape([rows.len() as i64, -1, colours])
            .sum_dim_intlist([0i64, 2].as_slice(), false, Kind::Double)
            .to_device(Device::Cpu);
        let by_pixel: Vec<f64> = Vec::try_from(by_pixel).expect("a flat double tensor is a vector");
        for (total, log_prob) in total.iter_mut().zip(by_pixel) {
            *total -= log_prob / images.len() as f64;
        }
    }
    total
}

/// Nats averaged over the orders of a MADE: `-log mean_k p_k(x)`. For any other model there is one order.
pub fn nats_over_orders(model: &mut Model, images: &Images, device: Device) -> Tally {
    let orders: Vec<Tally> = (0..model.num_orders() as u64)
        .map(|k| {
            model.use_order(k);
            nats(model, images, device, &mut |_| {})
        })
        .collect();
    model.use_order(0);
    let mut tally = Tally::default();
    tally.add((0..images.len()).map(|image| {
        let nats: Vec<f64> = orders.iter().map(|order| order.examples()[image]).collect();
        marginal(&nats)
    }));
    tally
}

/// Nats of each image under every class `[images][classes]`: `-log p(x | y)`.
pub fn nats_by_class(
    model: &Model,
    images: &Images,
    device: Device,
    tick: &mut dyn FnMut(usize),
) -> Vec<Vec<f64>> {
    let classes = model.config().classes() as usize;
    let mut all = Vec::with_capacity(images.len());
    // one image under all classes is one batch
    let together = BATCH.div_ceil(classes.max(1));
    let indices: Vec<usize> = (0..images.len()).collect();
    for rows in indices.chunks(together) {
        let repeated: Vec<usize> =
            rows.iter().flat_map(|&row| std::iter::repeat_n(row, classes)).collect();
        let labels = (0..rows.len()).flat_map(|_| 0..classes as u32).collect();
        let context = ImageContext::labels(labels);
        debug_assert_eq!(context.rows(), repeated.len());
        let nats = batch_nats(model, &batch(images, &repeated, device), &context);
        all.extend(nats.chunks(classes).map(<[f64]>::to_vec));
        tick(rows.len());
    }
    all
}

/// `log p(y | x_<known)` of one image `[1, H, W, C]` whose first `known` values are given.
pub fn posterior_of_prefix(
    model: &Model,
    given: ArrayView4<'_, u16>,
    known: usize,
    device: Device,
) -> Vec<f64> {
    let classes = model.config().classes();
    let images = Images::new(given.to_owned(), None);
    let xs = batch(&images, &vec![0; classes as usize], device);
    let context = ImageContext::labels((0..classes as u32).collect());
    let log_prob = tch::no_grad(|| model.conditionals(&model.embed(&xs), &context).log_prob(&xs));
    let nats = -log_prob.narrow(1, 0, known as i64).sum_dim_intlist(
        [1i64].as_slice(),
        false,
        Kind::Double,
    );
    posterior(
        &Vec::<f64>::try_from(nats.to_device(Device::Cpu))
            .expect("a flat double tensor is a vector"),
    )
}

/// `count` classes drawn with the log-probabilities `posterior`.
pub fn draw_classes(posterior: &[f64], count: usize, seed: u64) -> Vec<u32> {
    let draw = |index: usize| {
        let u = core_layers::random::uniform_at(seed, "class", index as u64, 0);
        let mut sum = 0.;
        let past = |log_prob: &f64| {
            sum += log_prob.exp();
            sum > u
        };
        posterior.iter().position(past).unwrap_or(posterior.len() - 1) as u32
    };
    (0..count).map(draw).collect()
}

/// Refuses images `[N, H, W, C]` of another shape or other levels than a model's.
///
/// # Errors
/// One line that names both shapes.
pub fn ensure_fits(
    model: &ModelConfig,
    levels: ArrayView4<'_, u16>,
    num_levels: u32,
    what: &str,
) -> anyhow::Result<()> {
    let image = model.image();
    let wanted = [image.height, image.width, image.colours].map(|size| size as usize);
    anyhow::ensure!(
        levels.shape()[1..] == wanted && i64::from(num_levels) == image.levels,
        "{what}: images are {:?} (height, width, colours) of {num_levels} levels, the model's {wanted:?} of {}",
        &levels.shape()[1..],
        image.levels
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_costs_the_same_alone_and_among_others() -> anyhow::Result<()> {
        let Some(run) = crate::config::preset("gated") else { anyhow::bail!("no preset gated") };
        let vs = tch::nn::VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &run.model)?;
        for mut tensor in core_layers::optim::parameters(&vs).into_values() {
            tch::no_grad(|| {
                let _ = tensor.g_add_(&(tensor.randn_like() * 0.1));
            });
        }
        let images = crate::data::load(&run.data)?.test.select(&(0..BATCH + 5).collect::<Vec<_>>());
        let together = nats(&model, &images, Device::Cpu, &mut |_| {});
        assert_eq!(
            together.examples().len(),
            BATCH + 5,
            "every image once, the last batch as well"
        );
        for (index, among) in together.examples().iter().enumerate() {
            let alone =
                nats(&model, &images.select(&[index]), Device::Cpu, &mut |_| {}).examples()[0];
            assert!(
                (alone - among).abs() < 1e-3,
                "image {index}: {alone} alone, {among} among others"
            );
        }
        Ok(())
    }
}
