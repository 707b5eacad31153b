//! Unions of several types, as Spark writes them: a struct of `member0`, `member1`, …, one for each branch that is not
//! null, in order. At most one of them holds a value.

use arrow_schema::{DataType as A, FieldRef};

use super::resolve::Resolver;
use super::rules::{self, Place, Ruling, Uses, number};
use super::{Branch, PlanRow, Rule};
use crate::error::PlanError;
use crate::reasons::{NO_MEMBER, SEVERAL};
use crate::types::AvroType as V;

/// A member: its column, the number of its branch, and the type.
pub(super) type Member<'a> = (&'a FieldRef, usize, &'a V);

/// The members of a struct, if it is one for this union.
pub(super) fn of<'a>(arrow: &'a A, branches: &'a [V]) -> Option<Vec<Member<'a>>> {
    let A::Struct(columns) = arrow else {
        return None;
    };
    let values = branches.iter().enumerate().filter(|(_, b)| **b != V::Null);
    let members: Vec<_> = columns
        .iter()
        .zip(values.clone())
        .map(|(column, (index, branch))| (column, index, branch))
        .collect();
    let named = columns
        .iter()
        .enumerate()
        .all(|(i, column)| *column.name() == format!("member{i}"));
    (named
        && members.len() == columns.len()
        && members.len() == values.count()
        && members.len() > 1)
        .then_some(members)
}

pub(super) fn rule(
    resolver: &mut Resolver<'_>,
    members: &[Member<'_>],
    null: Option<u8>,
    place: &Place,
    rows: &mut Vec<PlanRow>,
) -> Result<Ruling, PlanError> {
    let mut nodes = Vec::with_capacity(members.len());
    let mut uses = Uses::default();
    for (column, index, branch) in members {
        // A null says that the value is another member's, so it is no reason to reject.
        let place = Place {
            is_member: true,
            ..place.inner(&format!(".{}", column.name()), false)
        };
        let (mut node, used) = rules::node(resolver, column.data_type(), branch, &place, rows)?;
        let value = number(*index);
        // The null branch is never written for a member, but says that a null is fine.
        node.branch = Branch::Union {
            null: Some(value),
            value,
        };
        uses = uses.and(used);
        nodes.push(node);
    }
    let mut reasons = vec![SEVERAL];
    if null.is_none() {
        reasons.push(NO_MEMBER);
    }
    let ruling = Ruling::checked(Rule::Members(nodes, null), &reasons);
    Ok(Ruling { uses, ..ruling })
}
