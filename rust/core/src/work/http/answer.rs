//! From a response to verdicts and the rows of their answers. Pure.

use serde_json::{Map, Value};

use crate::http::{Answer, SHOWN, cut};
use crate::job::batch::{Batch, BatchFormat};
use crate::job::http::{AnswerBody, HttpEndpoint, StatusMeaning};
use crate::job::template::Row;
use crate::work::endpoint::Reply;
use crate::work::verdict::Verdict;

/// What the response says of the records of its request.
pub fn read(endpoint: &HttpEndpoint, records: &[&Row], response: &Answer) -> Reply {
    let status = response.status.as_u16();
    let reason = format!("Http{status}");
    let detail = response.said();
    match endpoint.meaning(status) {
        StatusMeaning::Busy => Reply::TurnedAway(response.after()),
        StatusMeaning::Filtered => {
            let filtered = |_: &&Row| (Verdict::Filtered(reason.clone()), Vec::new());
            Reply::Each(records.iter().map(filtered).collect())
        }
        StatusMeaning::Retry => Reply::Failed(Verdict::retry(reason, detail)),
        StatusMeaning::DeadLetter => Reply::Failed(Verdict::dead_letter(reason, detail)),
        StatusMeaning::Answer => match families(endpoint, records.len(), response) {
            Ok(families) => {
                let each = records.iter().zip(families);
                let each = each.map(|(record, family)| verdict(endpoint, record, response, family));
                Reply::Each(each.collect())
            }
            Err(detail) => Reply::Failed(misfit(detail)),
        },
    }
}

fn misfit(detail: String) -> Verdict {
    Verdict::dead_letter("AnswerMisfit", detail)
}

/// What is said of one record: rows, or the verdict in their place.
type Family = Result<Vec<Row>, Verdict>;

/// What the body says of each of so many records.
fn families(
    endpoint: &HttpEndpoint,
    records: usize,
    response: &Answer,
) -> Result<Vec<Family>, String> {
    let answer = &endpoint.answer;
    match (answer.body, &endpoint.batch) {
        (AnswerBody::Ignore, _) => Ok((0..records).map(|_| Ok(vec![Row::new()])).collect()),
        (AnswerBody::Text, _) => {
            let text = std::str::from_utf8(&response.body)
                .map_err(|e| format!("the answer is no UTF-8: {e}"))?;
            let field = answer.text_field.clone().unwrap_or_default();
            Ok(vec![Ok(vec![Map::from_iter([(field, Value::from(text))])])])
        }
        (AnswerBody::Json, None) => {
            let value = json(&response.body, response)?;
            Ok(vec![Ok(objects(value, response)?)])
        }
        (AnswerBody::Json, Some(batch)) => {
            let values = match batch.format {
                BatchFormat::List => match json(&response.body, response)? {
                    Value::Array(values) => values,
                    other => {
                        return Err(format!(
                            "the answer is {}, expected a JSON list with an element for each record: {}",
                            kind(&other),
                            response.said()
                        ));
                    }
                },
                BatchFormat::Lines => {
                    let lines = response.body.split(|byte| *byte == b'\n');
                    let full = lines.filter(|line| !line.trim_ascii().is_empty());
                    full.map(|line| json(line, response))
                        .collect::<Result<_, _>>()?
                }
            };
            if values.len() != records {
                return Err(format!(
                    "the answer has {} elements for {records} records: {}",
                    values.len(),
                    response.said()
                ));
            }
            let one = |value| element(batch, value, response);
            Ok(values.into_iter().map(one).collect())
        }
    }
}

fn element(batch: &Batch, value: Value, response: &Answer) -> Family {
    let error = batch.error_field.as_ref().and_then(|name| value.get(name));
    if let Some(error) = error.filter(|error| !error.is_null()) {
        let text = error
            .as_str()
            .map_or_else(|| error.to_string(), str::to_owned);
        return Err(Verdict::dead_letter("ServiceError", cut(text, SHOWN)));
    }
    objects(value, response).map_err(misfit)
}

