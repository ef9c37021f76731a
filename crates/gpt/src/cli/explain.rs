//! Explanations as a table that grows with the text.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use crate::{sample::Explanation, text::Tokenizer};

/// What the columns are.
const HEAD: &str =
    "token             model: p    rank   nats | drawn: p    rank   nats | what each step left";

/// A token as it can be shown: quoted text, or the name of a special one.
pub(super) fn spelled(tokenizer: &Tokenizer, token: u32) -> String {
    match tokenizer.special(token) {
        Some(name) => name.to_owned(),
        None => String::from_utf8_lossy(tokenizer.spelling(token)).into_owned(),
    }
}

/// Writes the line of one token; the columns are named once, before the first.
pub(super) fn row(
    out: &mut dyn Write,
    tokenizer: &Tokenizer,
    it: &Explanation,
    text: Option<usize>,
    is_first: bool,
) -> io::Result<()> {
    if is_first {
        writeln!(out, "{HEAD}")?;
    }
    let mut line = text.map_or_else(String::new, |it| format!("{it} "));
    let piece = format!("{:?}", spelled(tokenizer, it.token));
    let (rank, drawn) = (it.rank, it.drawn_rank.map_or_else(|| "cut".into(), |it| it.to_string()));
    let (probability, entropy) = (it.probability, it.entropy);
    let _ = write!(line, "{piece:<16} {probability:>9.4} {rank:>7} {entropy:>6.3} |");
    let (probability, entropy) = (it.drawn_probability, it.drawn_entropy);
    let _ = write!(line, " {probability:>8.4} {drawn:>7} {entropy:>6.3} |");
    for stage in &it.stages {
        let (name, kept, removed) = (stage.name, stage.kept, 100. * stage.removed);
        let _ = if stage.is_cut {
            write!(line, " {name} {kept} tokens (-{removed:.2} %)")
        } else {
            write!(line, " {name} {:.3} nats", stage.entropy)
        };
    }
    writeln!(out, "{line}")?;
    out.flush()
}
