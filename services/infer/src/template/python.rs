//! What templates use of Python beyond Jinja, and minijinja does not have.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Methods of Python's types.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, name, arguments);
    };
    let without = |cut: Option<&str>| Ok(Value::from(cut.unwrap_or(text)));
    match name {
        "rsplit" => {
            let (mark, most): (Option<&str>, Option<usize>) = from_args(arguments)?;
            let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
            let mut parts: Vec<_> = match mark {
                Some(mark) => text.rsplitn(most, mark).collect(),
                None if most == usize::MAX => text.split_whitespace().rev().collect(),
                None => {
                    let text = "rsplit: a count needs a separator";
                    return Err(Error::new(ErrorKind::InvalidOperation, text));
                }
            };
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "removeprefix" => without(text.strip_prefix(from_args::<(&str,)>(arguments)?.0)),
        "removesuffix" => without(text.strip_suffix(from_args::<(&str,)>(arguments)?.0)),
        _ => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

/// `is iterable`: nothing is not, nor is what is not defined.
pub(super) fn is_iterable(value: &Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Undefined) && value.try_iter().is_ok()
}
