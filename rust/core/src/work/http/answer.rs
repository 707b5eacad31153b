//! From a response to a verdict and the rows of an answer. Pure.

use serde_json::{Map, Value};

use crate::http::Answer;
use crate::job::http::{AnswerBody, HttpEndpoint, StatusMeaning};
use crate::job::template::Row;
use crate::work::verdict::Verdict;

/// What a response means.
#[derive(Debug, PartialEq)]
pub enum Meaning {
    /// The verdict, and the rows of the answer.
    Verdict(Verdict, Vec<Row>),
    /// The service can take no more now.
    Busy,
}

/// What the response says of its record.
pub fn read(endpoint: &HttpEndpoint, record: &Row, response: &Answer) -> Meaning {
    let verdict = |verdict| Meaning::Verdict(verdict, Vec::new());
    let status = response.status.as_u16();
    let reason = || format!("Http{status}");
    match endpoint.meaning(status) {
        StatusMeaning::Busy => Meaning::Busy,
        StatusMeaning::Filtered => verdict(Verdict::Filtered(reason())),
        StatusMeaning::Retry => verdict(Verdict::Retry {
            reason: reason(),
            detail: response.said(),
        }),
        StatusMeaning::DeadLetter => verdict(Verdict::DeadLetter {
            reason: reason(),
            detail: response.said(),
        }),
        StatusMeaning::Answer => match rows(endpoint, record, response) {
            Ok(rows) if rows.is_empty() => verdict(Verdict::Filtered("NoAnswer".into())),
            Ok(rows) => Meaning::Verdict(Verdict::Answered(rows.len()), rows),
            Err(detail) => verdict(Verdict::DeadLetter {
                reason: "AnswerMisfit".into(),
                detail,
            }),
        },
    }
}

fn rows(endpoint: &HttpEndpoint, record: &Row, response: &Answer) -> Result<Vec<Row>, String> {
    let answer = &endpoint.answer;
    let mut rows = match answer.body {
        AnswerBody::Ignore => vec![Row::new()],
        AnswerBody::Text => {
            let text = std::str::from_utf8(&response.body)
                .map_err(|e| format!("the answer is no UTF-8: {e}"))?;
            let field = answer.text_field.clone().unwrap_or_default();
            vec![Map::from_iter([(field, Value::from(text))])]
        }
        AnswerBody::Json => objects(response)?,
    };
    for row in &mut rows {
        // What the service itself says goes before what is carried over.
        for field in &answer.carry {
            if !row.contains_key(field) {
                let value = record.get(field).cloned().unwrap_or(Value::Null);
                row.insert(field.clone(), value);
            }
        }
        if let Some(field) = &answer.status_field {
            row.insert(field.clone(), response.status.as_u16().into());
        }
        for (field, header) in &answer.headers {
            let value = response
                .header(header.as_str())
                .map_or(Value::Null, Value::from);
            row.insert(field.clone(), value);
        }
    }
    Ok(rows)
}

