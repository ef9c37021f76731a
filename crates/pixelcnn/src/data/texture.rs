//! Images made on the fly from distributions whose entropy is known exactly: what a model must approach on fresh
//! samples and must not fall below.
//! Letters: N images, W rows and columns, L levels.

use core_layers::{ConfigError, dataset::FileDigest, random};
use ndarray::Array4;

use super::dataset::{FIXED_SEED, Source, TEXTURE};
use super::{Binarize, DataConfig, Images};

/// Images of the three splits.
const COUNTS: [usize; 3] = [10_000, 2_000, 2_000];
/// Largest side of an Ising texture: its entropy is a sum over `2^W` states.
const MAX_ISING_SIDE: u32 = 16;
/// How strongly an Ising pixel follows a neighbour.
const COUPLING: f64 = 1.2;

/// A distribution over square grey images, each value depending on the ones to its left and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Texture {
    kind: Kind,
    side: usize,
    num_levels: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Every value uniform and on its own.
    Noise,
    /// A Markov chain along each row: `p(y | x) = [y = x] / 2 + [y = x + 1 mod L] / 4 + 1 / (4 L)`; the first is uniform.
    Markov,
    /// `p(1 | left, above) = sigmoid(a (s_left + s_above))`, s being -1 for 0, 1 for 1, and 0 beyond the border.
    Ising,
}

/// Draws the texture that a configuration names.
pub(super) fn read(config: &DataConfig) -> Result<Source, ConfigError> {
    let texture = Texture::of(config)?;
    let Texture { side, num_levels, .. } = texture;
    let splits: Vec<Images> = (COUNTS.iter().zip(TEXTURE))
        .map(|(&count, purpose)| Images::new(texture.draw(count, (FIXED_SEED, purpose, 0)), None))
        .collect();
    let bytes: Vec<u8> = splits
        .iter()
        .flat_map(|images| &images.levels)
        .flat_map(|level| level.to_le_bytes())
        .collect();
    let splits = splits.try_into().expect("three counts make three splits");
    let [train, valid, test] = COUNTS;
    Ok(Source {
        name: config.data.clone(),
        num_levels,
        label_names: Vec::new(),
        rule: format!(
            "{} {side}x{side}: {}; {train} drawn anew each epoch to train, {valid} to validate, {test} to test",
            config.data,
            texture.formula(),
        ),
        splits,
        files: vec![FileDigest::new("drawn", &bytes)],
        decoder: "texture/1",
        texture: Some(texture),
    })
}

impl Texture {
    fn of(config: &DataConfig) -> Result<Self, ConfigError> {
        let rule = format!("none for {}", config.data);
        let binarize = format!("{:?}", config.binarize).to_lowercase();
        ConfigError::ensure(config.binarize == Binarize::None, "data.binarize", binarize, &rule)?;
        let (kind, usual_side, usual_levels) = match config.data.as_str() {
            "noise" => (Kind::Noise, 8, 256),
            "markov" => (Kind::Markov, 16, 4),
            _ => (Kind::Ising, 8, 2),
        };
        let num_levels = if config.levels == 0 { usual_levels } else { config.levels };
        let side = config.side_or(usual_side);
        if kind == Kind::Ising {
            ConfigError::ensure(num_levels == 2, "data.levels", num_levels, "0 or 2 for ising")?;
            let rule = format!("0..={MAX_ISING_SIDE} for ising");
            ConfigError::ensure(side <= MAX_ISING_SIDE as usize, "data.side", side, &rule)?;
        }
        ConfigError::ensure(side <= 64, "data.side", side, &format!("0..=64 for {}", config.data))?;
        Ok(Self { kind, side, num_levels })
    }

    fn formula(self) -> String {
        match self.kind {
            Kind::Noise => "uniform and independent".into(),
            Kind::Markov => {
                "along each row p(y | x) = [y = x] / 2 + [y = x + 1 mod L] / 4 + 1 / (4 L)".into()
            }
            Kind::Ising => format!("p(1 | left, above) = sigmoid({COUPLING} (s_left + s_above))"),
        }
    }

