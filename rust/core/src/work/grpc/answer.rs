//! From results to verdicts and the rows of their answers. Pure.

use std::time::Duration;

use prost::Message;
use serde_json::Value;

use super::messages::{self, ProcessResponse, RecordResult};
use crate::http::{SHOWN, cut};
use crate::job::template::Row;
use crate::work::endpoint::{LONGEST_ASKED, Reply, Said};
use crate::work::verdict::Verdict;

/// Characters of a reason: it is what verdicts are counted by.
const REASON: usize = 60;

/// What a message says of so many records.
pub fn read(message: &[u8], records: usize) -> Reply {
    let response = match ProcessResponse::decode(message) {
        Ok(response) => response,
        Err(e) => return Reply::Failed(misfit(format!("the answer is no ProcessResponse: {e}"))),
    };
    let results = response.results;
    if results.len() != records {
        return Reply::Failed(misfit(format!(
            "the answer has {} results for {records} records",
            results.len()
        )));
    }
    Reply::Each(results.into_iter().map(one).collect())
}

fn one(result: RecordResult) -> Said {
    let verdict = match result.verdict {
        Some(messages::Said::Answered(answered)) => match rows(&answered.json) {
            Ok(rows) if rows.is_empty() => Verdict::Filtered("NoAnswer".into()),
            Ok(rows) => return (Verdict::Answered(rows.len()), rows),
            Err(detail) => misfit(detail),
        },
        Some(messages::Said::Filtered(filtered)) => {
            Verdict::Filtered(reason(filtered.reason, "Filtered"))
        }
        Some(messages::Said::Retry(retry)) => Verdict::Retry {
            reason: reason(retry.reason, "ServiceRetry"),
            detail: cut(retry.detail, SHOWN),
            after: Some(Duration::from_millis(retry.after_ms.into()).min(LONGEST_ASKED)),
        },
        Some(messages::Said::DeadLetter(dead)) => Verdict::DeadLetter {
            reason: reason(dead.reason, "ServiceError"),
            detail: cut(dead.detail, SHOWN),
        },
        None => misfit("its result has no verdict".into()),
    };
    (verdict, Vec::new())
}

fn reason(said: String, otherwise: &str) -> String {
    match said.trim() {
        "" => otherwise.to_owned(),
        _ => cut(said, REASON),
    }
}

fn misfit(detail: String) -> Verdict {
    Verdict::dead_letter("AnswerMisfit", detail)
}

fn rows(texts: &[String]) -> Result<Vec<Row>, String> {
    let row = |text: &String| match serde_json::from_str(text) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(_) => Err(format!(
            "an answer is no JSON object: {}",
            cut(text.clone(), SHOWN)
        )),
        Err(e) => Err(format!(
            "an answer is no JSON ({e}): {}",
            cut(text.clone(), SHOWN)
        )),
    };
    texts.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::messages::{Answered, DeadLetter, Filtered, Retry};
    use super::*;

    fn read_all(verdicts: Vec<Option<messages::Said>>, records: usize) -> Reply {
        let results = verdicts.into_iter().map(|verdict| RecordResult { verdict });
        let response = ProcessResponse {
            results: results.collect(),
        };
        read(&response.encode_to_vec(), records)
    }

    fn answered(json: &[&str]) -> Option<messages::Said> {
        let json = json.iter().map(|text| (*text).to_owned()).collect();
        Some(messages::Said::Answered(Answered { json }))
    }

    #[test]
    fn each_record_has_the_verdict_of_its_result() {
        let said = |reason: &str, detail: &str| (reason.to_owned(), detail.to_owned());
        let (reason, detail) = said("Late", "too late");
        let retry = Retry {
            reason: reason.clone(),
            detail: detail.clone(),
            after_ms: 250,
        };
        let dead = DeadLetter {
            reason: String::new(),
            detail: detail.clone(),
        };
        let long = "x".repeat(100);
        let found = read_all(
            vec![
                answered(&[r#"{"a": 1}"#, r#"{"a": 2}"#]),
                answered(&[]),
                answered(&["7"]),
                answered(&["<"]),
                Some(messages::Said::Filtered(Filtered { reason: long })),
                Some(messages::Said::Retry(retry)),
                Some(messages::Said::DeadLetter(dead)),
                None,
            ],
            8,
        );
        let Reply::Each(found) = found else {
            panic!("{found:?}")
        };
        let verdicts: Vec<&Verdict> = found.iter().map(|(verdict, _)| verdict).collect();
        assert_eq!(*verdicts[0], Verdict::Answered(2));
        assert_eq!(found[0].1[1]["a"], 2);
        assert_eq!(*verdicts[1], Verdict::Filtered("NoAnswer".into()));
        let told = |verdict: &Verdict, text: &str| matches!(verdict, Verdict::DeadLetter { reason, detail } if reason == "AnswerMisfit" && detail.contains(text));
        assert!(told(verdicts[2], "no JSON object: 7"));
        assert!(told(verdicts[3], "no JSON ("));
        assert!(matches!(verdicts[4], Verdict::Filtered(reason) if reason.chars().count() == 61));
        let after = Some(Duration::from_millis(250));
        assert_eq!(
            *verdicts[5],
            Verdict::Retry {
                reason,
                detail,
                after
            }
        );
        assert_eq!(
            *verdicts[6],
            Verdict::dead_letter("ServiceError", "too late")
        );
        assert!(told(verdicts[7], "has no verdict"));
    }

    #[test]
    fn what_does_not_fit_fails_them_all() {
        let Reply::Failed(Verdict::DeadLetter { detail, .. }) = read_all(vec![answered(&[])], 2)
        else {
            panic!("has a verdict for each")
        };
        assert_eq!(detail, "the answer has 1 results for 2 records");
        let Reply::Failed(Verdict::DeadLetter { detail, .. }) = read(&[0x0a, 0xff], 1) else {
            panic!("was read")
        };
        assert!(detail.contains("no ProcessResponse"), "{detail}");
    }
}
