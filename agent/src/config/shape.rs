//! What kind of value a key takes.
//!
//! It is looked at before the file is read for good, so that a value of the wrong kind is told with its key, and with
//! all the other mistakes. What is shown of the value is never a text where a text may stand: it could be a password.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A text; numbers and words such as `on` are texts, too.
    Text,
    /// A whole number, zero or more.
    Count,
    /// A whole number.
    Integer,
    /// `true` or `false`, in any of YAML's ways.
    Flag,
    /// A list of texts.
    Texts,
    /// A list of texts, or one text with commas.
    Hosts,
    /// Names, each with a text or nothing.
    Settings,
    /// A list of names, and of names with a text.
    Options,
    /// Whatever it is.
    Any,
}

impl Shape {
    /// What is wrong with the value, if something is. A key without a value is as good as none.
    pub(super) fn mistake(self, value: &Value) -> Option<String> {
        let expected = match self {
            Shape::Text => "a text",
            Shape::Count => "a whole number, zero or more",
            Shape::Integer => "a whole number",
            Shape::Flag => "true or false",
            Shape::Texts => "a list of texts",
            Shape::Hosts => "a list of host:port, or one text with commas",
            Shape::Settings => "names with values",
            Shape::Options => "a list of names, and of names with values",
            Shape::Any => return None,
        };
        let fits = value.is_null() || self.fits(value);
        (!fits).then(|| format!("expected {expected}, found {}", self.shown(value)))
    }

    fn fits(self, value: &Value) -> bool {
        let all = |fits: fn(&Value) -> bool| value.as_array().is_some_and(|values| values.iter().all(fits));
        match self {
            Shape::Text => is_text(value),
            Shape::Count => reads_as::<u64>(value),
            Shape::Integer => reads_as::<i64>(value),
            Shape::Flag => reads_as::<bool>(value),
            Shape::Texts => all(is_text),
            Shape::Hosts => is_text(value) || all(Value::is_string),
            Shape::Settings => is_settings(value),
            Shape::Options => all(|option| is_text(option) || is_settings(option)),
            Shape::Any => true,
        }
    }

    fn shown(self, value: &Value) -> String {
        match value {
            Value::Null => "nothing".to_owned(),
            Value::Array(_) if matches!(self, Shape::Texts | Shape::Hosts | Shape::Options) => {
                "a list with something else in it".to_owned()
            }
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) if self == Shape::Settings => "a name with more than a text".to_owned(),
            Value::Object(_) => "names with values".to_owned(),
            scalar if matches!(self, Shape::Count | Shape::Integer | Shape::Flag) => scalar.to_string(),
            _ => "a text".to_owned(),
        }
    }
}

fn is_text(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
}

fn is_settings(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.values().all(|value| value.is_null() || is_text(value)))
}

/// As the reader of YAML will see it: it takes `1_000` for a number and `off` for a flag.
fn reads_as<T: DeserializeOwned>(value: &Value) -> bool {
    match value {
        Value::String(text) => serde_saphyr::from_str::<T>(text).is_ok(),
        scalar if is_text(scalar) => serde_saphyr::from_str::<T>(&scalar.to_string()).is_ok(),
        _ => false,
    }
}
