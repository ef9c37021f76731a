//! `chat`: a conversation in the terminal.

use std::{
    io::{self, BufRead, IsTerminal as _, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use core_layers::{ConfigError, checkpoint::write_atomic, run::Interrupt};

use super::voice::{Voice, VoiceArgs};
use crate::{
    chat::{self, Conversation, Role, Template},
    sample::{Event, Finish, GenerationConfig, Memory, Writer},
};

const HELP: &str = "\
/reset         forget the conversation
/system TEXT   tell the model TEXT beforehand; without TEXT nothing
/history       show the conversation
/save FILE     write the conversation to FILE as JSON
/help          show this
/quit          end; so does Ctrl-D, and Ctrl-C where no answer is being written
//TEXT         say /TEXT
A line that ends in \\ goes on in the next.";

/// Flags of `chat`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gpt chat model.gguf --temperature 0.7 --top-p 0.9\n  echo \"What is rain?\" | gpt chat model.gguf --temperature 0"
)]
pub struct ChatArgs {
    #[command(flatten)]
    voice: VoiceArgs,
    #[command(flatten)]
    talk: TalkArgs,
}

/// Runs `chat`.
pub(super) fn run(args: &ChatArgs) -> Result<()> {
    args.talk.validate()?;
    let interrupt = Interrupt::install()?;
    args.voice.with_voice(|voice| {
        let is_watched = io::stdin().is_terminal();
        let (mut input, mut out, mut notes) =
            (io::stdin().lock(), io::stdout().lock(), io::stderr());
        args.talk.talk(
            voice,
            &mut Terminal {
                input: &mut input,
                out: &mut out,
                notes: &mut notes,
                is_watched,
                interrupt: Some(&interrupt),
            },
        )
    })
}

/// Flags of `chat` that say what is written.
#[derive(Debug, Args)]
struct TalkArgs {
    /// What the model is told beforehand.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A chat template in Jinja's language, instead of the model's own.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    #[command(flatten)]
    config: GenerationConfig,
}

/// Where a conversation takes place.
struct Terminal<'t> {
    input: &'t mut dyn BufRead,
    out: &'t mut dyn Write,
    notes: &'t mut dyn Write,
    /// Whether someone sits before it: then nothing that goes wrong ends the conversation.
    is_watched: bool,
    /// Ctrl-C.
    interrupt: Option<&'t Interrupt>,
}

impl TalkArgs {
    /// Refuses what no model could do.
    fn validate(&self) -> Result<()> {
        self.config.validate()?;
        ConfigError::ensure(self.config.count == 1, "count", self.config.count, "1 in a chat")?;
        let none = self.config.logprobs.is_none();
        Ok(ConfigError::ensure(none, "logprobs", "given", "left out in a chat")?)
    }

    fn template(&self, voice: &Voice<'_>) -> Result<Template> {
        let named = |token: Option<u32>| {
            token.and_then(|it| voice.tokenizer.special(it)).unwrap_or_default()
        };
        let (bos, eos) = (named(Some(voice.start.0)), named(voice.ends.first().copied()));
        if let Some(path) = &self.template {
            let name = path.display();
            let source = std::fs::read_to_string(path).with_context(|| name.to_string())?;
            return Template::new(&source, bos, eos).with_context(|| name.to_string());
        }
        let source = voice.chat_template.ok_or_else(|| {
            anyhow!(
                "{} has no chat template; generate goes on from a text, --template FILE gives one",
                voice.name
            )
        })?;
        Template::new(source, bos, eos)
    }

    /// Talks until the input ends.
    fn talk(&self, voice: &Voice<'_>, terminal: &mut Terminal<'_>) -> Result<()> {
        let template = self.template(voice)?;
        let ends: Vec<u32> =
            voice.ends.iter().copied().chain(chat::ends(voice.tokenizer)).collect();
        let writer = Writer { ends: &ends, ..voice.writer(&self.config) };
        let mut talk = Talk {
            memory: writer.memory(1),
            conversation: Conversation::new(self.system.clone()),
            writer,
            template,
        };
        if terminal.is_watched {
            writeln!(terminal.notes, "{}; /help lists commands", voice.name)?;
        }
        while let Some(line) = terminal.line() {
            let heard = line.and_then(|line| talk.hear(&line, terminal));
            match heard {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(()),
                Err(error) if terminal.is_watched && !is_closed(&error) => {
                    writeln!(terminal.notes, "error: {error:#}")?;
                }
                Err(error) => return Err(error),
            }
        }
        if terminal.is_watched {
            writeln!(terminal.out)?;
        }
        Ok(())
    }
}

/// Whether the reader of the answers has gone.
fn is_closed(error: &anyhow::Error) -> bool {
    error.is::<io::Error>()
}

