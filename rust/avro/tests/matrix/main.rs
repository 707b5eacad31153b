//! Every cell of the coercion matrix: what its rule is, values that pass and what apache-avro reads of them, values
//! that must not and why, and the refusal where there is no rule. A cell without an entry, or with two, fails.

#[path = "../common/mod.rs"]
mod common;

mod families;
mod floats;
mod instants;
mod literals;
mod locals;
mod nested;
mod numbers;
mod run;
mod text;
mod times;

use std::collections::BTreeMap;

use kappaflow_avro::matrix::{arrow_types, avro_families};

/// What is expected of cells: those of each Arrow type with each Avro type.
pub struct Cells {
    pub arrow: &'static [&'static str],
    pub avro: &'static [&'static str],
    pub expect: Expect,
}

pub enum Expect {
    /// The plan is refused, and says so.
    Impossible(&'static str),
    Rule(Rule),
}

/// Values are in the words of [`literals`].
pub struct Rule {
    /// The declaration without which there is no rule.
    pub needs: Option<&'static str>,
    /// Values, and what Avro has of them. No value may fail if none is listed that must.
    pub pass: &'static [(&'static str, &'static str)],
    /// Values, and how the reason of their reject begins.
    pub fail: &'static [(&'static str, &'static str)],
}

pub const fn rule(
    pass: &'static [(&'static str, &'static str)],
    fail: &'static [(&'static str, &'static str)],
) -> Expect {
    needs_rule(None, pass, fail)
}

pub const fn needs(
    key: &'static str,
    pass: &'static [(&'static str, &'static str)],
    fail: &'static [(&'static str, &'static str)],
) -> Expect {
    needs_rule(Some(key), pass, fail)
}

const fn needs_rule(
    needs: Option<&'static str>,
    pass: &'static [(&'static str, &'static str)],
    fail: &'static [(&'static str, &'static str)],
) -> Expect {
    Expect::Rule(Rule { needs, pass, fail })
}

pub const fn cells(
    arrow: &'static [&'static str],
    avro: &'static [&'static str],
    expect: Expect,
) -> Cells {
    Cells {
        arrow,
        avro,
        expect,
    }
}

pub const fn no(
    arrow: &'static [&'static str],
    avro: &'static [&'static str],
    way_out: &'static str,
) -> Cells {
    cells(arrow, avro, Expect::Impossible(way_out))
}

#[test]
fn every_cell() {
    let table = [
        numbers::TABLE,
        floats::TABLE,
        text::TABLE,
        times::TABLE,
        instants::TABLE,
        locals::TABLE,
        nested::TABLE,
    ];
    let mut entries: BTreeMap<(&str, &str), Vec<&Expect>> = BTreeMap::new();
    for group in table.iter().flat_map(|table| table.iter()) {
        for arrow in group.arrow {
            for avro in group.avro {
                entries
                    .entry((arrow, avro))
                    .or_default()
                    .push(&group.expect);
            }
        }
    }
    let mut wrong = Vec::new();
    for (arrow, arrow_type) in arrow_types() {
        for (avro, json) in avro_families().into_iter().flat_map(|(_, types)| types) {
            let found = entries.remove(&(arrow, avro)).unwrap_or_default();
            let [expect] = found.as_slice() else {
                wrong.push(format!("{arrow} → {avro}: {} entries", found.len()));
                continue;
            };
            if let Err(why) = run::cell(&arrow_type, avro, json, expect) {
                wrong.push(format!("{arrow} → {avro}: {why}"));
            }
        }
    }
    wrong.extend(entries.keys().map(|key| format!("{key:?} is no cell")));
    assert!(
        wrong.is_empty(),
        "{} cells:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
