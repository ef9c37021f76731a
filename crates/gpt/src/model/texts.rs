//! A decoder seen as a distribution over texts.

use core_layers::{Autoregressive, Conditionals, Context as _, Layout};
use tch::Tensor;

use super::{Decoder, TextContext};

/// A decoder seen as a distribution over texts of at most `tokens` tokens: it reads the start token and all but the last
/// of them, and predicts each.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'m> {
    /// The decoder.
    pub model: &'m Decoder,
    /// Tokens of a text, at most the context.
    pub tokens: usize,
}

impl Autoregressive for Texts<'_> {
    type Context = TextContext;

    fn layout(&self) -> Layout {
        Layout::uniform(self.tokens, self.model.config().vocabulary as u32)
    }

    /// # Shape
    /// `[B, N]` to `[B, N, D]`.
    fn embed(&self, xs: &Tensor) -> Tensor {
        self.model.embed(xs)
    }

    fn conditionals(&self, embedded: &Tensor, context: &TextContext) -> Conditionals {
        let (rows, tokens, _) = embedded.size3().expect("embedded texts are [B, N, D]");
        debug_assert_eq!(rows, context.rows() as i64);
        let start = self.model.start(rows); // [B, 1, D]
        let read = Tensor::cat(&[start, embedded.narrow(1, 0, tokens - 1)], 1);
        let hidden = self.model.hidden_of_embedded(&read, false);
        Conditionals::Logits(self.model.logits(&hidden))
    }
}

impl Autoregressive for Decoder {
    type Context = TextContext;

    /// Texts that fill the context.
    fn layout(&self) -> Layout {
        Texts { model: self, tokens: self.config().context as usize }.layout()
    }

    fn embed(&self, xs: &Tensor) -> Tensor {
        Decoder::embed(self, xs)
    }

    fn conditionals(&self, embedded: &Tensor, context: &TextContext) -> Conditionals {
        let tokens = embedded.size()[1] as usize;
        Texts { model: self, tokens }.conditionals(embedded, context)
    }
}
