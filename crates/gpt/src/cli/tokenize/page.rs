//! A page that shows how a text is cut: one file, no scripts, light or dark as the reader likes it.

use std::fmt::Write as _;

use super::pieces::{Cutting, Piece};

/// Rows of the table of frequent tokens.
const FREQUENT: usize = 24;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --ink: #1d1d1f; --page: #fbfaf7; --card: #ffffff; --line: #e3dfd5; --faint: #77736a;
  --c0: #cfe5ff; --c1: #d3f2d6; --c2: #ffe3bf; --c3: #ffd3d6; --c4: #e5d6fb; --c5: #fbf1b8; --special: #1d1d1f; --on: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --page: #17181b; --card: #1f2125; --line: #34363c; --faint: #9a978f;
  --c0: #1f3f63; --c1: #22492a; --c2: #5a3f17; --c3: #5d2930; --c4: #44305f; --c5: #544b14; --special: #ececec; --on: #17181b; } }
* { box-sizing: border-box } body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.35rem; font-weight: 600; margin: 0 0 1.25rem; overflow-wrap: anywhere }
h2 { font-size: .8rem; font-weight: 600; letter-spacing: .06em; text-transform: uppercase; color: var(--faint); margin: 2.25rem 0 .75rem }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 0 }
dl div, .card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .9rem }
dt { font-size: .78rem; color: var(--faint) } dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums }
.text { font: 15px/2.05 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; padding: 1.1rem 1.2rem }
.text span { padding: .18em 0; border-radius: .2em; box-decoration-break: clone; -webkit-box-decoration-break: clone }
.text span:hover { outline: 2px solid var(--ink) } .nl { color: var(--faint); user-select: none }
.s { background: var(--special) !important; color: var(--on); font-size: .85em; padding: .2em .35em !important }
.c0 { background: var(--c0) } .c1 { background: var(--c1) } .c2 { background: var(--c2) } .c3 { background: var(--c3) } .c4 { background: var(--c4) } .c5 { background: var(--c5) }
#ids { position: absolute; opacity: 0 } label { font-size: .85rem; color: var(--faint); cursor: pointer; border: 1px solid var(--line); border-radius: 1rem; padding: .2rem .8rem; background: var(--card) }
#ids:checked + h2 + label { background: var(--ink); color: var(--page) } #ids:focus-visible + h2 + label { outline: 2px solid var(--ink) }
#ids:checked ~ .text { line-height: 2.9 } #ids:checked ~ .text span[data-i] { position: relative }
#ids:checked ~ .text span[data-i]::after { content: attr(data-i); font: 9.5px/1 system-ui, sans-serif; color: var(--faint); vertical-align: super; padding: 0 .15em }
.bars { display: grid; grid-template-columns: auto 1fr auto; gap: .2rem .8rem; align-items: center; font-size: .85rem; font-variant-numeric: tabular-nums }
.bars i { display: block; height: .8rem; min-width: 2px; border-radius: .2rem; background: var(--c0); border: 1px solid var(--line) } .bars span { color: var(--faint) }
.words { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0; padding: 0; list-style: none; font-size: .85rem }
.words code { font: 14px ui-monospace, Menlo, Consolas, monospace; white-space: pre } .words li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .15rem .55rem }
.words b { font-weight: 400; color: var(--faint); margin-left: .5rem; font-variant-numeric: tabular-nums } p { color: var(--faint); font-size: .85rem }
</style>
"#;

/// The page, with the first pieces of a text; 0 shows all.
pub(super) fn page(title: &str, cutting: &Cutting, first: usize) -> String {
    let mut page = HEAD.to_owned();
    let title = escaped(title);
    let _ = writeln!(page, "<title>{title}</title></head><body><main><h1>{title}</h1>\n<dl>");
    let figures = [
        ("tokens", grouped(cutting.pieces.len())),
        ("bytes", grouped(cutting.bytes)),
        ("characters", grouped(cutting.characters)),
        ("bytes a token", format!("{:.2}", cutting.bytes_per_token())),
        ("different tokens", grouped(cutting.distinct())),
        ("in the vocabulary", grouped(cutting.vocabulary)),
    ];
    for (name, figure) in figures {
        let _ = writeln!(page, "<div><dt>{name}</dt><dd>{figure}</dd></div>");
    }
    page.push_str("</dl>\n<input type=\"checkbox\" id=\"ids\"><h2>Pieces</h2><label for=\"ids\">numbers</label>\n<p></p><div class=\"card text\">");
    let shown = if first == 0 { cutting.pieces.len() } else { first.min(cutting.pieces.len()) };
    for (i, piece) in cutting.pieces[..shown].iter().enumerate() {
        span(&mut page, piece, i % 6);
    }
    page.push_str("</div>\n");
    if shown < cutting.pieces.len() {
        let _ = writeln!(page, "<p>The first {} of them; figures are of all.</p>", grouped(shown));
    }
    lengths(&mut page, cutting);
    frequent(&mut page, cutting);
    page.push_str("</main></body></html>\n");
    page
}

