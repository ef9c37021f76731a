//! `csrc/cuda/program.cu`: convolutional networks over images, run value after value in one launch. Letters: B images, N
//! values of a launch, H rows, W columns, G colours, C channels, E features of a level, O outputs, L levels, K inputs of a
//! convolution (channels of all its taps).
//!
//! A network is a list of steps over maps of features `[H, W, C]` ([`Description`]). Some are of a whole row, and computed
//! when it begins, of rows above only: also, for convolutions of single pixels, the sums of the taps that lie above. The others
//! are of one pixel, before each colour of it: `y[r, c] = start + sum_taps W x[r + dy, c + dx]`, gates, rectifiers and sums.
//!
//! A block has one or four images and runs all values of a launch itself. Maps are rings of rows in global memory, f32; the
//! inputs of a product are laid out in shared memory, `ROW_LANES` pixels of a row or the pixel of every image side by side,
//! so that a weight serves as many; networks that no shared memory holds have them in global memory. Weights are of T, sums
//! f32.
//!
//! A value reads the weights of its colour's steps once a block, `K O` numbers each, and two operations are done a weight
//! and image; beside them a convolution reads `K + O` floats an image of maps, sums or biases and writes O, a gate reads 2
//! floats, a sum 2 and a rectifier 1 for each that it writes. The first value of a row reads a row's weights `W / 8` times an
//! image, for all W columns. What should bind is the rate at which one multiprocessor reads L2, and the three barriers of a
//! convolution. Not run on a GPU.
//!
//! An image's bits are a function of the program and of its own levels: not of the images beside it, nor of the values a
//! launch makes.

mod description;

use anyhow::{Result, ensure};
use ndarray::{Array2, ArrayView2};
use tch::{Device, Kind, Tensor};

use description::ROW_LANES;
pub use description::{Description, Function, Map, Program, Start, Step, Tap, Target};

use super::{
    Arg, MOST_SHARED, PROGRAM, Shape,
    line::{Launch, Line, Run},
};

/// Blocks that keep a GPU busy: beyond them, images share a block.
const BLOCKS: usize = 128;
/// Images that share a block.
const GROUP: usize = 4;

/// Whether kernels run on `device`.
pub fn is_there(device: Device) -> bool {
    super::of(device).is_some()
}

/// Images of one program in lockstep.
#[derive(Debug)]
pub struct Images<'p> {
    line: Line,
    kept: Kept<'p>,
}

/// What images are told once, and what is kept of their values.
#[derive(Debug)]
struct Kept<'p> {
    program: &'p Program,
    count: usize,
    group: usize, // images of a block; 0 where shared memory is too small for one
    maps: Tensor, // [B, floats of all maps]
    sums: Tensor, // [B, floats of all sums]
    labels: Option<Tensor>,
}

impl Program {
    /// `count` images at their first value, and the class of each; without classes, nothing is added for them.
    ///
    /// # Errors
    /// Where there are not as many as images, or one is out of range.
    pub fn images(&self, count: usize, labels: Option<&[u32]>) -> Result<Images<'_>> {
        let labels = labels.filter(|_| self.classes.is_some());
        let classes = self.classes.unwrap_or(0);
        let known =
            |all: &[u32]| all.len() == count && all.iter().all(|&it| (it as usize) < classes);
        ensure!(labels.is_none_or(known), "{count} images need a class each of {classes}");
        let labels = labels.map(|all| all.iter().map(|&it| i64::from(it)).collect::<Vec<_>>());
        let room = |floats| Tensor::zeros([count as i64, floats], (Kind::Float, self.device));
        let length = self.size.iter().product::<usize>() as i64;
        let shares = count > BLOCKS && self.bytes(GROUP) <= MOST_SHARED;
        let kept = Kept {
            program: self,
            count,
            group: if shares { GROUP } else { usize::from(self.bytes(1) <= MOST_SHARED) },
            maps: room(self.floats_of_maps),
            sums: room(self.floats_of_sums),
            labels: labels.map(|it| Tensor::from_slice(&it).to_device(self.device)),
        };
        let line = Line::new(count, self.levels, self.outputs, length, self.device);
        Ok(Images { line, kept })
    }

    /// Bytes that the products of a block of so many images need; the next block's, behind them, are aligned as these.
    fn bytes(&self, group: usize) -> usize {
        let [pixel, row] = self.room;
        (4 * (pixel * group).max(row * ROW_LANES)).next_multiple_of(16)
    }
}

