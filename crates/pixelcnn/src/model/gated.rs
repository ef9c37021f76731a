//! The Gated PixelCNN (van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016, section 2 and
//! figure 2, <https://arxiv.org/abs/1606.05328>).
//!
//! Two stacks see everything above and everything to the left, so that there is no blind spot:
//! `v' = gate(K_v * v + V_v y)`, `h' = h + W (gate(K_h * h + L (K_v * v) + V_h y))`, `gate(a, b) = tanh(a) sigmoid(b)`.
//! The link `L` is taken before the vertical gate; the first layer of each stack has no residual; class and context are
//! added once to every gate.
//!
//! After every so many blocks the horizontal stack reads all earlier pixels by [`attention`](super::attention), and a context
//! map may go through a [`context_stack`](super::context_stack) first.
//!
//! Differs: dilations, and an ELU before the head, as in the UvA deep-learning course (tutorial 12).

use core_layers::{
    ConfigError,
    conv::{Mask, MaskedConv2d, MaskedConv2dConfig, gate},
};
use tch::{Tensor, nn, nn::Module};

use super::{
    attention::{Attention, coordinates},
    context_stack::ContextStack,
    convolutional::Condition,
    program::{Map, MapId, Program, Reach},
};
use crate::config::GatedConfig;

/// What class and context add to one gate.
#[derive(Debug)]
struct Bias {
    class: Option<Tensor>,         // [classes, 2 C]
    context: Option<MaskedConv2d>, // 1x1, channels of the context stack -> 2 C
}

impl Bias {
    fn new(vs: &nn::Path<'_>, config: &GatedConfig, context: i64) -> Result<Self, ConfigError> {
        let wide = 2 * config.channels;
        let class = (config.classes > 0).then(|| vs.zeros("class", &[config.classes, wide]));
        let context = (context > 0).then(|| {
            let seen = MaskedConv2dConfig::new([1, 1], Mask::All); // the whole map is known beforehand
            MaskedConv2d::new(&(vs / "context"), context, wide, seen)
        });
        Ok(Self { class, context: context.transpose()? })
    }

    /// The gate `[B, C, H, W]` of `xs` `[B, 2 C, H, W]` with what is added.
    fn gate(&self, xs: Tensor, condition: &Condition) -> Tensor {
        let class = self.class.as_ref().zip(condition.labels.as_ref());
        let class = class.map(|(table, labels)| table.index_select(0, labels)); // [B, 2 C]
        let context = self.context.as_ref().zip(condition.map.as_ref());
        let xs = match context {
            Some((conv, map)) => conv.forward(map) + xs,
            None => xs,
        };
        gate(&xs, class.as_ref())
    }

    fn live_parameters(&self) -> i64 {
        let class = self.class.as_ref().map_or(0, |table| table.numel() as i64);
        class + self.context.as_ref().map_or(0, MaskedConv2d::live_parameters)
    }
}

#[derive(Debug)]
struct Block {
    vertical: MaskedConv2d,   // C -> 2 C, K x K
    horizontal: MaskedConv2d, // C -> 2 C, 1 x K
    link: MaskedConv2d,       // 2 C -> 2 C, 1x1
    output: MaskedConv2d,     // C -> C, 1x1
    vertical_bias: Bias,
    horizontal_bias: Bias,
}

impl Block {
    /// `context` channels of the context map reach the gates.
    fn new(
        vs: &nn::Path<'_>,
        config: &GatedConfig,
        dilation: i64,
        context: i64,
    ) -> Result<Self, ConfigError> {
        let channels = config.channels;
        let size = config.kernel_size;
        let groups = config.image.colours;
        let masked = MaskedConv2dConfig::new;
        let horizontal =
            MaskedConv2dConfig { dilation, groups, halves: 2, ..masked([1, size], Mask::B) };
        let vertical = MaskedConv2dConfig { dilation, ..masked([size, size], Mask::UpToRow) };
        Ok(Self {
            vertical: MaskedConv2d::new(&(vs / "vertical"), channels, 2 * channels, vertical)?,
            horizontal: MaskedConv2d::new(
                &(vs / "horizontal"),
                channels,
                2 * channels,
                horizontal,
            )?,
            link: MaskedConv2d::new(
                &(vs / "link"),
                2 * channels,
                2 * channels,
                masked([1, 1], Mask::UpToRow),
            )?,
            output: MaskedConv2d::new(
                &(vs / "output"),
                channels,
                channels,
                MaskedConv2dConfig { groups, ..masked([1, 1], Mask::B) },
            )?,
            vertical_bias: Bias::new(&(vs / "vertical_bias"), config, context)?,
            horizontal_bias: Bias::new(&(vs / "horizontal_bias"), config, context)?,
        })
    }

    /// The vertical stack `[B, 2 C, H, W]` before its gate, and the horizontal stack.
    fn forward(&self, v: &Tensor, h: &Tensor, condition: &Condition) -> (Tensor, Tensor) {
        let v = self.vertical.forward(v); // [B, 2 C, H, W]
        let left = self.horizontal.sum(h, &self.link, &v); // [B, 2 C, H, W]
        let gated = self.horizontal_bias.gate(left, condition); // [B, C, H, W]
        (v, h + self.output.forward(&gated))
    }

    fn vertical_gate(&self, v: Tensor, condition: &Condition) -> Tensor {
        self.vertical_bias.gate(v, condition)
    }

