//! Typed params and their substitution as `${name}`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{Param, ParamKind};

/// Resolved values by param name.
pub type ParamValues = BTreeMap<String, Value>;

/// A wrong param or placeholder: the key it is at, and what is wrong.
pub type Problem = (String, String);

/// Resolves the declared params against what the caller gave (as text).
pub fn resolve(
    declared: &BTreeMap<String, Param>,
    given: &BTreeMap<String, String>,
) -> Result<ParamValues, Problem> {
    if let Some(unknown) = given.keys().find(|k| !declared.contains_key(*k)) {
        let known = declared
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        return Err((
            format!("params.{unknown}"),
            format!("the job declares no such param; it declares: {known}"),
        ));
    }
    declared
        .iter()
        .map(|(name, param)| {
            let key = format!("params.{name}");
            let value = match (given.get(name), &param.default) {
                (Some(text), _) => parse(param.kind, text).map_err(|e| (key.clone(), e))?,
                (None, Some(Value::String(text))) if param.kind != ParamKind::String => {
                    parse(param.kind, text).map_err(|e| (key.clone(), e))?
                }
                (None, Some(value)) => {
                    check_kind(param.kind, value).map_err(|e| (key.clone(), e))?;
                    value.clone()
                }
                (None, None) => {
                    return Err((
                        key,
                        format!("has no default: give it, as in --param {name}=…"),
                    ));
                }
            };
            if !param.choices.is_empty() && !param.choices.contains(&value) {
                let allowed = param
                    .choices
                    .iter()
                    .map(show)
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err((key, format!("{} is not one of: {allowed}", show(&value))));
            }
            Ok((name.clone(), value))
        })
        .collect()
}

fn parse(kind: ParamKind, text: &str) -> Result<Value, String> {
    let wrong = |what: &str| format!("{text:?} is not {what}");
    match kind {
        ParamKind::String => Ok(Value::from(text)),
        ParamKind::Int => text
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| wrong("a whole number")),
        ParamKind::Float => match text.parse::<f64>() {
            Ok(v) if v.is_finite() => Ok(Value::from(v)),
            _ => Err(wrong("a finite number")),
        },
        ParamKind::Bool => text
            .parse::<bool>()
            .map(Value::from)
            .map_err(|_| wrong("true or false")),
        ParamKind::Date => {
            if is_date(text) {
                Ok(Value::from(text))
            } else {
                Err(wrong("a date (YYYY-MM-DD)"))
            }
        }
    }
}

fn check_kind(kind: ParamKind, value: &Value) -> Result<(), String> {
    let fits = match kind {
        ParamKind::String => value.is_string(),
        ParamKind::Int => value.is_i64(),
        ParamKind::Float => value.is_number(),
        ParamKind::Bool => value.is_boolean(),
        ParamKind::Date => value.as_str().is_some_and(is_date),
    };
    if fits {
        Ok(())
    } else {
        Err(format!("default {} is not of type {kind:?}", show(value)))
    }
}

fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-').map(|p| (p.len(), p.parse::<u32>()));
    let (Some((4, Ok(year))), Some((2, Ok(month))), Some((2, Ok(day)))) =
        (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// A value as it stands in text.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Replaces `${name}` in every string below `value`; a string that is one placeholder takes the param's own type.
pub fn substitute(value: &mut toml::Value, params: &ParamValues, key: &str) -> Result<(), Problem> {
    match value {
        toml::Value::String(text) if text.contains("${") => {
            if let Some(name) = whole_placeholder(text) {
                *value = typed(lookup(name, params, key)?);
                return Ok(());
            }
            *text = fill(text, params, key)?;
            Ok(())
        }
        toml::Value::Table(table) => table.iter_mut().try_for_each(|(k, v)| {
            let path = if key.is_empty() {
                k.clone()
            } else {
                format!("{key}.{k}")
            };
            substitute(v, params, &path)
        }),
        toml::Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(i, v)| substitute(v, params, &format!("{key}[{i}]"))),
        _ => Ok(()),
    }
}

fn whole_placeholder(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    (!name.contains(['$', '}'])).then_some(name)
}

fn lookup<'a>(name: &str, params: &'a ParamValues, key: &str) -> Result<&'a Value, Problem> {
    params.get(name).ok_or_else(|| {
        (
            key.to_owned(),
            format!("${{{name}}} names no param; add it under [params]"),
        )
    })
}

fn typed(value: &Value) -> toml::Value {
    match value {
        Value::Bool(v) => toml::Value::Boolean(*v),
        Value::Number(n) => n
            .as_i64()
            .map(toml::Value::Integer)
            .or_else(|| n.as_f64().map(toml::Value::Float))
            .unwrap_or_else(|| toml::Value::String(n.to_string())),
        other => toml::Value::String(show(other)),
    }
}

fn fill(text: &str, params: &ParamValues, key: &str) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(len) = rest[start..].find('}') else {
            return Err((
                key.to_owned(),
                format!("{text:?} has a ${{ that is never closed"),
            ));
        };
        out.push_str(&rest[..start]);
        out.push_str(&show(lookup(&rest[start + 2..start + len], params, key)?));
        rest = &rest[start + len + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_real_days() {
        for (text, ok) in [
            ("2013-01-31", true),
            ("2012-02-29", true),
            ("2013-02-29", false),
            ("2013-13-01", false),
            ("13-1-1", false),
            ("2013-01-1x", false),
        ] {
            assert_eq!(is_date(text), ok, "{text}");
        }
    }

    #[test]
    fn placeholders_keep_their_type_when_they_stand_alone() {
        let params =
            ParamValues::from([("n".into(), Value::from(3)), ("d".into(), Value::from("x"))]);
        let mut value =
            toml::Value::try_from(toml::toml! { a = "${n}" b = "p-${n}-${d}" }).unwrap();
        substitute(&mut value, &params, "").unwrap();
        assert_eq!(value["a"].as_integer(), Some(3));
        assert_eq!(value["b"].as_str(), Some("p-3-x"));
    }

    #[test]
    fn a_placeholder_without_a_param_names_its_key() {
        let mut value = toml::Value::try_from(toml::toml! { s = ["${none}"] }).unwrap();
        let (key, reason) = substitute(&mut value, &ParamValues::new(), "").unwrap_err();
        assert_eq!(key, "s[0]");
        assert!(reason.contains("${none}"), "{reason}");
    }
}
