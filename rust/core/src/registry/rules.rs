//! Compatibility rules, compared by ourselves. Pure.

use kappaflow_avro::compat::{GeneralSchema, check_general};

use super::types::Level;

/// Why `new` may not follow the `older` versions of its subject (number and text, oldest first) under a level; empty: it may.
pub fn reasons(level: Level, new: &str, older: &[(u32, String)]) -> Vec<String> {
    let compared = if level.transitive() {
        older
    } else {
        older.last().map(std::slice::from_ref).unwrap_or_default()
    };
    let mut found = Vec::new();
    for (number, old) in compared {
        if level.backward() {
            let what = format!("it can't read what version {number} wrote: ");
            found.extend(differences(new, old).into_iter().map(|d| what.clone() + &d));
        }
        if level.forward() {
            let what = format!("version {number} can't read what it writes: ");
            found.extend(differences(old, new).into_iter().map(|d| what.clone() + &d));
        }
    }
    found
}

/// Why a reader can't read all that a writer writes.
pub fn differences(reader: &str, writer: &str) -> Vec<String> {
    let parse = |what: &str, text: &str| {
        GeneralSchema::parse(text, &[]).map_err(|e| vec![format!("the {what}'s schema: {e}")])
    };
    match (parse("reader", reader), parse("writer", writer)) {
        (Ok(reader), Ok(writer)) => check_general(&reader, &writer)
            .iter()
            .map(ToString::to_string)
            .collect(),
        (Err(wrong), _) | (_, Err(wrong)) => wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &str) -> String {
        format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#)
    }

    #[test]
    fn each_level_asks_for_its_own() {
        let x = r#"{"name": "x", "type": "int"}"#;
        let base = record(x);
        let required = record(&format!(r#"{x}, {{"name": "y", "type": "int"}}"#));
        let optional = record(&format!(
            r#"{x}, {{"name": "y", "type": "int", "default": 0}}"#
        ));
        let older = |texts: &[&String]| -> Vec<(u32, String)> {
            (1..).zip(texts.iter().map(|t| (*t).clone())).collect()
        };
        let fits = |level: Level, new: &String, old: &[&String]| {
            reasons(level, new, &older(old)).is_empty()
        };
        use Level::{
            Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive, None,
        };
        // (new, older, the levels that take it)
        for (new, old, taken) in [
            // A new required field: old data can't be read, old readers skip it.
            (
                &required,
                vec![&base],
                vec![None, Forward, ForwardTransitive],
            ),
            // A required field goes: old readers miss it.
            (
                &base,
                vec![&required],
                vec![None, Backward, BackwardTransitive],
            ),
            (&optional, vec![&base], Level::ALL.to_vec()),
            // By way of an optional field a required one comes: only all versions together show it.
            (
                &required,
                vec![&base, &optional],
                vec![None, Backward, Forward, ForwardTransitive, Full],
            ),
            (&base, vec![], Level::ALL.to_vec()),
        ] {
            for level in Level::ALL {
                assert_eq!(
                    fits(level, new, &old),
                    taken.contains(&level),
                    "{level} {new} {old:?}"
                );
            }
        }
        let told = reasons(FullTransitive, &required, &older(&[&base]));
        assert!(
            told[0].contains("can't read what version 1 wrote"),
            "{told:?}"
        );
        assert!(told[0].contains('y'), "{told:?}");
    }
}
