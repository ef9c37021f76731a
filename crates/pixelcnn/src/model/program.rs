//! A convolutional network written down as the steps by which it can be run pixel by pixel.
//!
//! A map holds features of every pixel. What is known when decides how it is computed: a [`Reach::Row`] map depends on
//! rows above only, so a whole row of it is computed before the row's first pixel is drawn; a [`Reach::Pixel`] map
//! depends on earlier pixels, and on earlier colours of the pixel itself; a [`Reach::Drawn`] map depends on all of the pixel
//! itself, so that only attention of later pixels reads it. A stepper needs nothing else of a network.

use core_layers::conv::MaskedConv2d;
use tch::Tensor;

use super::to_vec;

/// Index of a map in [`Program::maps`].
pub type MapId = usize;

/// When a map is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A row of it depends on rows above.
    Row,
    /// A pixel of it depends on earlier pixels and on earlier, or its own, colours of the pixel.
    Pixel,
    /// A pixel of it depends on the whole pixel and earlier ones: it is known once the pixel is drawn.
    Drawn,
}

/// Features of every pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Features of a pixel.
    pub channels: usize,
    /// When they are known.
    pub reach: Reach,
    /// Halves they fall into, each split into colours by itself: 2 before a gate.
    pub halves: usize,
}

/// One tap of a convolution: `output[r, c] += ws input[r + dy, c + dx]`.
#[derive(Debug, Clone)]
pub struct Term {
    /// The map that is read.
    pub input: MapId,
    /// Rows down, never positive.
    pub dy: i64,
    /// Columns to the right.
    pub dx: i64,
    /// Weights `[O, I]`, row-major.
    pub ws: Vec<f32>,
}

/// A sum of taps, a bias and what the class adds.
#[derive(Debug, Clone)]
pub struct Conv {
    /// The map that is written.
    pub output: MapId,
    /// Taps in the order in which they are summed.
    pub terms: Vec<Term>,
    /// Bias `[O]`.
    pub bias: Vec<f32>,
    /// What each class adds to the bias `[classes, O]`, row-major.
    pub class: Option<Vec<f32>>,
}

/// A step.
#[derive(Debug, Clone)]
pub enum Op {
    /// Writes a convolution.
    Conv(Conv),
    /// `output = tanh(first half of input) * sigmoid(second half of input)`.
    Gate {
        /// The map before the gate.
        input: MapId,
        /// The gated map, half as wide.
        output: MapId,
    },
    /// `output = max(input, 0)`.
    Relu {
        /// The map that is read.
        input: MapId,
        /// The map that is written.
        output: MapId,
    },
    /// `output = input` where positive, `exp(input) - 1` elsewhere.
    Elu {
        /// The map that is read.
        input: MapId,
        /// The map that is written.
        output: MapId,
    },
    /// `output = a + b`.
    Add {
        /// One map.
        a: MapId,
        /// The other.
        b: MapId,
        /// Their sum.
        output: MapId,
    },
    /// `output_i = sum_{j < i} softmax_j(q_i . k_j / sqrt(D)) v_j` for each head of D channels; 0 at the first pixel.
    Attention {
        /// The queries q, as wide as the output.
        queries: MapId,
        /// Keys k, then values v: a map of [`Reach::Drawn`].
        past: MapId,
        /// The map that is written.
        output: MapId,
        /// Heads that share the channels, those of a colour one behind the other.
        heads: usize,
    },
}

impl Op {
    /// The map that is written.
    pub fn output(&self) -> MapId {
        match *self {
            Self::Conv(Conv { output, .. })
            | Self::Gate { output, .. }
            | Self::Relu { output, .. }
            | Self::Elu { output, .. }
            | Self::Add { output, .. }
            | Self::Attention { output, .. } => output,
        }
    }
}

/// A network as steps. Map 0 is the embedded image; map 1, where there is one, what was made of the context map, repeated
/// to the image's size.
#[derive(Debug, Clone)]
pub struct Program {
    /// Every map.
    pub maps: Vec<Map>,
    /// Every step, in an order in which inputs come before what reads them.
    pub ops: Vec<Op>,
    /// The map that holds the head's outputs, colour by colour.
    pub output: MapId,
    /// Colours of a pixel that are drawn in turn.
    pub colours: usize,
    /// Whether map 1 is a context map.
    pub has_context: bool,
    /// The map of every pixel's row and column, see [`super::coordinate`], if one is read.
    pub position: Option<MapId>,
}

