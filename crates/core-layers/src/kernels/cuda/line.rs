//! The line of values that a stepping kernel makes: those told that still wait for a launch, and those it is asked for.
//! Letters: B examples, N values of a launch, O outputs, L levels.

use anyhow::{Result, ensure};
use ndarray::{Array2, ArrayView2};
use tch::{Device, Kind, Tensor};

/// Given levels that wait for a launch.
const MOST_WAITING: usize = 256;

/// What a launch makes.
#[derive(Debug)]
pub(super) struct Launch {
    /// Values made before it.
    pub(super) start: i64,
    /// Values N that it makes.
    pub(super) count: i64,
    /// Columns of `symbols` behind the first that are given; the others are drawn.
    pub(super) known: i64,
    /// The level before each value, and the last one: `[B, N + 1]`; -1 before the first.
    pub(super) symbols: Tensor,
    /// A number for each value `[B, N]`, where some are drawn.
    pub(super) uniforms: Option<Tensor>,
    /// Room for the head's outputs of the last value `[B, O]`, where they are asked for.
    pub(super) outputs: Option<Tensor>,
}

/// What makes values.
pub(super) trait Run {
    /// # Errors
    /// Where the kernel cannot run.
    fn run(&self, launch: &Launch) -> Result<()>;
}

/// Where examples in lockstep stand.
#[derive(Debug)]
pub(super) struct Line {
    rows: i64,
    levels: i64,
    width: i64, // outputs O
    length: i64,
    device: Device,
    made: i64,
    waiting: Vec<i64>, // levels [.., B] of value made - 1 and those that follow it; -1 before the first
    outputs: Option<Tensor>, // of value made - 1 [B, O], while its level is not known
}

/// What is wanted of the last values of a launch.
enum Wanted<'u> {
    /// Nothing: what later values read is kept.
    Nothing,
    /// The outputs of the last.
    Outputs,
    /// A level at each of these uniform numbers `[B, N]`.
    Levels(ArrayView2<'u, f32>),
}

impl Line {
    /// `rows` examples of `length` values, at the first.
    pub(super) fn new(rows: usize, levels: i64, width: i64, length: i64, device: Device) -> Self {
        let (waiting, outputs) = (vec![-1; rows], None);
        Self { rows: rows as i64, levels, width, length, device, made: 0, waiting, outputs }
    }

    /// Tells the level of each example at the next value.
    ///
    /// # Errors
    /// Where there are not as many as examples, one is no level, examples are over, or a launch fails.
    pub(super) fn feed(&mut self, levels: &[u32], on: &impl Run) -> Result<()> {
        let known = levels.iter().all(|&it| i64::from(it) < self.levels);
        ensure!(
            levels.len() as i64 == self.rows && known,
            "{} examples need a level each of {}",
            self.rows,
            self.levels
        );
        self.outputs = None;
        self.waiting.extend(levels.iter().map(|&it| i64::from(it)));
        if self.waiting.len() > MOST_WAITING * levels.len() {
            self.launch(&Wanted::Nothing, on)?;
        }
        Ok(())
    }

    /// The head's outputs for the next value, `[B, O]`.
    ///
    /// # Errors
    /// Where examples are over, or a launch fails.
    pub(super) fn outputs(&mut self, on: &impl Run) -> Result<Tensor> {
        if let Some(outputs) = &self.outputs {
            return Ok(outputs.shallow_clone());
        }
        if self.rows == 0 {
            return Ok(Tensor::zeros([0, self.width], (Kind::Float, self.device)));
        }
        let outputs = self.launch(&Wanted::Outputs, on)?.outputs;
        self.outputs = outputs.as_ref().map(Tensor::shallow_clone);
        Ok(outputs.expect("they were asked for"))
    }

    /// Draws as many values as there are uniform numbers.
    ///
    /// # Errors
    /// Where outputs are no logits of levels, or were asked for without telling their level; else as [`Self::outputs`].
    pub(super) fn draw(
        &mut self,
        uniforms: ArrayView2<'_, f32>,
        on: &impl Run,
    ) -> Result<Array2<u32>> {
        ensure!(
            self.width == self.levels && self.outputs.is_none(),
            "a level is drawn of a softmax whose outputs nobody asked for"
        );
        ensure!(uniforms.nrows() as i64 == self.rows, "{} examples draw in lockstep", self.rows);
        if uniforms.is_empty() {
            return Ok(Array2::zeros(uniforms.dim()));
        }
        let Launch { symbols, known, .. } = self.launch(&Wanted::Levels(uniforms), on)?;
        let drawn = symbols.narrow(1, known + 1, uniforms.ncols() as i64).to_device(Device::Cpu);
        let flat = Vec::<i64>::try_from(drawn.contiguous().view(-1))?;
        let drawn = Array2::from_shape_fn(uniforms.dim(), |(row, column)| {
            flat[row * uniforms.ncols() + column] as u32
        });
        self.waiting = drawn.column(drawn.ncols() - 1).iter().map(|&it| i64::from(it)).collect();
        Ok(drawn)
    }

    /// Makes the values behind the levels that wait.
    fn launch(&mut self, wanted: &Wanted<'_>, on: &impl Run) -> Result<Launch> {
        let given = self.waiting.len() as i64 / self.rows;
        // of nothing wanted, the last level goes on waiting: its value's outputs may be asked for
        let count = match wanted {
            Wanted::Nothing => given - 1,
            Wanted::Outputs => given,
            Wanted::Levels(uniforms) => given - 1 + uniforms.ncols() as i64,
        };
        let end = self.made + count;
        ensure!(end <= self.length.min(i64::from(i32::MAX)), "value {end} of {}", self.length);
        let filler = vec![-1; ((count + 1 - given) * self.rows) as usize];
        let columns = Tensor::from_slice(&[&self.waiting[..], &filler].concat());
        let room = || Tensor::zeros([self.rows, self.width], (Kind::Float, self.device));
        let launch = Launch {
            start: self.made,
            count,
            known: given - 1,
            symbols: columns.view([count + 1, self.rows]).tr().contiguous().to_device(self.device),
            uniforms: match wanted {
                Wanted::Levels(uniforms) => {
                    let flat: Vec<f32> = uniforms.iter().copied().collect();
                    let all = Tensor::from_slice(&flat).view([self.rows, -1]);
                    Some(all.constant_pad_nd([given - 1, 0]).contiguous().to_device(self.device))
                }
                _ => None,
            },
            outputs: matches!(wanted, Wanted::Outputs).then(room),
        };
        on.run(&launch)?;
        self.made = end;
        let done = if matches!(wanted, Wanted::Nothing) { count } else { given };
        self.waiting.drain(..(done * self.rows) as usize);
        Ok(launch)
    }
}
