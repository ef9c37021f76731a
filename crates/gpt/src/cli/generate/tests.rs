use clap::Parser;
use serde_json::Value;

use super::*;
use crate::{
    sample::{Draft, table::Table},
    text::Tokenizer,
};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: WriteArgs,
}

fn voice<'a>(engine: &'a Table, draft: Option<&'a Table>) -> Voice<'a> {
    Voice {
        name: "table",
        engine,
        engine_name: "table".into(),
        load_seconds: 0.,
        draft: draft.map(|engine| Draft { engine, tokens: 3 }),
        tokenizer: &Tokenizer::Bytes,
        ends: vec![256],
        start: (256, true),
        chat_template: None,
    }
}

/// What stdout and stderr get.
fn outcome(voice: &Voice<'_>, flags: &[&str]) -> Result<(String, String)> {
    let args = Cli::try_parse_from(["x"].iter().chain(flags)).unwrap().args;
    let prompt = args.prompt(&mut &b"from stdin"[..])?;
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    args.write(voice, &prompt, &mut Ears { out: &mut out, notes: &mut notes, stop: &|| false })?;
    Ok((String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap()))
}

#[test]
fn text_goes_to_stdout_and_remarks_to_stderr() {
    let table = Table::script(4, "lo, world".as_bytes());
    let cold = ["Hel", "--temperature", "0"];
    let (out, notes) = outcome(&voice(&table, None), &cold).unwrap();
    assert_eq!(out, "lo, world\n");
    assert!(notes.starts_with("prompt 4 tokens, ") && notes.ends_with("; stop\n"), "{notes}");
    let (out, notes) =
        outcome(&voice(&table, None), &[&cold[..], &["--echo", "--quiet"]].concat()).unwrap();
    assert_eq!((out.as_str(), notes.as_str()), ("Hello, world\n", ""));
}

#[test]
fn json_is_one_object_with_the_promised_fields() {
    let table = Table::script(4, "lo".as_bytes());
    let flags = ["Hel", "--json", "--logprobs", "2", "--explain", "--stop", "zz"];
    let (out, notes) = outcome(&voice(&table, Some(&table)), &flags).unwrap();
    assert_eq!((out.lines().count(), notes.as_str()), (1, ""));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["text"], &json["finish_reason"]), (&"lo".into(), &"stop".into()));
    assert_eq!(json["tokens"], serde_json::json!([108, 111, 256]));
    assert_eq!((&json["num_tokens"], &json["num_prompt_tokens"]), (&3.into(), &4.into()));
    assert!(
        json["prefill_tokens_per_second"].is_number()
            && json["decode_tokens_per_second"].is_number()
    );
    assert_eq!(json["logprobs"][0]["likeliest"][0]["text"], "l");
    assert_eq!(json["explanations"][2]["token"], 256);
    assert_eq!(json["draft"]["accepted"], 2);
    assert_eq!(json["config"]["stop"], serde_json::json!(["zz"]));
}

#[test]
fn several_texts_come_one_after_the_other() {
    let table = Table::script(1, "ab".as_bytes());
    let (out, _) = outcome(&voice(&table, None), &["", "--count", "2"]).unwrap();
    assert_eq!(out, "--- 1 (stop)\nab\n--- 2 (stop)\nab\n");
    let (out, _) = outcome(&voice(&table, None), &["", "--count", "2", "--json"]).unwrap();
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["texts"].as_array().unwrap().len(), 2);
}

#[test]
fn an_explanation_is_a_line_a_token() {
    let table = Table::script(1, "ab".as_bytes());
    let (out, _) = outcome(&voice(&table, None), &["", "--explain", "--top-k", "5"]).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("token "), "{out}");
    assert!(
        lines[1].starts_with("\"a\" ") && lines[1].ends_with(" top-k 5 tokens (-0.00 %)"),
        "{out}"
    );
    assert!(lines[3].starts_with("\"<|endoftext|>\""), "{out}");
    assert_eq!(lines[4..], ["--- 1 (stop)", "ab"]);
}

#[test]
fn a_dash_reads_the_prompt_from_stdin() {
    let table = Table::script(11, "!".as_bytes());
    let (out, _) = outcome(&voice(&table, None), &["-", "--echo", "--quiet"]).unwrap();
    assert_eq!(out, "from stdin!\n");
    let args = Cli::try_parse_from(["x", "-"]).unwrap().args;
    let line = args.prompt(&mut &b"a\xff"[..]).unwrap_err().to_string();
    assert_eq!(line, "the prompt is no UTF-8 at byte 1 of stdin, but must be UTF-8");
}

#[test]
fn what_cannot_be_is_said_before_a_model_is_asked() {
    let table = Table::new(257, 1);
    for (flags, wanted) in [
        (&["a", "--temperature", "nan"][..], "temperature is NaN"),
        (&["a", "--top-k", "300"], "top_k is 300, but must be at most 257"),
        (&["a", "--max-tokens", "0"], "max_tokens is 0"),
    ] {
        let line = outcome(&voice(&table, None), flags).unwrap_err().to_string();
        assert!(line.starts_with(wanted), "{line}");
    }
    let long = "a".repeat(64);
    let line = outcome(&voice(&table, None), &[&long]).unwrap_err().to_string();
    assert!(line.starts_with("prompt is 65 tokens, but must be at most 63"), "{line}");
}
