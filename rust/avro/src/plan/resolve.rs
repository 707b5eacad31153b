//! Which column feeds which field.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::Fields;

use super::rules::{self, Place};
use super::{Certainty, Child, Extra, PlanOptions, PlanRow};
use crate::error::PlanError;
use crate::types::{RecordField, RecordType};

/// Resolves the top record; afterwards no declaration may be left unused.
pub(crate) fn record(
    columns: &Fields,
    record: &Arc<RecordType>,
    options: &PlanOptions,
) -> Result<(Vec<Child>, Vec<PlanRow>), PlanError> {
    let mut resolver = Resolver {
        options,
        used: BTreeMap::new(),
    };
    let mut rows = Vec::new();
    let children = resolver.fields(columns, record, "", "", &mut rows)?;
    for name in options.fields.keys() {
        if !resolver.used.contains_key(name) {
            let fields = list(record.fields.iter().map(|f| f.name.as_str()));
            return Err(PlanError::UnknownField {
                field: name.clone(),
                fields,
            });
        }
    }
    Ok((children, rows))
}

pub(super) struct Resolver<'a> {
    pub(super) options: &'a PlanOptions,
    /// Declarations that met their field.
    used: BTreeMap<String, ()>,
}

impl Resolver<'_> {
    /// Resolves the fields of a record to the columns (or struct children) beside them.
    pub(super) fn fields(
        &mut self,
        columns: &Fields,
        record: &RecordType,
        column_prefix: &str,
        field_prefix: &str,
        rows: &mut Vec<PlanRow>,
    ) -> Result<Vec<Child>, PlanError> {
        let index = Index::new(columns, record);
        let mut taken = vec![false; columns.len()];
        let mut children = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let path = format!("{field_prefix}{}", field.name);
            let declaration = self.options.fields.get(&path);
            if declaration.is_some() {
                self.used.insert(path.clone(), ());
            }
            let from = declaration.and_then(|d| d.from.as_deref());
            let Some(position) = index.find(columns, field, &path, from)? else {
                let Some(default) = &field.default else {
                    let columns = list(columns.iter().map(|c| c.name().as_str()));
                    return Err(PlanError::MissingColumn {
                        field: path,
                        columns,
                    });
                };
                rows.push(PlanRow {
                    column: None,
                    field: path,
                    arrow_type: String::new(),
                    avro_type: field.ty.to_string(),
                    rule: Certainty::Default,
                    may_reject: Vec::new(),
                });
                children.push(Child::Default(Arc::clone(default)));
                continue;
            };
            let column = &columns[position];
            taken[position] = true;
            let place = Place {
                column: format!("{column_prefix}{}", column.name()),
                zone: declaration.and_then(|d| d.zone.clone()),
                field: path,
                nullable: column.is_nullable(),
            };
            let node = rules::node(self, column.data_type(), &field.ty, &place, rows)?;
            children.push(Child::Column(position, node));
        }
        if self.options.extra == Extra::Refuse {
            let extra: Vec<_> = columns
                .iter()
                .zip(&taken)
                .filter(|(_, t)| !**t)
                .map(|(c, _)| c)
                .collect();
            if !extra.is_empty() {
                let columns = list(extra.iter().map(|c| c.name().as_str()));
                let columns = if column_prefix.is_empty() {
                    columns
                } else {
                    format!("{column_prefix}{{{columns}}}")
                };
                return Err(PlanError::ExtraColumns {
                    columns,
                    schema: record.name.clone(),
                });
            }
        }
        Ok(children)
    }
}

/// Columns by name and by lower-cased name, so that ten thousand of them are no square.
struct Index<'a> {
    exact: BTreeMap<&'a str, Vec<usize>>,
    folded: BTreeMap<String, Vec<usize>>,
    /// Columns that are some field's by its very name: no alias and no other case takes them.
    reserved: Vec<bool>,
}

impl<'a> Index<'a> {
    fn new(columns: &'a Fields, record: &RecordType) -> Self {
        let mut exact: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut folded: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, column) in columns.iter().enumerate() {
            exact.entry(column.name()).or_default().push(i);
            folded
                .entry(column.name().to_lowercase())
                .or_default()
                .push(i);
        }
        let mut reserved = vec![false; columns.len()];
        for field in &record.fields {
            for &i in exact.get(field.name.as_str()).into_iter().flatten() {
                reserved[i] = true;
            }
        }
        Self {
            exact,
            folded,
            reserved,
        }
    }

    fn find(
        &self,
        columns: &Fields,
        field: &RecordField,
        path: &str,
        from: Option<&str>,
    ) -> Result<Option<usize>, PlanError> {
        let one = |found: &[usize]| match found {
            [] => Ok(None),
            [i] => Ok(Some(*i)),
            several => Err(PlanError::Ambiguous {
                field: path.to_owned(),
                columns: list(several.iter().map(|i| columns[*i].name().as_str())),
            }),
        };
        let by_name = |name: &str| self.exact.get(name).map_or(&[][..], Vec::as_slice);
        if let Some(from) = from {
            return one(by_name(from))?
                .map(Some)
                .ok_or_else(|| PlanError::UnknownColumn {
                    field: path.to_owned(),
                    from: from.to_owned(),
                    columns: list(columns.iter().map(|c| c.name().as_str())),
                });
        }
        if let Some(found) = one(by_name(&field.name))? {
            return Ok(Some(found));
        }
        let free = |found: &[usize]| {
            found
                .iter()
                .copied()
                .filter(|i| !self.reserved[*i])
                .collect::<Vec<_>>()
        };
        let aliased: Vec<usize> = field
            .aliases
            .iter()
            .flat_map(|alias| free(by_name(alias)))
            .collect();
        if let Some(found) = one(&aliased)? {
            return Ok(Some(found));
        }
        one(&free(
            self.folded
                .get(&field.name.to_lowercase())
                .map_or(&[][..], Vec::as_slice),
        ))
    }
}

/// Names for a message, not more than a reader can take in.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return "(none)".to_owned();
    }
    let shown = names
        .iter()
        .take(40)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > 40 {
        format!("{shown} and {} more", names.len() - 40)
    } else {
        shown
    }
}