    fn live_parameters(&self) -> i64 {
        let convs = [&self.vertical, &self.horizontal, &self.link, &self.output];
        convs.map(MaskedConv2d::live_parameters).iter().sum::<i64>()
            + self.vertical_bias.live_parameters()
            + self.horizontal_bias.live_parameters()
    }
}

#[derive(Debug)]
pub(super) struct Gated {
    vertical: MaskedConv2d,   // I -> C, rows above
    horizontal: MaskedConv2d, // I -> C, earlier pixels of the row
    blocks: Vec<Block>,
    attention: Vec<Option<Attention>>, // by block: what follows it
    positions: Tensor,                 // [1, 2, H, W]
    context: Option<ContextStack>,
    config: GatedConfig,
}

impl Gated {
    pub(super) fn new(
        vs: &nn::Path<'_>,
        config: &GatedConfig,
        features: i64,
    ) -> Result<Self, ConfigError> {
        let size = config.first_kernel_size;
        let left = MaskedConv2dConfig {
            groups: config.image.colours,
            ..MaskedConv2dConfig::new([1, size], Mask::A)
        };
        let above = MaskedConv2dConfig::new([size, size], Mask::Above);
        let context = (config.context_channels > 0)
            .then(|| ContextStack::new(&(vs / "context"), config))
            .transpose()?;
        let channels = context.as_ref().map_or(0, ContextStack::channels);
        let blocks = config.dilations.iter().enumerate();
        let attention = |index: usize| {
            let vs = vs / "attention" / index as i64;
            let follows = config.has_attention_after(index);
            follows.then(|| Attention::new(&vs, config, features)).transpose()
        };
        Ok(Self {
            vertical: MaskedConv2d::new(&(vs / "vertical"), features, config.channels, above)?,
            horizontal: MaskedConv2d::new(&(vs / "horizontal"), features, config.channels, left)?,
            blocks: blocks
                .map(|(index, &dilation)| {
                    Block::new(&(vs / "blocks" / index as i64), config, dilation, channels)
                })
                .collect::<Result<_, _>>()?,
            attention: (0..config.dilations.len()).map(attention).collect::<Result<_, _>>()?,
            positions: coordinates(config.image.height, config.image.width, vs.device()),
            context,
            config: config.clone(),
        })
    }

    /// `[B, I, H, W]` to `[B, C, H, W]`.
    pub(super) fn forward(&self, xs: &Tensor, condition: &Condition, train: bool) -> Tensor {
        let mut v = self.vertical.forward(xs);
        let mut h = self.horizontal.forward(xs);
        for (index, block) in self.blocks.iter().enumerate() {
            if train && self.config.dropout > 0. {
                v = v.dropout(self.config.dropout, true);
                h = h.dropout(self.config.dropout, true);
            }
            let above;
            (above, h) = block.forward(&v, &h, condition);
            if let Some(attention) = &self.attention[index] {
                h = attention.forward(&h, xs, &self.positions);
            }
            if index + 1 < self.blocks.len() {
                v = block.vertical_gate(above, condition); // nothing reads the last one
            }
        }
        h.elu()
    }

    pub(super) fn context(&self) -> Option<&ContextStack> {
        self.context.as_ref()
    }

    pub(super) fn live_parameters(&self) -> i64 {
        self.vertical.live_parameters()
            + self.horizontal.live_parameters()
            + self.blocks.iter().map(Block::live_parameters).sum::<i64>()
            + self.attention.iter().flatten().map(Attention::live_parameters).sum::<i64>()
            + self.context.as_ref().map_or(0, ContextStack::live_parameters)
    }

    pub(super) fn lower(&self, program: &mut Program, image: MapId) -> MapId {
        let channels = self.config.channels;
        let row = Map { channels: channels as usize, reach: Reach::Row, halves: 1 };
        let mut v = program.conv(&[(&self.vertical, image)], None, row);
        let mut h = program.conv(&[(&self.horizontal, image)], None, Map::pixel(channels));
        for (index, block) in self.blocks.iter().enumerate() {
            let wide = Map::pre_gate(channels, Reach::Row);
            let above = program.conv(&[(&block.vertical, v)], None, wide);
            let mut left = vec![(&block.link, above), (&block.horizontal, h)];
            left.extend(block.horizontal_bias.context.iter().zip(program.context()));
            let wide = Map::pre_gate(channels, Reach::Pixel);
            let pre = program.conv(&left, block.horizontal_bias.class.as_ref(), wide);
            let gated = program.gate(pre);
            let out = program.conv(&[(&block.output, gated)], None, Map::pixel(channels));
            h = program.add(h, out);
            if let Some(attention) = &self.attention[index] {
                h = attention.lower(program, h, image);
            }
            if index + 1 < self.blocks.len() {
                v = self.lower_vertical_gate(program, block, above);
            }
        }
        program.elu(h)
    }

    /// The vertical gate; its class and context are added behind the link, so they need a map of their own.
    fn lower_vertical_gate(&self, program: &mut Program, block: &Block, above: MapId) -> MapId {
        let Bias { class, context } = &block.vertical_bias;
        if class.is_none() && context.is_none() {
            return program.gate(above);
        }
        let wide = Map::pre_gate(self.config.channels, Reach::Row);
        let context: Vec<_> = context.iter().zip(program.context()).collect();
        let bias = program.conv(&context, class.as_ref(), wide);
        let pre = program.add(above, bias);
        program.gate(pre)
    }
}