fn objects(response: &Answer) -> Result<Vec<Row>, String> {
    let value: Value = serde_json::from_slice(&response.body)
        .map_err(|e| format!("the answer is no JSON ({e}): {}", response.said()))?;
    let object = |value: Value| match value {
        Value::Object(row) => Ok(row),
        other => Err(format!(
            "the answer is {}, expected a JSON object, or a list of them: {}",
            kind(&other),
            response.said()
        )),
    };
    match value {
        Value::Array(values) => values.into_iter().map(object).collect(),
        Value::Null => Ok(Vec::new()),
        one => Ok(vec![object(one)?]),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;

    fn endpoint(more: &str) -> HttpEndpoint {
        toml::from_str(&format!("url = \"http://x\"\n{more}")).unwrap()
    }

    fn response(status: u16, body: &[u8]) -> Answer {
        let cost = (
            HeaderName::from_static("x-cost"),
            HeaderValue::from_static("12"),
        );
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter([cost]),
            body: body.to_vec(),
        }
    }

    fn meaning(more: &str, status: u16, body: &str) -> Meaning {
        let record = Row::from_iter([("id".to_owned(), json!(7)), ("note".to_owned(), json!("n"))]);
        read(&endpoint(more), &record, &response(status, body.as_bytes()))
    }

    fn answered(meaning: Meaning) -> Value {
        let Meaning::Verdict(Verdict::Answered(n), rows) = meaning else {
            panic!("{meaning:?}")
        };
        assert_eq!(n, rows.len());
        json!(rows)
    }

    fn word(meaning: Meaning) -> (&'static str, String) {
        match meaning {
            Meaning::Busy => ("busy", String::new()),
            Meaning::Verdict(Verdict::Answered(_), _) => ("answered", String::new()),
            Meaning::Verdict(Verdict::Filtered(reason), _) => ("filtered", reason),
            Meaning::Verdict(Verdict::Retry { reason, detail }, _) => {
                ("retry", format!("{reason}: {detail}"))
            }
            Meaning::Verdict(Verdict::DeadLetter { reason, detail }, _) => {
                ("dead", format!("{reason}: {detail}"))
            }
            Meaning::Verdict(Verdict::Held, _) => ("held", String::new()),
        }
    }

    #[test]
    fn a_status_means_what_http_says_unless_the_job_says_otherwise() {
        let of = |status| word(meaning("", status, "{}")).0;
        for (status, what) in [
            (200, "answered"),
            (201, "answered"),
            (204, "filtered"),
            (302, "retry"),
            (400, "dead"),
            (404, "dead"),
            (408, "retry"),
            (429, "busy"),
            (500, "retry"),
            (503, "busy"),
        ] {
            assert_eq!(of(status), what, "{status}");
        }
        let more = "statuses = {404 = \"filtered\", 5xx = \"dead_letter\", 503 = \"retry\"}";
        let of = |status| word(meaning(more, status, "no"));
        assert_eq!(of(404), ("filtered", "Http404".into()));
        assert_eq!(of(500), ("dead", "Http500: no".into()));
        assert_eq!(of(503), ("retry", "Http503: no".into()));
    }

    #[test]
    fn an_answer_is_an_object_or_several_or_none() {
        let of = |body| meaning("", 200, body);
        assert_eq!(answered(of(r#"{"a": 1}"#)), json!([{"a": 1}]));
        assert_eq!(
            answered(of(r#"[{"a": 1}, {"a": 2}]"#)),
            json!([{"a": 1}, {"a": 2}])
        );
        assert_eq!(word(of("[]")), ("filtered", "NoAnswer".into()));
        assert_eq!(word(of("null")), ("filtered", "NoAnswer".into()));
        let (what, told) = word(of("<html>"));
        assert_eq!(what, "dead");
        assert!(told.contains("AnswerMisfit: the answer is no JSON") && told.ends_with("<html>"));
        let (_, told) = word(of(r#"[{"a": 1}, 5]"#));
        assert!(
            told.contains("the answer is a number, expected a JSON object"),
            "{told}"
        );
        let (_, told) = word(meaning("", 200, &"ü".repeat(1_000)));
        assert!(told.ends_with("ü…") && told.len() < 500);
    }

    #[test]
    fn status_headers_and_fields_of_the_record_go_where_they_are_named() {
        let more = r#"
            [answer]
            status_field = "status"
            carry = ["id", "note", "absent"]
            [answer.headers]
            cost = "X-Cost"
            other = "X-Other"
        "#;
        assert_eq!(
            answered(meaning(more, 200, r#"{"note": "its own"}"#)),
            json!([{"note": "its own", "id": 7, "absent": null, "status": 200, "cost": "12", "other": null}])
        );
    }

    #[test]
    fn a_body_may_be_a_text_or_nothing() {
        let text = "[answer]\nbody = \"text\"\ntext_field = \"said\"";
        assert_eq!(
            answered(meaning(text, 200, "hello")),
            json!([{"said": "hello"}])
        );
        let response = response(200, &[0xff]);
        let told = word(read(&endpoint(text), &Row::new(), &response));
        assert!(told.1.contains("no UTF-8"), "{told:?}");
        let ignored = "answer = {body = \"ignore\", carry = [\"id\"]}";
        assert_eq!(
            answered(meaning(ignored, 200, "<html>")),
            json!([{"id": 7}])
        );
    }
}