impl Terminal<'_> {
    /// What was typed: lines joined where they end in a backslash. None at the end.
    fn line(&mut self) -> Option<Result<String>> {
        if let Some(it) = self.interrupt {
            it.end_at_next();
        }
        let mut text = String::new();
        loop {
            if self.is_watched {
                let _ = write!(self.out, "{}", if text.is_empty() { "> " } else { ". " });
                let _ = self.out.flush();
            }
            let mut bytes = Vec::new();
            match self.input.read_until(b'\n', &mut bytes).context("stdin") {
                Ok(0) if text.is_empty() => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
            let ended = bytes.is_empty();
            let Ok(line) = String::from_utf8(bytes) else {
                let refusal = ConfigError::new("the message", "no UTF-8", "UTF-8");
                return Some(Err(refusal.into()));
            };
            let line = line.trim_end_matches(['\n', '\r']);
            match line.strip_suffix('\\').filter(|_| !ended) {
                Some(begun) => text = text + begun + "\n",
                None => return Some(Ok(text + line)),
            }
        }
    }
}

/// A conversation that goes on.
struct Talk<'a> {
    writer: Writer<'a>,
    memory: Memory<'a>,
    template: Template,
    conversation: Conversation,
}

impl Talk<'_> {
    /// Does what was typed: a command, or an answer.
    fn hear(&mut self, line: &str, terminal: &mut Terminal<'_>) -> Result<ControlFlow<()>> {
        if line.trim().is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(command) = line.strip_prefix('/').filter(|it| !it.starts_with('/')) else {
            let said = if line.starts_with("//") { &line[1..] } else { line };
            return self.answer(said, terminal).map(ControlFlow::Continue);
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match (name, rest) {
            ("quit", "") => return Ok(ControlFlow::Break(())),
            ("help", "") => writeln!(terminal.notes, "{HELP}")?,
            ("reset", "") => self.conversation.reset(),
            ("system", _) => {
                self.conversation.system = Some(rest.to_owned()).filter(|it| !it.is_empty());
            }
            ("history", "") => {
                for message in self.conversation.messages() {
                    let role = serde_json::to_value(message.role)?;
                    writeln!(
                        terminal.out,
                        "[{}] {}",
                        role.as_str().unwrap_or_default(),
                        message.content
                    )?;
                }
            }
            ("save", file) if !file.is_empty() => {
                let json = serde_json::to_string_pretty(&self.conversation.messages())?;
                write_atomic(Path::new(file), (json + "\n").as_bytes())?;
                writeln!(terminal.notes, "written to {file}")?;
            }
            ("save", _) => {
                return Err(ConfigError::new("/save", "alone", "followed by a file").into());
            }
            ("quit" | "help" | "reset" | "history", _) => {
                return Err(ConfigError::new(&format!("/{name}"), rest, "given alone").into());
            }
            _ => {
                return Err(ConfigError::new(
                    "the command",
                    format!("/{name}"),
                    "one that /help lists",
                )
                .into());
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Lets the model answer; what cannot be answered is taken back.
    fn answer(&mut self, said: &str, terminal: &mut Terminal<'_>) -> Result<()> {
        self.conversation.say(Role::User, said);
        let answered = self.write(terminal);
        if answered.is_err() {
            self.conversation.unsay();
        }
        answered
    }

    fn write(&mut self, terminal: &mut Terminal<'_>) -> Result<()> {
        let (context, config) = (self.writer.engine.context(), self.writer.config);
        let most = context - config.max_tokens.min(context / 4).max(1);
        let fitted = self.conversation.fit(&self.template, self.writer.tokenizer, most)?;
        if fitted.dropped > 0 {
            let (dropped, of) = (fitted.dropped, context);
            writeln!(
                terminal.notes,
                "(the {dropped} oldest messages are forgotten: the context holds {of} tokens)"
            )?;
        }
        let (out, interrupt) = (&mut *terminal.out, terminal.interrupt);
        if let Some(it) = interrupt {
            it.allow();
        }
        // the space before the first word of tokenizers that spell words so is no part of an answer
        let prefix = std::str::from_utf8(self.writer.tokenizer.prefix()).unwrap_or_default();
        let (mut failure, mut begun) = (None, false);
        let listener = &mut |event: &Event<'_>| {
            let text = event.text;
            let shown = if begun { text } else { text.strip_prefix(prefix).unwrap_or(text) };
            begun |= !text.is_empty();
            failure = out.write_all(shown.as_bytes()).and_then(|()| out.flush()).err();
            let stops = failure.is_some() || interrupt.is_some_and(Interrupt::requested);
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let written = self.writer.write(&mut self.memory, &[fitted.tokens], listener)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        writeln!(terminal.out)?;
        let text = &written.texts[0];
        let why = match text.finish {
            Finish::Stop => None,
            Finish::Length => {
                Some(format!("cut at {} tokens, see --max-tokens", config.max_tokens))
            }
            Finish::Context => Some("cut, the context is full".to_owned()),
            Finish::Interrupted => Some("stopped".to_owned()),
        };
        if let Some(why) = why {
            writeln!(terminal.notes, "({why})")?;
        }
        let said = text.text.strip_prefix(prefix).unwrap_or(&text.text);
        self.conversation.say(Role::Assistant, said);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
