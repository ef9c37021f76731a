//! The error of every `validate` in the workspace.

/// A configuration that no model can be built from, or no run started with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value outside the range that is supported.
    #[error("{field} is {value}, but must be {rule}")]
    OutOfRange {
        /// The field, as written in the configuration file.
        field: String,
        /// The value that was given.
        value: String,
        /// What would have been accepted, for example "at least 1".
        rule: String,
    },
}

impl ConfigError {
    #[expect(clippy::needless_pass_by_value, reason = "a number is passed as it is written")]
    /// The error that says: `field` is `value`, but must be `rule`.
    pub fn new(field: &str, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::OutOfRange { field: field.into(), value: value.to_string(), rule: rule.into() }
    }

    /// The error that lists what `value` may be.
    pub fn one_of(field: &str, value: impl ToString, choices: &[&str]) -> Self {
        Self::new(field, value, format!("one of {}", choices.join(", ")))
    }

    /// Refuses `value` unless `holds`.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] when it does not hold.
    pub fn ensure(holds: bool, field: &str, value: impl ToString, rule: &str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::new(field, value, rule)) }
    }

    /// Refuses `value` unless it is at least 1.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] when it is smaller.
    pub fn at_least_one(field: &str, value: i64) -> Result<(), Self> {
        Self::ensure(value >= 1, field, value, "at least 1")
    }

    /// The same of a field that stands under another name: `prefix` comes before it.
    #[must_use]
    pub fn under(self, prefix: &str) -> Self {
        let Self::OutOfRange { field, value, rule } = self;
        Self::OutOfRange { field: format!("{prefix}{field}"), value, rule }
    }
}