    /// `count` images `[N, W, W, 1]`, a function of (seed, purpose, epoch).
    pub(super) fn draw(
        &self,
        count: usize,
        (seed, purpose, epoch): (u64, &str, u64),
    ) -> Array4<u16> {
        let mut rng = random::generator(seed, purpose, epoch);
        let mut uniform = || random::uniform(&mut rng);
        let mut levels = Array4::zeros((count, self.side, self.side, 1));
        for n in 0..count {
            for y in 0..self.side {
                for x in 0..self.side {
                    let (left, above) = neighbours(&levels, n, y, x);
                    levels[[n, y, x, 0]] = self.next(&mut uniform, left, above);
                }
            }
        }
        levels
    }

    fn next(
        &self,
        uniform: &mut impl FnMut() -> f64,
        left: Option<u16>,
        above: Option<u16>,
    ) -> u16 {
        let mut below = |bound: u32| (uniform() * f64::from(bound)) as u16;
        match (self.kind, left) {
            (Kind::Markov, Some(left)) => match below(4) {
                0 | 1 => left,
                2 => self.after(left),
                _ => below(self.num_levels),
            },
            (Kind::Noise | Kind::Markov, _) => below(self.num_levels),
            (Kind::Ising, _) => u16::from(uniform() < prob_of_one(left, above)),
        }
    }

    fn after(&self, level: u16) -> u16 {
        ((u32::from(level) + 1) % self.num_levels) as u16
    }

    /// p(level | left, above).
    fn prob(&self, level: u16, left: Option<u16>, above: Option<u16>) -> f64 {
        let uniform = 1.0 / f64::from(self.num_levels);
        match (self.kind, left) {
            (Kind::Markov, Some(left)) => {
                let [stays, steps] =
                    [left, self.after(left)].map(|likely| f64::from(u8::from(level == likely)));
                stays / 2.0 + steps / 4.0 + uniform / 4.0
            }
            (Kind::Noise | Kind::Markov, _) => uniform,
            (Kind::Ising, _) if level == 1 => prob_of_one(left, above),
            (Kind::Ising, _) => 1.0 - prob_of_one(left, above),
        }
    }

    /// `-ln p(image)`, nats, in the mean over images.
    pub(super) fn nll_nats(&self, levels: &Array4<u16>) -> f64 {
        let nats = |((n, y, x, _), &level): ((usize, usize, usize, usize), &u16)| {
            let (left, above) = neighbours(levels, n, y, x);
            -self.prob(level, left, above).ln()
        };
        levels.indexed_iter().map(nats).sum::<f64>() / levels.dim().0 as f64
    }

    /// The entropy of an image, nats: the mean of `-ln p(image)` over all there are.
    pub(super) fn entropy_nats(&self) -> f64 {
        let (rows, log_levels) = (self.side as f64, f64::from(self.num_levels).ln());
        match self.kind {
            Kind::Noise => rows * rows * log_levels,
            Kind::Markov => {
                let levels = 0..=(self.num_levels - 1) as u16;
                let step: f64 =
                    levels.map(|y| self.prob(y, Some(0), None)).map(|p| -p * p.ln()).sum();
                rows * (log_levels + (rows - 1.0) * step)
            }
            Kind::Ising => ising_entropy(self.side),
        }
    }
}

fn neighbours(levels: &Array4<u16>, n: usize, y: usize, x: usize) -> (Option<u16>, Option<u16>) {
    let left = x.checked_sub(1).map(|x| levels[[n, y, x, 0]]);
    let above = y.checked_sub(1).map(|y| levels[[n, y, x, 0]]);
    (left, above)
}

