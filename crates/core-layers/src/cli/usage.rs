//! The command line, and what is wrong with it in one line.

use clap::{
    Command, Error, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::ConfigError;

/// Reads the command line of a program. Help and version are printed, and the program ends.
///
/// # Errors
/// [`ConfigError`] naming flag, value and rule.
pub fn parse<C: Parser>() -> Result<C, ConfigError> {
    let read = || C::from_arg_matches(&with_negative_numbers(C::command()).try_get_matches()?);
    read().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => refusal(&error),
    })
}

/// A number below zero is a value of the flag before it, which says what is wrong with it, and not a flag.
fn with_negative_numbers(command: Command) -> Command {
    command.allow_negative_numbers(true).mut_subcommands(with_negative_numbers)
}

/// What clap says over several lines, said in one.
fn refusal(error: &Error) -> ConfigError {
    let flag = text(error, ContextKind::InvalidArg).unwrap_or_else(|| "the command".into());
    let value = text(error, ContextKind::InvalidValue);
    let similar = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand]
        .into_iter()
        .find_map(|kind| text(error, kind))
        .map_or_else(String::new, |it| format!("; a similar one is {it}"));
    match error.kind() {
        ErrorKind::InvalidValue => {
            let rule = match text(error, ContextKind::ValidValue) {
                Some(choices) => format!("one of {choices}"),
                None => "given with a value".into(),
            };
            ConfigError::new(name(&flag), value.unwrap_or_else(|| "empty".into()), rule)
        }
        ErrorKind::ValueValidation => {
            let source = std::error::Error::source(error).map(ToString::to_string);
            let rule = rule(&source.unwrap_or_default());
            ConfigError::new(name(&flag), value.unwrap_or_else(|| "empty".into()), rule)
        }
        ErrorKind::MissingRequiredArgument => ConfigError::new(&flag, "missing", "given"),
        ErrorKind::MissingSubcommand => {
            let choices = text(error, ContextKind::ValidSubcommand).unwrap_or_default();
            ConfigError::new("the command", "missing", format!("one of {choices}"))
        }
        ErrorKind::InvalidSubcommand => {
            let given = text(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            let rule = format!("one that --help lists{similar}");
            ConfigError::new("the command", given, rule)
        }
        ErrorKind::UnknownArgument => {
            let rule = format!("left out: there is no such argument here{similar}");
            ConfigError::new(&flag, "given", rule)
        }
        ErrorKind::ArgumentConflict => match text(error, ContextKind::PriorArg) {
            Some(other) if other != flag => {
                ConfigError::new(name(&flag), "given", format!("left out beside {}", name(&other)))
            }
            _ => ConfigError::new(name(&flag), "given twice", "given once"),
        },
        kind => {
            let rule = kind.as_str().unwrap_or("as --help says");
            ConfigError::new(name(&flag), "wrong", format!("right: {rule}"))
        }
    }
}

/// What clap holds of one kind, if it is not empty; several things with commas between them.
fn text(error: &Error, kind: ContextKind) -> Option<String> {
    let text = match error.get(kind)? {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(all) => all.join(", "),
        other => other.to_string(),
    };
    Some(text).filter(|text| !text.is_empty())
}

/// `--count` of `--count <COUNT>`.
fn name(flag: &str) -> &str {
    flag.split([' ', '=']).next().unwrap_or(flag)
}

/// What a value must be, by what its parser says of another.
fn rule(parser: &str) -> String {
    match parser {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "a whole number, 0 or above".into()
        }
        "invalid float literal" | "cannot parse float from empty string" => "a number".into(),
        text if text.starts_with("number too ") => "a whole number that is not so large".into(),
        text => match text.rsplit_once(" is not in ") {
            Some((_, range)) => format!("in {range}"),
            None => text.split_once(", but must be ").map_or(text, |(_, rule)| rule).to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "x")]
    struct Cli {
        #[arg(long, default_value_t = 1)]
        count: usize,
        #[arg(long, value_enum)]
        how: Option<How>,
        #[arg(long)]
        share: Option<f64>,
        #[arg(long)]
        steps: Option<u32>,
        #[arg(long, value_name = "PNG", required_unless_present = "npy")]
        out: Option<String>,
        #[arg(long, conflicts_with = "share")]
        npy: Option<String>,
    }

    #[derive(Debug, Clone, Copy, ValueEnum)]
    enum How {
        Fast,
        Exact,
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value_and_rule() {
        let line = |args: &str| {
            let args = std::iter::once("x").chain(args.split_whitespace());
            refusal(&Cli::try_parse_from(args).unwrap_err()).to_string()
        };
        for (args, wanted) in [
            ("--out x --count a", "--count is a, but must be a whole number, 0 or above"),
            (
                "--out x --count -1",
                "-1 is given, but must be left out: there is no such argument here",
            ),
            ("--out x --share a", "--share is a, but must be a number"),
            ("--out x --steps 5000000000", "--steps is 5000000000, but must be in 0..=4294967295"),
            ("--out x --how quick", "--how is quick, but must be one of fast, exact"),
            ("--out", "--out is empty, but must be given with a value"),
            ("", "--out <PNG> is missing, but must be given"),
            ("--npy x --share 1", "--npy is given, but must be left out beside --share"),
            ("--out x --out y", "--out is given twice, but must be given once"),
        ] {
            assert_eq!(line(args), wanted, "{args}");
        }
        let unknown = line("--out x --cout 3");
        assert_eq!(
            unknown,
            "--cout is given, but must be left out: there is no such argument here; a similar one is --count"
        );
    }
}