fn verdict(
    endpoint: &HttpEndpoint,
    record: &Row,
    response: &Answer,
    family: Family,
) -> (Verdict, Vec<Row>) {
    let answer = &endpoint.answer;
    let mut rows = match family {
        Ok(rows) if rows.is_empty() => {
            return (Verdict::Filtered("NoAnswer".into()), Vec::new());
        }
        Ok(rows) => rows,
        Err(verdict) => return (verdict, Vec::new()),
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
    (Verdict::Answered(rows.len()), rows)
}

fn json(text: &[u8], response: &Answer) -> Result<Value, String> {
    serde_json::from_slice(text)
        .map_err(|e| format!("the answer is no JSON ({e}): {}", response.said()))
}

fn objects(value: Value, response: &Answer) -> Result<Vec<Row>, String> {
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

    fn meaning(more: &str, status: u16, body: &str) -> Reply {
        let record = Row::from_iter([("id".to_owned(), json!(7)), ("note".to_owned(), json!("n"))]);
        read(
            &endpoint(more),
            &[&record],
            &response(status, body.as_bytes()),
        )
    }

    /// The verdict on the one record, and its rows.
    fn one(meaning: Reply) -> Option<(Verdict, Vec<Row>)> {
        match meaning {
            Reply::TurnedAway(_) => None,
            Reply::Failed(verdict) => Some((verdict, Vec::new())),
            Reply::Each(mut each) => {
                assert_eq!(each.len(), 1);
                each.pop()
            }
            other => panic!("{other:?}"),
        }
    }

    fn answered(meaning: Reply) -> Value {
        let Some((Verdict::Answered(n), rows)) = one(meaning) else {
            panic!("not answered")
        };
        assert_eq!(n, rows.len());
        json!(rows)
    }

    fn word(meaning: Reply) -> (&'static str, String) {
        match one(meaning).map(|(verdict, _)| verdict) {
            None => ("busy", String::new()),
            Some(Verdict::Filtered(reason)) => ("filtered", reason),
            Some(Verdict::Retry { reason, detail, .. }) => ("retry", format!("{reason}: {detail}")),
            Some(Verdict::DeadLetter { reason, detail }) => ("dead", format!("{reason}: {detail}")),
            Some(other) => (other.name(), String::new()),
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
        let told = word(read(&endpoint(text), &[&Row::new()], &response));
        assert!(told.1.contains("no UTF-8"), "{told:?}");
        let ignored = "answer = {body = \"ignore\", carry = [\"id\"]}";
        assert_eq!(
            answered(meaning(ignored, 200, "<html>")),
            json!([{"id": 7}])
        );
    }

    #[test]
    fn an_answer_to_a_batch_has_an_element_for_each_record() {
        let rows: Vec<Row> = (0..3)
            .map(|n| Row::from_iter([("id".to_owned(), json!(n))]))
            .collect();
        let rows: Vec<&Row> = rows.iter().collect();
        let of = |more: &str, body: &str| {
            let more = format!("answer.carry = [\"id\"]\nbatch.records = 3\n{more}");
            read(&endpoint(&more), &rows, &response(200, body.as_bytes()))
        };
        let each = |meaning| match meaning {
            Reply::Each(each) => each,
            other => panic!("{other:?}"),
        };
        let lines = "batch.format = \"lines\"";
        for (more, body) in [
            ("", r#"[{"a": 1}, [{"a": 2}, {"a": 3}], null]"#),
            (lines, "{\"a\": 1}\r\n[{\"a\": 2}, {\"a\": 3}]\n\nnull"),
        ] {
            let found = each(of(more, body));
            assert_eq!(found[0].0, Verdict::Answered(1));
            assert_eq!(
                json!(found[1].1),
                json!([{"a": 2, "id": 1}, {"a": 3, "id": 1}])
            );
            assert_eq!(found[2].0, Verdict::Filtered("NoAnswer".into()));
        }
        // An element tells of its own record alone.
        let found = each(of(
            "batch.error_field = \"error\"",
            r#"[{"error": "no such item"}, 7, {"error": null}]"#,
        ));
        let dead = |verdict: &Verdict, word: &str, told: &str| matches!(verdict, Verdict::DeadLetter { reason, detail } if reason == word && detail.contains(told));
        assert!(dead(&found[0].0, "ServiceError", "no such item"));
        assert!(dead(&found[1].0, "AnswerMisfit", "the answer is a number"));
        assert_eq!(found[2].0, Verdict::Answered(1));
        for (body, told) in [
            (r#"[{"a": 1}]"#, "has 1 elements for 3 records"),
            (r#"{"a": 1}"#, "is an object, expected a JSON list"),
            ("<html>", "no JSON"),
        ] {
            let Reply::Failed(verdict) = of("", body) else {
                panic!("{body}")
            };
            assert!(dead(&verdict, "AnswerMisfit", told), "{verdict:?}");
        }
    }
}
