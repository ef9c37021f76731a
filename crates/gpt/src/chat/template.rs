//! Jinja templates as they are delivered with models.

use std::fmt;

use anyhow::{Result, anyhow};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};

use super::{date, json};

/// Instructions that a template may take; a conversation of thousands of messages needs a hundredth of them.
const FUEL: u64 = 10_000_000;
const NAME: &str = "chat";

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the model is told beforehand.
    System,
    /// Whoever talks with the model.
    User,
    /// The model.
    Assistant,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// By whom.
    pub role: Role,
    /// What.
    pub content: String,
}

impl Message {
    /// `content`, said by `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// How a model was taught to read a conversation.
pub struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("Template");
        it.field("bos", &self.bos).field("eos", &self.eos).finish_non_exhaustive()
    }
}

impl Template {
    /// A template, and how the tokens that begin and end a text are spelled in it: `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// One line on what is wrong with it.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", json::to_json);
        environment.add_function("strftime_now", |format: String| date::now(&format));
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| refusal(&error))?;
        Ok(Self { environment, bos: bos.into(), eos: eos.into() })
    }

    /// The conversation as one text, up to where the model's next answer begins.
    ///
    /// # Errors
    /// One line on what the template refuses, or on why it fails.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let template = self.environment.get_template(NAME).map_err(|error| refusal(&error))?;
        let values = context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        template.render(values).map_err(|error| refusal(&error))
    }
}

/// What went wrong in a template, in one line.
fn refusal(error: &Error) -> anyhow::Error {
    let line = error.line().map_or_else(String::new, |it| format!(" line {it}"));
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let what = what.lines().map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>();
    anyhow!("chat template{line}: {}", what.join(" "))
}

/// `{% generation %}` marks what a model should be trained on (Hugging Face's extension of Jinja); read as `{% if true %}`.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let length = tag.find("%}").map_or(tag.len(), |it| it + 2);
        let (tag, after) = tag.split_at(length);
        let word = tag.trim_matches(['{', '%', '}', '-', '+']).trim();
        out.push_str(&match word {
            "generation" => tag.replace(word, "if true"),
            "endgeneration" => tag.replace(word, "endif"),
            _ => tag.to_owned(),
        });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(source: &str) -> String {
        let said = [Message::new(Role::User, "hi")];
        let rendered = Template::new(source, "", "").and_then(|it| it.render(&said));
        rendered.unwrap_err().to_string()
    }

    #[test]
    fn a_template_that_fails_says_so_in_one_line() {
        assert_eq!(
            line("a\n{{ raise_exception('no\nsystem') }}"),
            "chat template line 2: no system"
        );
        for source in
            ["{% for %}", "{{ messages[0].content.nothing.here }}", "{{ nobody() }}", "{% if"]
        {
            let line = line(source);
            assert!(line.starts_with("chat template line 1: ") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn a_template_that_never_ends_is_ended() {
        let numbers = "{% for i in range(9999) %}";
        let source =
            format!("{numbers}{numbers}{numbers}{{% endfor %}}{{% endfor %}}{{% endfor %}}");
        assert!(line(&source).contains("fuel"), "{}", line(&source));
    }

    #[test]
    fn tags_around_answers_change_nothing() {
        let source = "{% for m in messages %}\n{%- generation -%} {{ m.content }}\n{%- endgeneration %}{% endfor %}";
        let said = [Message::new(Role::User, "hi")];
        assert_eq!(Template::new(source, "", "").unwrap().render(&said).unwrap(), "hi");
    }
}