fn span(page: &mut String, piece: &Piece, colour: usize) {
    let bytes: Vec<String> = piece.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let about = if piece.special { "special".into() } else { bytes.join(" ") };
    let special = if piece.special { " s" } else { "" };
    // a last line feed stands behind the piece, so that its number stays on its line
    let text = escaped(&piece.shown).replace('\n', "<span class=\"nl\">\u{21b5}</span>\n");
    let (text, last) = text.strip_suffix('\n').map_or((text.as_str(), ""), |it| (it, "\n"));
    let token = piece.token;
    let _ = write!(
        page,
        "<span class=\"c{colour}{special}\" data-i=\"{token}\" title=\"{token}: {about}\">{text}</span>{last}"
    );
}

/// How many tokens there are of each length in bytes.
fn lengths(page: &mut String, cutting: &Cutting) {
    const MOST: usize = 16;
    let mut counts = [0usize; MOST + 1];
    let plain = cutting.pieces.iter().filter(|it| !it.special);
    plain.for_each(|piece| counts[piece.bytes.len().min(MOST)] += 1);
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    page.push_str("<h2>Bytes of a token</h2>\n<div class=\"card bars\">");
    for (len, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let more = if len == MOST { "+" } else { "" };
        let share = 100. * count as f64 / most as f64;
        let count = grouped(count);
        let _ = write!(
            page,
            "<span>{len}{more}</span><i style=\"width:{share:.1}%\"></i><span>{count}</span>"
        );
    }
    page.push_str("</div>\n");
}

fn frequent(page: &mut String, cutting: &Cutting) {
    let mut counts: Vec<(u32, usize)> = cutting.counts().into_iter().collect();
    counts.sort_by_key(|&(token, count)| (std::cmp::Reverse(count), token));
    page.push_str("<h2>Most frequent</h2>\n<ul class=\"words\">");
    for (token, count) in counts.into_iter().take(FREQUENT) {
        let piece = cutting.pieces.iter().find(|it| it.token == token);
        let shown = piece.map_or_else(String::new, |it| it.shown.replace('\n', "\u{21b5}"));
        let shown = escaped(&shown.replace(' ', "\u{2423}"));
        let count = grouped(count);
        let _ = write!(page, "<li title=\"{token}\"><code>{shown}</code><b>{count}</b></li>");
    }
    page.push_str("</ul>\n");
}

/// Text that a browser shows as it is.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\r' => safe.push('\u{240d}'),
            '\n' | '\t' => safe.push(character),
            it if it.is_control() => safe.push(char::REPLACEMENT_CHARACTER),
            it => safe.push(it),
        }
    }
    safe
}

/// `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|it| std::str::from_utf8(it).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tokenizer;

    #[test]
    fn text_cannot_become_markup() {
        let text = "<script>&\"\n";
        let tokens = Tokenizer::Bytes.encode(text);
        let cutting = Cutting::new(&Tokenizer::Bytes, &tokens, text.as_bytes());
        let page = page("<b>", &cutting, 0);
        assert!(page.contains("<h1>&lt;b&gt;</h1>") && !page.contains("<script"));
        assert!(page.contains("title=\"60: 3c\">&lt;</span>"));
        assert_eq!(page.matches("data-i=\"").count(), tokens.len());
        assert!(!page.contains("http"), "nothing is fetched");
    }

    #[test]
    fn only_the_first_pieces_are_shown_and_the_figures_are_of_all() {
        let text = "a".repeat(1234);
        let tokens = Tokenizer::Bytes.encode(&text);
        let cutting = Cutting::new(&Tokenizer::Bytes, &tokens, text.as_bytes());
        let page = page("x", &cutting, 10);
        assert_eq!(page.matches("data-i=\"").count(), 10);
        assert!(page.contains("<dd>1,234</dd>") && page.contains("The first 10 of them"));
    }
}