/// The embedded image.
pub(super) const IMAGE: MapId = 0;

impl Program {
    /// A program without steps, for images of `features` numbers a pixel and a context map of `context` channels.
    pub(super) fn new(colours: usize, features: usize, context: usize) -> Self {
        let image = Map { channels: features, reach: Reach::Pixel, halves: 1 };
        let mut maps = vec![image];
        if context > 0 {
            maps.push(Map { channels: context, reach: Reach::Row, halves: 1 });
        }
        let has_context = context > 0;
        Self { maps, ops: Vec::new(), output: IMAGE, colours, has_context, position: None }
    }

    /// The context map.
    pub(super) fn context(&self) -> Option<MapId> {
        self.has_context.then_some(1)
    }

    /// The map of coordinates.
    pub(super) fn position(&mut self) -> MapId {
        if let Some(map) = self.position {
            return map;
        }
        let map = self.map(Map { channels: 2, reach: Reach::Row, halves: 1 });
        self.position = Some(map);
        map
    }

    /// Appends the sum of `convs`, each over its map, and returns what they write.
    pub(super) fn conv(
        &mut self,
        convs: &[(&MaskedConv2d, MapId)],
        class: Option<&Tensor>,
        out: Map,
    ) -> MapId {
        let mut bias = vec![0.; out.channels];
        let mut terms = Vec::new();
        for (conv, input) in convs {
            for (sum, part) in bias.iter_mut().zip(conv.bias().map(to_vec).unwrap_or_default()) {
                *sum += part;
            }
            terms.extend(conv.taps().into_iter().map(|tap| Term {
                input: *input,
                dy: tap.dy,
                dx: tap.dx,
                ws: to_vec(&tap.ws),
            }));
        }
        let output = self.map(out);
        self.ops.push(Op::Conv(Conv { output, terms, bias, class: class.map(to_vec) }));
        output
    }

    /// Appends `conv`, without a bias, over the channels of all `inputs` one behind the other, and returns what it writes.
    pub(super) fn conv_of_all(&mut self, conv: &MaskedConv2d, inputs: &[MapId], out: Map) -> MapId {
        let mut terms = Vec::new();
        for tap in conv.taps() {
            let mut first = 0;
            for &input in inputs {
                let channels = self.maps[input].channels as i64;
                let ws = to_vec(&tap.ws.narrow(1, first, channels));
                terms.push(Term { input, dy: tap.dy, dx: tap.dx, ws });
                first += channels;
            }
        }
        let bias = vec![0.; out.channels];
        let output = self.map(out);
        self.ops.push(Op::Conv(Conv { output, terms, bias, class: None }));
        output
    }

    /// Appends attention and returns what it writes.
    pub(super) fn attention(&mut self, queries: MapId, past: MapId, heads: usize) -> MapId {
        let output = self.map(self.maps[queries]);
        self.ops.push(Op::Attention { queries, past, output, heads });
        output
    }

    /// Appends a gate and returns what it writes.
    pub(super) fn gate(&mut self, input: MapId) -> MapId {
        let map = self.maps[input];
        let output = self.map(Map { channels: map.channels / 2, halves: 1, ..map });
        self.ops.push(Op::Gate { input, output });
        output
    }

    /// Appends a rectifier and returns what it writes.
    pub(super) fn relu(&mut self, input: MapId) -> MapId {
        let output = self.map(self.maps[input]);
        self.ops.push(Op::Relu { input, output });
        output
    }

    /// Appends an exponential linear unit and returns what it writes.
    pub(super) fn elu(&mut self, input: MapId) -> MapId {
        let output = self.map(self.maps[input]);
        self.ops.push(Op::Elu { input, output });
        output
    }

    /// Appends a sum and returns what it writes.
    pub(super) fn add(&mut self, a: MapId, b: MapId) -> MapId {
        let output = self.map(self.maps[a]);
        self.ops.push(Op::Add { a, b, output });
        output
    }

    fn map(&mut self, map: Map) -> MapId {
        self.maps.push(map);
        self.maps.len() - 1
    }
}

impl Map {
    /// A pixel map of one half.
    pub(super) fn pixel(channels: i64) -> Self {
        Self { channels: channels as usize, reach: Reach::Pixel, halves: 1 }
    }

    /// A map before a gate.
    pub(super) fn pre_gate(channels: i64, reach: Reach) -> Self {
        Self { channels: 2 * channels as usize, reach, halves: 2 }
    }
}
