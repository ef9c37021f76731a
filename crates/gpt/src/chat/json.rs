//! `tojson` as templates know it: Python's `json.dumps`, whose spaces models were trained on.

use std::fmt::Write as _;

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, ValueKind},
};

/// How values are written.
struct Style {
    indent: Option<usize>,
    between: String,
    colon: String,
    ascii: bool,
    sorted: bool,
}

/// A value as JSON, with the arguments that Hugging Face's filter takes.
#[expect(clippy::needless_pass_by_value, reason = "filters are handed their arguments so")]
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let usual = if indent.is_some() { "," } else { ", " };
    let (between, colon) = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None => (usual.to_owned(), ": ".to_owned()),
        Some([between, colon]) => (between.clone(), colon.clone()),
        Some(_) => return Err(failure(&"separators are two")),
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut out = String::new();
    Style { indent, between, colon, ascii, sorted }.write(value, 0, &mut out)?;
    Ok(out)
}

impl Style {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all(['[', ']'], items.len(), depth, out, |index, out| {
                    self.write(&items[index], depth + 1, out)
                })
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.write_all(['{', '}'], keys.len(), depth, out, |index, out| {
                    let key = &keys[index];
                    self.write_text(&key.to_string(), out)?;
                    out.push_str(&self.colon);
                    self.write(&value.get_item(key)?, depth + 1, out)
                })
            }
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default(), out),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                out.push_str(&serde_json::to_string(value).map_err(|it| failure(&it))?);
                Ok(())
            }
            kind => Err(failure(&format!("{kind} is not JSON serializable"))),
        }
    }

    fn write_all(
        &self,
        brackets: [char; 2],
        count: usize,
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = self.indent.filter(|_| count > 0) {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent * depth));
            }
        };
        out.push(brackets[0]);
        for index in 0..count {
            if index > 0 {
                out.push_str(&self.between);
            }
            line(out, depth + 1);
            write(index, out)?;
        }
        line(out, depth);
        out.push(brackets[1]);
        Ok(())
    }

    fn write_text(&self, text: &str, out: &mut String) -> Result<(), Error> {
        let json = serde_json::to_string(text).map_err(|it| failure(&it))?;
        for it in json.chars() {
            if self.ascii && !it.is_ascii() {
                for unit in it.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            } else {
                out.push(it);
            }
        }
        Ok(())
    }
}

fn failure(what: &dyn ToString) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_string())
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    #[test]
    fn values_are_written_as_python_writes_them() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", super::to_json);
        let value =
            serde_json::json!({"b": [1, 2.5, true, null, []], "a": "x\u{e9}\"\n<\u{1f600}"});
        let render = |call: &str| {
            environment
                .render_str(&format!("{{{{ x | {call} }}}}"), context! { x => value })
                .unwrap()
        };
        // serde_json has sorted the keys already
        let plain = "{\"a\": \"x\u{e9}\\\"\\n<\u{1f600}\", \"b\": [1, 2.5, true, null, []]}";
        assert_eq!(render("tojson"), plain);
        assert_eq!(
            render("tojson(separators=(',', ':'))"),
            plain.replace(", ", ",").replace(": ", ":")
        );
        let indented = "{\n  \"a\": \"x\u{e9}\\\"\\n<\u{1f600}\",\n  \"b\": [\n    1,\n    2.5,\n    true,\n    null,\n    []\n  ]\n}";
        assert_eq!(render("tojson(indent=2, sort_keys=true)"), indented);
        let ascii = "{\"a\": \"x\\u00e9\\\"\\n<\\ud83d\\ude00\", \"b\": [1, 2.5, true, null, []]}";
        assert_eq!(render("tojson(ensure_ascii=true)"), ascii);
    }
}