fn prob_of_one(left: Option<u16>, above: Option<u16>) -> f64 {
    let spin = |level: Option<u16>| level.map_or(0.0, |level| 2.0 * f64::from(level) - 1.0);
    1.0 / (1.0 + (-COUPLING * (spin(left) + spin(above))).exp())
}

/// Entropy of an Ising image, nats, exactly: the distribution of the last W pixels is carried through the raster, and
/// each pixel adds the mean entropy of its conditional.
fn ising_entropy(side: usize) -> f64 {
    let states = 1usize << side;
    let mut probs = vec![0.0; states]; // by the last W pixels, the newest in bit 0
    probs[0] = 1.0;
    let mut nats = 0.0;
    for y in 0..side {
        for x in 0..side {
            let mut next = vec![0.0; states];
            for (state, &prob) in probs.iter().enumerate() {
                let left = (x > 0).then_some((state & 1) as u16);
                let above = (y > 0).then_some((state >> (side - 1)) as u16);
                let one = prob_of_one(left, above);
                nats -= prob * (one * one.ln() + (1.0 - one) * (1.0 - one).ln());
                let shifted = state << 1 & (states - 1);
                next[shifted | 1] += prob * one;
                next[shifted] += prob * (1.0 - one);
            }
            probs = next;
        }
    }
    nats
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texture(kind: Kind, side: usize, num_levels: u32) -> Texture {
        Texture { kind, side, num_levels }
    }

    /// Mean and standard error of `-ln p(image)` over fresh images.
    fn empirical(texture: Texture) -> (f64, f64) {
        let draws = texture.draw(2000, (1, "test", 3));
        let nats: Vec<f64> = draws
            .outer_iter()
            .map(|image| texture.nll_nats(&image.to_owned().insert_axis(ndarray::Axis(0))))
            .collect();
        let mean = nats.iter().sum::<f64>() / 2000.0;
        let variance = nats.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1999.0;
        (mean, (variance / 2000.0).sqrt())
    }

    #[test]
    fn entropy_is_the_mean_negative_log_likelihood() {
        for texture in
            [texture(Kind::Markov, 6, 5), texture(Kind::Markov, 5, 2), texture(Kind::Ising, 6, 2)]
        {
            let (mean, error) = empirical(texture);
            let exact = texture.entropy_nats();
            assert!(
                (mean - exact).abs() < 4.0 * error,
                "{texture:?}: {mean} +- {error}, exactly {exact}"
            );
        }
        let noise = texture(Kind::Noise, 4, 256);
        assert!((empirical(noise).0 - noise.entropy_nats()).abs() < 1e-9);
    }

    #[test]
    fn probabilities_of_all_images_sum_to_one() {
        for (texture, side) in [(texture(Kind::Ising, 3, 2), 3), (texture(Kind::Markov, 3, 2), 3)] {
            let all = (0..1u32 << (side * side)).map(|bits| {
                let image = Array4::from_shape_fn((1, side, side, 1), |(_, y, x, _)| {
                    (bits >> (y * side + x) & 1) as u16
                });
                (-texture.nll_nats(&image)).exp()
            });
            let (sum, entropy) =
                all.fold((0.0, 0.0), |(sum, entropy), p| (sum + p, entropy - p * p.ln()));
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
            assert!((entropy - texture.entropy_nats()).abs() < 1e-10, "{entropy}");
        }
    }

    #[test]
    fn training_images_are_fresh_in_each_epoch() -> anyhow::Result<()> {
        let config = DataConfig { data: "ising".into(), limit: 50, ..DataConfig::default() };
        let data = super::super::load(&config)?;
        assert_ne!(data.epoch(1, 0), data.epoch(1, 1));
        assert_eq!(data.epoch(1, 1), data.epoch(1, 1));
        assert_eq!(data.epoch(1, 0).len(), 50);
        let floor = data.floor_nats(core_layers::dataset::Split::Test).unwrap();
        assert!((floor - data.entropy_nats.unwrap()).abs() < 5.0, "{floor}");
        Ok(())
    }
}
