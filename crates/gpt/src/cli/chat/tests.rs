use std::sync::atomic::Ordering;

use clap::Parser;

use super::*;
use crate::{sample::table::Table, text::Tokenizer};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: TalkArgs,
}

/// `[u:hi][a:`, short enough to be counted by hand.
const TEMPLATE: &str = "{% for m in messages %}[{{ m.role[:1] }}:{{ m.content }}]{% endfor %}[a:";

/// What stdout and stderr get, and how it ended.
fn talked(
    table: &Table,
    flags: &[&str],
    input: &str,
    is_watched: bool,
) -> (String, String, Result<()>) {
    let voice = Voice {
        name: "table",
        engine: table,
        engine_name: "table".into(),
        load_seconds: 0.,
        draft: None,
        tokenizer: &Tokenizer::Bytes,
        ends: vec![256],
        start: (256, false),
        chat_template: Some(TEMPLATE),
    };
    let args = Cli::try_parse_from(["x", "--temperature", "0"].iter().chain(flags)).unwrap().args;
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut terminal = Terminal {
        input: &mut input.as_bytes(),
        out: &mut out,
        notes: &mut notes,
        is_watched,
        interrupt: None,
    };
    let ended = args.validate().and_then(|()| args.talk(&voice, &mut terminal));
    (String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap(), ended)
}

#[test]
fn answers_are_lines_where_the_input_is_a_pipe() {
    // the second prompt is [u:hi][a:yo][u:so][a: and its answer comes where the script ends
    let table = Table::script("[u:hi][a:".len(), b"yo");
    let (out, notes, ended) = talked(&table, &[], "hi\nso\n", false);
    ended.unwrap();
    assert_eq!((out.as_str(), notes.as_str()), ("yo\n\n", ""));
    // the second prompt holds the first and its answer, which are not read again: ][u:so][a:
    let read = table.read.load(Ordering::Relaxed);
    assert_eq!(read, "[u:hi][a:yo".len() + "][u:so][a:".len());
}

#[test]
fn commands_change_what_the_model_sees() {
    let table = Table::script(1000, b"");
    let input = "/system be kind\nhi\n/history\n/reset\n/history\n/system\n//x \\\ny\n/history\n/quit\nnever\n";
    let (out, _, ended) = talked(&table, &[], input, false);
    ended.unwrap();
    assert_eq!(
        out,
        "\n[system] be kind\n[user] hi\n[assistant] \n[system] be kind\n\n[user] /x \ny\n[assistant] \n"
    );
}

#[test]
fn a_conversation_is_saved_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said.json");
    let table = Table::script("[s:told][u:hi][a:".len(), b"yo");
    let input = format!("hi\n/save {}\n", file.display());
    let (_, notes, ended) = talked(&table, &["--system", "told"], &input, false);
    ended.unwrap();
    assert_eq!(notes, format!("written to {}\n", file.display()));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(json[0], serde_json::json!({"role": "system", "content": "told"}));
    assert_eq!(json[2], serde_json::json!({"role": "assistant", "content": "yo"}));
}

#[test]
fn what_goes_wrong_ends_a_pipe_and_is_said_to_a_person() {
    let table = Table::script(9, b"yo");
    let input = "/nothing\n/save\n/reset now\nhi\n";
    let (out, notes, ended) = talked(&table, &[], input, true);
    ended.unwrap();
    assert!(out.ends_with("> yo\n> \n"), "{out:?}");
    assert!(notes.contains("error: the command is /nothing, but must be one that /help lists\n"));
    assert!(notes.contains("error: /save is alone") && notes.contains("error: /reset is now"));
    let (out, _, ended) = talked(&table, &[], input, false);
    assert!(out.is_empty() && ended.unwrap_err().to_string().contains("/nothing"));
    // what cannot be answered is not part of the conversation
    let long = format!("{}\nhi\n", "a".repeat(2000));
    let (out, notes, _) = talked(&table, &[], &long, true);
    assert!(
        notes.contains("error: the message is 2007 tokens long") && out.contains("yo"),
        "{notes}{out}"
    );
}

#[test]
fn a_full_context_forgets_the_oldest_and_says_so() {
    let table = Table { context: 64, ..Table::script(1000, b"") };
    let input = "one one one one\ntwo two two two\nthree three three\n";
    let (_, notes, ended) = talked(&table, &[], input, false);
    ended.unwrap();
    assert_eq!(notes, "(the 2 oldest messages are forgotten: the context holds 64 tokens)\n");
}

#[test]
fn a_cut_answer_says_why() {
    let table = Table::script(9, b"yo yo yo");
    let (out, notes, _) = talked(&table, &["--max-tokens", "3"], "hi\n", false);
    assert_eq!((out.as_str(), notes.as_str()), ("yo \n", "(cut at 3 tokens, see --max-tokens)\n"));
}

#[test]
fn what_a_chat_cannot_have_is_refused() {
    let table = Table::new(257, 1);
    for flags in [&["--count", "2", "--temperature", "1"][..], &["--logprobs", "2"]] {
        let args = Cli::try_parse_from(["x"].iter().chain(flags)).unwrap().args;
        assert!(args.validate().unwrap_err().to_string().contains("in a chat"));
    }
    let (_, _, ended) = talked(&table, &["--template", "/nowhere/x.jinja"], "hi\n", false);
    assert!(format!("{:#}", ended.unwrap_err()).starts_with("/nowhere/x.jinja: "));
}