impl Images<'_> {
    /// Writes a map that is known beforehand, `[B, H, W, C]` or one for all.
    ///
    /// # Errors
    /// Where there is no such map of all rows and columns.
    pub fn load(&mut self, map: usize, values: &Tensor) -> Result<()> {
        let program = self.kept.program;
        let [height, width, _] = program.size;
        let found =
            program.maps.get(map).filter(|(it, _)| it.rows == height && it.columns == width);
        let Some((it, start)) = found else { anyhow::bail!("map {map} is not kept whole") };
        let [rows, span, channels] =
            [it.rows, it.columns + 2 * it.padding, it.channels].map(|it| it as i64);
        let to = self.kept.maps.narrow(1, *start, rows * span * channels);
        let to = to.view([self.kept.count as i64, rows, span, channels]);
        let to = to.narrow(2, it.padding as i64, width as i64);
        let size = values.size();
        let fits = size.len() == 4 && (size[0] == 1 || size[0] == to.size()[0]);
        ensure!(fits && size[1..] == to.size()[1..], "map {map} is {to:?}, not {values:?}");
        tch::no_grad(|| to.shallow_clone().copy_(&values.detach().expand_as(&to)));
        Ok(())
    }

    /// Tells the level of each image at the next value.
    ///
    /// # Errors
    /// Where there are not as many as images, one is no level, or a launch fails.
    pub fn feed(&mut self, levels: &[u32]) -> Result<()> {
        self.line.feed(levels, &self.kept)
    }

    /// The head's outputs for the next value, `[B, O]`.
    ///
    /// # Errors
    /// Where the images are over, or a launch fails.
    pub fn outputs(&mut self) -> Result<Tensor> {
        self.line.outputs(&self.kept)
    }

    /// Draws as many values as there are uniform numbers in `[0, 1)` `[B, N]`, each the first level whose cumulated
    /// probability exceeds its number; the outputs are the logits of a softmax.
    ///
    /// # Errors
    /// Where outputs are no logits of levels, or were asked for without feeding their level; else as [`Self::outputs`].
    pub fn draw(&mut self, uniforms: ArrayView2<'_, f32>) -> Result<Array2<u32>> {
        self.line.draw(uniforms, &self.kept)
    }
}

impl Run for Kept<'_> {
    fn run(&self, launch: &Launch) -> Result<()> {
        let (program, count) = (self.program, self.count);
        let floats = (program.bytes(1) / 4) as i64;
        let room = (self.group == 0)
            .then(|| Tensor::empty([count as i64, floats], (Kind::Float, program.device)));
        let mut arguments = vec![
            Arg::Tensor(&program.description),
            Arg::Tensor(&program.weights),
            Arg::Tensor(&program.floats),
            Arg::Tensor(&self.maps),
            Arg::Tensor(&self.sums),
            Arg::maybe(self.labels.as_ref()),
            Arg::Tensor(&launch.symbols),
            Arg::maybe(launch.uniforms.as_ref()),
            Arg::maybe(launch.outputs.as_ref()),
            Arg::Int(count as i64),
            Arg::Int(launch.start),
            Arg::Int(launch.count),
            Arg::Int(launch.known),
        ];
        if let Some(room) = &room {
            arguments.extend([Arg::Tensor(room), Arg::Int(floats)]);
        }
        let name = match self.group {
            0 => "program_wide",
            1 => "program_1",
            _ => "program_4",
        };
        let shape = Shape {
            grid: [count.div_ceil(self.group.max(1)) as u32, 1, 1],
            block: [program.threads, 1, 1],
            shared: if room.is_some() { 0 } else { program.bytes(self.group) as u32 },
        };
        // SAFETY: the arguments of the kernel of that name. What steps read and write lies in the maps, sums, weights and
        // floats, as was checked when the program was packed; maps, sums, labels and outputs have a row an image; levels are
        // below L and labels among the classes; columns of levels are one more than values, uniform numbers as many; values
        // end with the image, which is the line's length; the room is what the widest product needs.
        unsafe {
            program.gpu.launch(&PROGRAM, program.element, name, shape, &arguments)?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Images<'_> {
    /// As many images of a block as a test wants, 1 or 4; 0 for products in global memory.
    pub(super) fn in_groups_of(mut self, group: usize) -> Self {
        self.kept.group = group;
        self
    }
}
