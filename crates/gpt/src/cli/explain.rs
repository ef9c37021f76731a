//! Explanations as a table that grows with the text.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use crate::{sample::Explanation, text::Tokenizer};

/// What the columns are.
const HEAD: &str = "token             model: p    rank   nats | what each step left and removed | drawn: p    rank   nats";

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
    let _ = write!(line, "{piece:<16} {:>9.4} {rank:>7} {:>6.3} |", it.probability, it.entropy);
    for stage in &it.stages {
        let _ = write!(line, " {} {} -{:.4}", stage.name, stage.kept, stage.removed);
    }
    let _ = write!(
        line,
        "{} | {:>8.4} {drawn:>7} {:>6.3}",
        if it.stages.is_empty() { " nothing" } else { "" },
        it.drawn_probability,
        it.drawn_entropy
    );
    writeln!(out, "{line}")?;
    out.flush()
}
