//! `generate`: a prompt goes on.

use std::{
    io::{self, Read, Write},
    ops::ControlFlow,
};

use anyhow::{Context as _, Result};
use clap::Args;
use core_layers::{ConfigError, run::Interrupt};
use serde_json::{Value, json};

use super::{
    explain,
    voice::{Voice, VoiceArgs},
};
use crate::sample::{Event, Finish, GenerationConfig, Logprob, Text, Writer, Written};

/// Flags of `generate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gpt generate runs/book \"In the beginning\" --temperature 0.8 --top-p 0.95\n  gpt generate model.gguf - --stop $'\\n' --json < prompt.txt\n  gpt generate model.gguf \"Once\" --explain --top-k 40 --max-tokens 20"
)]
pub struct GenerateArgs {
    #[command(flatten)]
    voice: VoiceArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// Runs `generate`.
pub(super) fn run(args: &GenerateArgs) -> Result<()> {
    let prompt = args.write.prompt(&mut io::stdin())?;
    let interrupt = Interrupt::install()?;
    args.voice.with_voice(|voice| {
        let (mut out, mut notes) = (io::stdout().lock(), io::stderr());
        let stop = &|| interrupt.requested();
        args.write.write(voice, &prompt, &mut Ears { out: &mut out, notes: &mut notes, stop })
    })
}

/// Flags of `generate` that say what is written, and how it is shown.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
struct WriteArgs {
    /// What the text begins with; - reads it from stdin.
    prompt: String,
    #[command(flatten)]
    config: GenerationConfig,
    /// Say of each token why it was drawn: what each step kept and removed, probability, rank, entropy.
    #[arg(long)]
    explain: bool,
    /// Show the prompt before what follows it.
    #[arg(long, conflicts_with_all = ["json", "explain"])]
    echo: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Say nothing about speed.
    #[arg(long)]
    quiet: bool,
}

/// Where results and remarks go, and whether to stop.
struct Ears<'e> {
    out: &'e mut dyn Write,
    notes: &'e mut dyn Write,
    stop: &'e dyn Fn() -> bool,
}

impl WriteArgs {
    /// Refuses what no model could do, and reads the prompt.
    fn prompt(&self, stdin: &mut dyn Read) -> Result<String> {
        self.config.validate()?;
        if self.prompt != "-" {
            return Ok(self.prompt.clone());
        }
        let mut bytes = Vec::new();
        stdin.read_to_end(&mut bytes).context("stdin")?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            ConfigError::new("the prompt", format!("no UTF-8 at byte {at} of stdin"), "UTF-8")
        })?;
        Ok(text)
    }

    /// Writes what follows the prompt.
    fn write(&self, voice: &Voice<'_>, prompt: &str, ears: &mut Ears<'_>) -> Result<()> {
        let tokens = voice.prompt(prompt)?;
        let writer = Writer { explain: self.explain, ..voice.writer(&self.config) };
        let mut memory = writer.memory(1);
        let streams = !self.json && !self.explain && self.config.count == 1;
        let (mut failure, mut begun) = (None, false);
        if self.echo && streams {
            ears.out.write_all(prompt.as_bytes())?;
        }
        let (out, stop) = (&mut *ears.out, ears.stop);
        let listener = &mut |event: &Event<'_>| {
            let shown = match event.explanation {
                Some(it) if !self.json => {
                    let text = (self.config.count > 1).then_some(event.row + 1);
                    let is_first = !std::mem::replace(&mut begun, true);
                    explain::row(out, voice.tokenizer, it, text, is_first)
                }
                None if streams => out.write_all(event.text.as_bytes()).and_then(|()| out.flush()),
                _ => Ok(()),
            };
            failure = shown.err();
            if failure.is_some() || stop() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let written = writer.write(&mut memory, std::slice::from_ref(&tokens), listener)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        if self.json {
            writeln!(ears.out, "{}", self.json(voice, prompt, tokens.len(), &written))?;
        } else if streams {
            writeln!(ears.out)?;
        } else {
            let echo = if self.echo { prompt } else { "" };
            for (index, text) in written.texts.iter().enumerate() {
                writeln!(
                    ears.out,
                    "--- {} ({})\n{echo}{}",
                    index + 1,
                    name(text.finish),
                    text.text
                )?;
            }
        }
        if !self.quiet && !self.json {
            writeln!(ears.notes, "{}", remarks(&written))?;
        }
        Ok(())
    }

    fn json(
        &self,
        voice: &Voice<'_>,
        prompt: &str,
        prompt_tokens: usize,
        written: &Written,
    ) -> Value {
        let mut object = self.text(voice, &written.texts[0]);
        let mut all = json!({
            "model": voice.name,
            "engine": voice.engine_name,
            "load_seconds": voice.load_seconds,
            "prompt": prompt,
            "num_prompt_tokens": prompt_tokens,
            "prefill_seconds": written.prefill.seconds,
            "prefill_tokens_per_second": written.prefill.tokens_per_second(),
            "decode_seconds": written.decode.seconds,
            "decode_tokens_per_second": written.decode.tokens_per_second(),
            "config": self.config,
        });
        if self.config.count > 1 {
            all["texts"] = written.texts.iter().map(|it| self.text(voice, it)).collect();
        }
        if voice.draft.is_some() {
            let it = written.drafted;
            all["draft"] =
                json!({ "rounds": it.rounds, "proposed": it.proposed, "accepted": it.accepted });
        }
        if let (Value::Object(object), Value::Object(all)) = (&mut object, all) {
            object.extend(all);
        }
        object
    }

    fn text(&self, voice: &Voice<'_>, text: &Text) -> Value {
        let mut object = json!({
            "text": text.text,
            "tokens": text.tokens,
            "num_tokens": text.tokens.len(),
            "finish_reason": text.finish,
        });
        if self.config.logprobs.is_some() {
            object["logprobs"] = text.logprobs.iter().map(|it| logprob(voice, it)).collect();
        }
        if self.explain {
            object["explanations"] = json!(text.explanations);
        }
        object
    }
}

fn logprob(voice: &Voice<'_>, it: &Logprob) -> Value {
    let entry = |token: u32, logprob: f64| {
        let text = explain::spelled(voice.tokenizer, token);
        json!({ "token": token, "text": text, "logprob": logprob.max(f64::MIN) })
    };
    let mut object = entry(it.token, it.logprob);
    object["likeliest"] = it.likeliest.iter().map(|&(token, it)| entry(token, it)).collect();
    object
}

/// A reason as it is said.
fn name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Context => "context",
        Finish::Interrupted => "interrupted",
    }
}

/// Tokens, speed, and why it ended, in one line.
fn remarks(written: &Written) -> String {
    let rate = |it: Option<f64>| it.map_or_else(|| "-".into(), |it| format!("{it:.1}"));
    let (prefill, decode) = (written.prefill, written.decode);
    let drafted = match written.drafted {
        it if it.proposed > 0 => {
            format!("; {} of {} drafted tokens accepted", it.accepted, it.proposed)
        }
        _ => String::new(),
    };
    let finish = written.texts.first().map_or("stop", |it| name(it.finish));
    format!(
        "prompt {} tokens, {} tokens/s; then {} tokens/s{drafted}; {finish}",
        prefill.tokens,
        rate(prefill.tokens_per_second()),
        rate(decode.tokens_per_second()),
    )
}

#[cfg(test)]
mod tests;
