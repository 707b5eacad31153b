//! The rules: what becomes of a pair (Arrow type, Avro type). Here are unions and what nests; the rest is in
//! [`super::scalars`] and [`super::times`].

use std::sync::Arc;

use arrow_schema::DataType as A;

use super::refusals::{check_supported, impossible};
use super::resolve::Resolver;
use super::{Branch, Certainty, FieldDeclaration, Lossy, Node, PlanRow, Rule, members};
use super::{scalars, times};
use crate::error::PlanError;
use crate::reasons::{NAN, NULL};
use crate::temporal::Zone;
use crate::types::AvroType as V;

/// Where a pair was met, and what is declared for it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) column: String,
    pub(super) field: String,
    /// Whether the Arrow field may hold nulls.
    pub(super) nullable: bool,
    /// The zone declared.
    pub(super) zone: Option<Zone>,
    /// Whether it is one of a union's members, of which all but one are null.
    pub(super) is_member: bool,
    /// What stands for a null, if that is declared.
    pub(super) null: Option<Arc<[u8]>>,
    pub(super) said: FieldDeclaration,
}

impl Place {
    /// A place inside this one, to which its declarations apply, but for that of nulls: the default is the field's.
    pub(super) fn inner(&self, suffix: &str, nullable: bool) -> Self {
        Self {
            column: format!("{}{suffix}", self.column),
            field: format!("{}{suffix}", self.field),
            nullable,
            is_member: false,
            null: None,
            ..self.clone()
        }
    }
}

/// Which declarations there are, or which a rule follows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Uses {
    pub(super) zone: bool,
    pub(super) unit: bool,
    pub(super) nan: bool,
    pub(super) null: bool,
    pub(super) lossy: bool,
}

impl Uses {
    const NAMES: [&'static str; 5] = ["zone", "unit", "nan", "null", "lossy"];

    fn flags(self) -> [bool; 5] {
        [self.zone, self.unit, self.nan, self.null, self.lossy]
    }

    fn of([zone, unit, nan, null, lossy]: [bool; 5]) -> Self {
        Self {
            zone,
            unit,
            nan,
            null,
            lossy,
        }
    }

    fn zip(self, other: Self, f: impl Fn(bool, bool) -> bool) -> Self {
        let (a, b) = (self.flags(), other.flags());
        Self::of(std::array::from_fn(|i| f(a[i], b[i])))
    }

    pub(super) fn declared(said: &FieldDeclaration) -> Self {
        Self {
            zone: said.zone.is_some(),
            unit: said.unit.is_some(),
            nan: said.nan.is_some(),
            null: said.null.is_some(),
            lossy: said.lossy.is_some(),
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a || b)
    }

    pub(super) fn without(self, other: Self) -> Self {
        self.zip(other, |a, b| a && !b)
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let set = Self::NAMES.into_iter().zip(self.flags());
        set.filter_map(|(name, set)| set.then_some(name))
    }
}

/// A rule, what it may reject (nothing means that it is exact), and the declarations that it follows.
#[derive(Debug)]
pub(super) struct Ruling {
    pub(super) rule: Rule,
    pub(super) may_reject: Vec<String>,
    pub(super) uses: Uses,
}

impl Ruling {
    pub(super) fn exact(rule: Rule) -> Self {
        Self::checked(rule, &[])
    }

    pub(super) fn checked(rule: Rule, reasons: &[&str]) -> Self {
        Self {
            rule,
            may_reject: reasons.iter().map(|r| (*r).to_owned()).collect(),
            uses: Uses::default(),
        }
    }

