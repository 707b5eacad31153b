//! Texts with places for fields: `/v1/{carrier}/price`. Pure.

use std::fmt::Write;

use serde_json::{Map, Value};

/// A record as a service sees it.
pub type Row = Map<String, Value>;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A name, or names of records within each other.
    Field(Vec<String>),
}

/// How the text of a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As it is.
    None,
    /// Percent-encoded, but for what RFC 3986 calls unreserved.
    Percent,
    /// As the inside of a JSON string.
    Json,
}

impl Template {
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let Some((name, after)) = from.strip_prefix('{').and_then(|f| f.split_once('}')) else {
                return Err(format!(
                    "{text:?}: a brace without its other half behind {before:?}; write a brace itself twice"
                ));
            };
            let path: Vec<String> = name.split('.').map(|n| n.trim().to_owned()).collect();
            if path.iter().any(String::is_empty) || name.contains('{') {
                return Err(format!("{text:?}: {{{name}}} is no field's name"));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(path));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// The names of the record's own fields in it.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(path) => path.first().map(String::as_str),
            Part::Text(_) => None,
        })
    }

    /// The text for a record.
    pub fn render(&self, row: &Row, escape: Escape) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(path) => put(&mut out, find(row, path), escape),
            }
        }
        out
    }

    /// The text, unless the whole of it is a field that is null.
    pub fn present(&self, row: &Row, escape: Escape) -> Option<String> {
        match &self.parts[..] {
            [Part::Field(path)] if find(row, path).is_none_or(Value::is_null) => None,
            _ => Some(self.render(row, escape)),
        }
    }
}

fn find<'r>(row: &'r Row, path: &[String]) -> Option<&'r Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(row.get(first)?, |value, name| value.get(name))
}

/// A null is written as nothing, a list or a record as JSON.
fn put(out: &mut String, value: Option<&Value>, escape: Escape) {
    let text = match value {
        None | Some(Value::Null) => return,
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    match escape {
        Escape::None => out.push_str(&text),
        Escape::Percent => {
            for byte in text.bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        out.push(char::from(byte));
                    }
                    // Writing to a text can't fail.
                    _ => drop(write!(out, "%{byte:02X}")),
                }
            }
        }
        Escape::Json => {
            let quoted = Value::String(text).to_string();
            out.push_str(&quoted[1..quoted.len() - 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Row {
        let Value::Object(row) = value else {
            panic!("no object")
        };
        row
    }

    #[test]
    fn fields_stand_where_they_are_named() {
        let template = Template::parse("/{a}/{b.c}?{{x}}").unwrap();
        let row = row(json!({"a": "1/2 ü", "b": {"c": 7}}));
        assert_eq!(
            template.render(&row, Escape::Percent),
            "/1%2F2%20%C3%BC/7?{x}"
        );
        assert_eq!(template.render(&row, Escape::None), "/1/2 ü/7?{x}");
        assert_eq!(template.fields().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn nothing_but_a_null_field_is_no_text_at_all() {
        let row = row(json!({"a": null, "b": "", "c": [1, null]}));
        let present = |text: &str| Template::parse(text).unwrap().present(&row, Escape::None);
        assert_eq!(present("{a}"), None);
        assert_eq!(present("{absent}"), None);
        assert_eq!(present("x{a}").as_deref(), Some("x"));
        assert_eq!(present("{b}").as_deref(), Some(""));
        assert_eq!(present("{c}").as_deref(), Some("[1,null]"));
    }

    #[test]
    fn a_field_in_a_text_of_json_can_not_leave_its_string() {
        let template = Template::parse(r#"{{"q": "{a}"}}"#).unwrap();
        let row = row(json!({"a": "x\", \"admin\": true, \"\n"}));
        let text = template.render(&row, Escape::Json);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, json!({"q": "x\", \"admin\": true, \"\n"}));
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (text, why) in [
            ("/{a", "without its other half"),
            ("/a}", "without its other half"),
            ("/{}", "{} is no field's name"),
            ("/{a..b}", "{a..b} is no field's name"),
            ("/{a{b}", "{a{b} is no field's name"),
        ] {
            let told = Template::parse(text).unwrap_err();
            assert!(told.contains(why) && told.contains(text), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_its_braces_doubled(text in any::<String>()) {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            let template = Template::parse(&doubled).unwrap();
            prop_assert_eq!(template.render(&Row::new(), Escape::None), text);
        }

        #[test]
        fn a_field_adds_no_separators_to_a_url(text in any::<String>()) {
            let template = Template::parse("/a/{f}/b").unwrap();
            let path = template.render(&row(json!({"f": text})), Escape::Percent);
            prop_assert_eq!(path.matches('/').count(), 3);
            prop_assert!(path.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#'));
        }
    }
}
