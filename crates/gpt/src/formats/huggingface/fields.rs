//! Fields of a JSON object: asked for once, and none left over that could mean something.

use std::{cell::RefCell, collections::BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use crate::formats::shown;

/// An object whose fields are counted off.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, asked: RefCell::default() }
    }

    /// A field that is there and not null.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(name.to_owned());
        self.object.get(name).filter(|it| !it.is_null())
    }

    fn of<T>(
        &self,
        name: &str,
        rule: &str,
        take: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        Ok(Some(take(value).with_context(|| refusal(name, value, rule))?))
    }

    pub(super) fn whole(&self, name: &str) -> Result<Option<i64>> {
        self.of(name, "a whole number", Value::as_i64)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        self.of(name, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.of(name, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.of(name, "a text", Value::as_str)
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>> {
        self.of(name, "an object", Value::as_object)
    }

    /// A whole number that has to be there.
    pub(super) fn needed(&self, name: &str) -> Result<i64> {
        self.whole(name)?.with_context(|| format!("{name} is missing"))
    }

    /// Refuses a flag that is not `wanted`, which is also what it is where nothing is said.
    pub(super) fn must_be(&self, name: &str, wanted: bool) -> Result<()> {
        match self.flag(name)? {
            Some(found) if found != wanted => bail!("{name} is {found}, but must be {wanted}"),
            _ => Ok(()),
        }
    }

    /// Refuses fields that were never asked for, unless they say nothing (null, false) or are `harmless`.
    pub(super) fn ensure_no_more(&self, harmless: &[&str]) -> Result<()> {
        let asked = self.asked.borrow();
        for (name, value) in self.object {
            let says_nothing = matches!(value, Value::Null | Value::Bool(false));
            if !says_nothing && !asked.contains(name) && !harmless.contains(&name.as_str()) {
                bail!("{}", refusal(name, value, "left out: nobody here knows what it changes"));
            }
        }
        Ok(())
    }
}

/// One line about a field.
pub(super) fn refusal(name: &str, value: &Value, rule: &str) -> String {
    let value = match value {
        Value::String(text) => shown(text),
        other => other.to_string().chars().take(80).collect(),
    };
    let name: String =
        name.chars().map(|c| if c.is_control() { '?' } else { c }).take(80).collect();
    format!("{name} is {value}, but must be {rule}")
}