    /// A rule that rejects what is too fine, `loss`, unless a loss is declared; and `others` in any case.
    pub(super) fn fitted(
        place: &Place,
        rule: impl FnOnce(Option<Lossy>) -> Rule,
        loss: &str,
        others: &[&str],
    ) -> Self {
        let mut ruling = Self::checked(rule(place.said.lossy), others);
        if place.said.lossy.is_none() {
            ruling.may_reject.insert(0, loss.to_owned());
        }
        ruling.uses.lossy = true;
        ruling
    }
}

/// Resolves one column to one type, unions included, and describes it in `rows`.
pub(super) fn node(
    resolver: &mut Resolver<'_>,
    arrow: &A,
    avro: &V,
    place: &Place,
    rows: &mut Vec<PlanRow>,
) -> Result<(Node, Uses), PlanError> {
    check_supported(arrow, place)?;
    let mut nested = Vec::new();
    let (branch, mut ruling) = match avro {
        V::Union(branches) => union(resolver, arrow, avro, branches, place, &mut nested)?,
        _ => (
            Branch::Bare,
            rule(resolver, arrow, avro, place, &mut nested)?,
        ),
    };
    let takes_null = avro.is_nullable() || place.null.is_some() || place.is_member;
    ruling.may_reject.retain(|reason| reason != NULL);
    if !takes_null && (place.nullable || *arrow == A::Null) {
        ruling.may_reject.insert(0, NULL.to_owned());
    }
    let mut own = ruling.uses;
    own.null = place.null.is_some();
    // What items and values of this follow is theirs.
    let nan_is_null = place.said.nan.is_some() && values(arrow).is_floating();
    if nan_is_null {
        if !takes_null {
            return Err(PlanError::Useless {
                field: place.field.clone(),
                declaration: "nan",
                why: "the field takes no null".to_owned(),
            });
        }
        ruling.may_reject.retain(|reason| reason != NAN);
        own.nan = true;
    }
    rows.push(row(arrow, avro, place, &ruling, own));
    rows.append(&mut nested);
    let node = Node {
        path: place.column.clone(),
        branch,
        rule: ruling.rule,
        nan_is_null,
        null: place.null.clone(),
    };
    Ok((node, own))
}

/// The line that describes a node.
fn row(arrow: &A, avro: &V, place: &Place, ruling: &Ruling, uses: Uses) -> PlanRow {
    // What a list or a map follows, its items do, and have a line of their own.
    let uses = if matches!(
        ruling.rule,
        Rule::Array(_) | Rule::Map(..) | Rule::Members(..)
    ) {
        Uses {
            null: uses.null,
            ..Uses::default()
        }
    } else {
        uses
    };
    let undeclared = uses.without(Uses::declared(&place.said));
    let followed = uses.without(undeclared);
    let rule = if !ruling.may_reject.is_empty() {
        Certainty::Checked
    } else if followed.lossy || followed.nan || followed.null {
        Certainty::Lossy
    } else {
        Certainty::Exact
    };
    let said = serde_json::to_value(&place.said).unwrap_or_default();
    PlanRow {
        column: Some(place.column.clone()),
        field: place.field.clone(),
        arrow_type: arrow.to_string(),
        avro_type: avro.to_string(),
        rule,
        may_reject: ruling.may_reject.clone(),
        declared: followed
            .names()
            .map(|name| format!("{name} = {}", said[name]))
            .collect(),
    }
}

/// A branch number as its byte on the wire; unions of more than 64 branches are refused when a schema is parsed.
pub(super) fn number(index: usize) -> u8 {
    debug_assert!(index < crate::schema::MAX_UNION_BRANCHES);
    (index as u8) << 1
}

/// A union: of a struct of members, each its branch; of another column, one branch for all of it.
fn union(
    resolver: &mut Resolver<'_>,
    arrow: &A,
    avro: &V,
    branches: &[V],
    place: &Place,
    nested: &mut Vec<PlanRow>,
) -> Result<(Branch, Ruling), PlanError> {
    let null = branches.iter().position(|b| *b == V::Null).map(number);
    if let Some(members) = members::of(arrow, branches) {
        let ruling = members::rule(resolver, &members, null, place, nested)?;
        return Ok((Branch::Bare, ruling));
    }
    let (value, ruling) = choose(resolver, arrow, avro, branches, place, nested)?;
    let value = number(value);
    Ok((Branch::Union { null, value }, ruling))
}

/// The branch for a column: the first that fits exactly, else the first that fits with checks or a declared loss.
fn choose(
    resolver: &mut Resolver<'_>,
    arrow: &A,
    avro: &V,
    branches: &[V],
    place: &Place,
    nested: &mut Vec<PlanRow>,
) -> Result<(usize, Ruling), PlanError> {
    let mut best: Option<(usize, Ruling, Vec<PlanRow>)> = None;
    let mut refusal = None;
    for (index, branch) in branches.iter().enumerate() {
        if *branch == V::Null && *arrow != A::Null {
            continue;
        }
        let mut rows = Vec::new();
        match rule(resolver, arrow, branch, place, &mut rows) {
            Ok(ruling) => {
                let exact = ruling.may_reject.is_empty()
                    && !ruling.uses.lossy
                    && rows.iter().all(|row| row.rule == Certainty::Exact);
                if best.is_none() || exact {
                    best = Some((index, ruling, rows));
                }
                if exact {
                    break;
                }
            }
            // What would help one branch is the best there is to say.
            Err(error) => match refusal {
                Some(ref said) if !matches!(said, PlanError::Impossible { .. }) => {}
                Some(_) if matches!(error, PlanError::Impossible { .. }) => {}
                _ => refusal = Some(error),
            },
        }
    }
    let several = branches.iter().filter(|b| **b != V::Null).count() > 1;
    match (best, refusal) {
        (Some((index, ruling, rows)), _) => {
            nested.extend(rows);
            Ok((index, ruling))
        }
        (None, Some(error)) if !several || !matches!(error, PlanError::Impossible { .. }) => {
            Err(error)
        }
        (None, _) => Err(impossible(arrow, avro, place)),
    }
}

fn rule(
    resolver: &mut Resolver<'_>,
    arrow: &A,
    avro: &V,
    place: &Place,
    rows: &mut Vec<PlanRow>,
) -> Result<Ruling, PlanError> {
    check_supported(arrow, place)?;
    if let A::Dictionary(_, values) = arrow {
        return rule(resolver, values, avro, place, rows);
    }
    match (avro, arrow) {
        (V::Null, A::Null) => Ok(Ruling::exact(Rule::Null)),
        // A column that is all null: every row of a required field will be rejected, which is the truth about it.
        (_, A::Null) => Ok(Ruling::checked(Rule::NoValue, &[NULL])),
        (V::Array(items), A::List(f) | A::LargeList(f) | A::FixedSizeList(f, _)) => {
            let place = place.inner("[]", f.is_nullable());
            let (node, uses) = node(resolver, f.data_type(), items, &place, rows)?;
            let ruling = Ruling::exact(Rule::Array(Box::new(node)));
            Ok(Ruling { uses, ..ruling })
        }
        (V::Record(record), A::Struct(fields)) => {
            let (column, field) = (format!("{}.", place.column), format!("{}.", place.field));
            let children = resolver.fields(fields, record, &column, &field, rows)?;
            Ok(Ruling::exact(Rule::Record(children)))
        }
        (V::Map(values), A::Map(entries, _)) => {
            let A::Struct(pair) = entries.data_type() else {
                return Err(impossible(arrow, avro, place));
            };
            let [key, value] = pair.as_ref() else {
                return Err(impossible(arrow, avro, place));
            };
            let at_key = Place {
                zone: None,
                said: FieldDeclaration::default(),
                ..place.inner("{key}", key.is_nullable())
            };
            let (keys, _) = node(resolver, key.data_type(), &V::String, &at_key, rows)?;
            let at_value = place.inner("{}", value.is_nullable());
            let (values, uses) = node(resolver, value.data_type(), values, &at_value, rows)?;
            // Exact by its type, as a decimal is whose digits keep to their precision: no maker of maps repeats a key,
            // though Arrow does not look. The gate does.
            let ruling = Ruling::exact(Rule::Map(Box::new(keys), Box::new(values)));
            Ok(Ruling { uses, ..ruling })
        }
        _ => match scalars::rule(arrow, avro, place) {
            Some(ruling) => Ok(ruling),
            None => times::rule(arrow, avro, place)?.ok_or_else(|| impossible(arrow, avro, place)),
        },
    }
}

pub(crate) const fn is_text(arrow: &A) -> bool {
    matches!(arrow, A::Utf8 | A::LargeUtf8 | A::Utf8View)
}

pub(super) const fn is_bytes(arrow: &A) -> bool {
    matches!(
        arrow,
        A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_)
    )
}

/// The type of a dictionary's values, or the type itself.
fn values(arrow: &A) -> &A {
    match arrow {
        A::Dictionary(_, of) => values(of),
        plain => plain,
    }
}
