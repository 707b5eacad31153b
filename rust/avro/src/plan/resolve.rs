//! Which column feeds which field.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::Fields;

use super::rules::{self, Place, Uses};
use super::{Certainty, Child, Extra, FieldDeclaration, Mode, PlanOptions, PlanRow};
use crate::error::PlanError;
use crate::temporal::Zone;
use crate::types::{RecordField, RecordType};

/// Resolves the top record; afterwards no declaration may be left unused.
pub(crate) fn record(
    columns: &Fields,
    record: &Arc<RecordType>,
    options: &PlanOptions,
) -> Result<(Vec<Child>, Vec<PlanRow>), PlanError> {
    let mut resolver = Resolver {
        options,
        met: BTreeSet::new(),
    };
    let mut rows = Vec::new();
    let children = resolver.fields(columns, record, "", "", &mut rows)?;
    if let Some(name) = options
        .fields
        .keys()
        .find(|name| !resolver.met.contains(*name))
    {
        return Err(PlanError::UnknownField {
            field: name.clone(),
            fields: list(record.fields.iter().map(|f| f.name.as_str())),
        });
    }
    if options.mode == Mode::Strict {
        rows.iter().try_for_each(exact)?;
    }
    Ok((children, rows))
}

/// Refuses a rule that may reject or change a value.
fn exact(row: &PlanRow) -> Result<(), PlanError> {
    let may = match row.rule {
        Certainty::Exact | Certainty::Default => return Ok(()),
        Certainty::Checked => row.may_reject.join(", "),
        Certainty::Lossy => row.declared.join(", "),
    };
    Err(PlanError::NotExact {
        column: row.column.clone().unwrap_or_default(),
        field: row.field.clone(),
        pair: format!("{} to {}", row.arrow_type, row.avro_type),
        may,
    })
}

pub(super) struct Resolver<'a> {
    options: &'a PlanOptions,
    /// Declarations that met their field.
    met: BTreeSet<String>,
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
        let from = |field: &RecordField| {
            let said = self
                .options
                .fields
                .get(&format!("{field_prefix}{}", field.name))?;
            said.from.as_deref()
        };
        let index = Index::new(columns, record, from);
        let mut taken: Vec<Option<String>> = vec![None; columns.len()];
        let mut children = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let path = format!("{field_prefix}{}", field.name);
            let said = self.options.fields.get(&path);
            if said.is_some() {
                self.met.insert(path.clone());
            }
            let from = said.and_then(|said| said.from.as_deref());
            let Some(position) = index.find(field, &path, from)? else {
                rows.push(default_row(columns, field, &path, said)?);
                children.extend(field.default.clone().map(Child::Default));
                continue;
            };
            let column = &columns[position];
            if let Some(first) = taken[position].replace(path.clone()) {
                return Err(PlanError::TakenTwice {
                    column: format!("{column_prefix}{}", column.name()),
                    first,
                    second: path,
                });
            }
            let place = place(
                field,
                said,
                format!("{column_prefix}{}", column.name()),
                path,
            )?;
            let place = Place {
                nullable: column.is_nullable(),
                ..place
            };
            let (node, uses) = rules::node(self, column.data_type(), &field.ty, &place, rows)?;
            useless(&place, uses, column.data_type(), field)?;
            children.push(Child::Column(position, node));
        }
        if self.options.extra == Extra::Refuse {
            let mut extra = columns.iter().zip(&taken).filter(|(_, t)| t.is_none());
            if let Some((first, _)) = extra.next() {
                let names = std::iter::once(first).chain(extra.map(|(column, _)| column));
                let columns = list(names.map(|column| column.name().as_str()));
                return Err(PlanError::ExtraColumns {
                    columns: if column_prefix.is_empty() {
                        columns
                    } else {
                        format!("{column_prefix}{{{columns}}}")
                    },
                    schema: record.name.clone(),
                });
            }
        }
        Ok(children)
    }
}

/// The field of a column, with what is declared for it.
fn place(
    field: &RecordField,
    said: Option<&FieldDeclaration>,
    column: String,
    path: String,
) -> Result<Place, PlanError> {
    let said = said.cloned().unwrap_or_default();
    let zone = match &said.zone {
        None => None,
        Some(zone) => Some(Zone::parse(zone).ok_or_else(|| PlanError::BadZone {
            field: path.clone(),
            zone: zone.clone(),
        })?),
    };
    let useless = |why: &str| PlanError::Useless {
        field: path.clone(),
        declaration: "null",
        why: why.to_owned(),
    };
    let null = match (said.null, &field.default) {
        (None, _) => None,
        (Some(_), None) => return Err(useless("the field has no default in the schema")),
        (Some(_), Some(default)) if field.ty.is_null(default) => {
            return Err(useless("the field's default is null"));
        }
        (Some(_), Some(default)) => Some(Arc::clone(default)),
    };
    Ok(Place {
        column,
        field: path,
        nullable: true,
        zone,
        is_member: false,
        null,
        said,
    })
}

/// The line of a field without a column.
fn default_row(
    columns: &Fields,
    field: &RecordField,
    path: &str,
    said: Option<&FieldDeclaration>,
) -> Result<PlanRow, PlanError> {
    if field.default.is_none() {
        return Err(PlanError::MissingColumn {
            field: path.to_owned(),
            columns: list(columns.iter().map(|c| c.name().as_str())),
        });
    }
    let declared = said.map_or(Uses::default(), Uses::declared);
    if let Some(declaration) = declared.names().next() {
        return Err(PlanError::Useless {
            field: path.to_owned(),
            declaration,
            why: "no column feeds the field".to_owned(),
        });
    }
    Ok(PlanRow {
        column: None,
        field: path.to_owned(),
        arrow_type: String::new(),
        avro_type: field.ty.to_string(),
        rule: Certainty::Default,
        may_reject: Vec::new(),
        declared: Vec::new(),
    })
}

/// Refuses what is declared and no rule follows.
fn useless(
    place: &Place,
    uses: Uses,
    arrow: &arrow_schema::DataType,
    field: &RecordField,
) -> Result<(), PlanError> {
    let declared = Uses::declared(&place.said);
    match declared.without(uses).names().next() {
        None => Ok(()),
        Some(declaration) => Err(PlanError::Useless {
            field: place.field.clone(),
            declaration,
            why: format!("{arrow} becomes {} without it", field.ty),
        }),
    }
}

/// Columns by name and by lower-cased name, so that ten thousand of them are no square.
struct Index<'a> {
    columns: &'a Fields,
    exact: BTreeMap<&'a str, Vec<usize>>,
    folded: BTreeMap<String, Vec<usize>>,
    /// Columns that are some field's by its very name or by declaration: no alias and no other case takes them.
    reserved: Vec<bool>,
}

impl<'a> Index<'a> {
    fn new<'f>(
        columns: &'a Fields,
        record: &'f RecordType,
        from: impl Fn(&'f RecordField) -> Option<&'f str>,
    ) -> Self {
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
            let name = from(field).unwrap_or(&field.name);
            for &i in exact.get(name).into_iter().flatten() {
                reserved[i] = true;
            }
        }
        Self {
            columns,
            exact,
            folded,
            reserved,
        }
    }

    /// By declaration; else by name, by alias, and by either in another case.
    fn find(
        &self,
        field: &RecordField,
        path: &str,
        from: Option<&str>,
    ) -> Result<Option<usize>, PlanError> {
        let named = |name: &str| self.exact.get(name).map_or(&[][..], Vec::as_slice);
        if let Some(from) = from {
            return match self.one(named(from), path)? {
                Some(found) => Ok(Some(found)),
                None => Err(PlanError::UnknownColumn {
                    field: path.to_owned(),
                    from: from.to_owned(),
                    columns: list(self.columns.iter().map(|c| c.name().as_str())),
                }),
            };
        }
        if let Some(found) = self.one(named(&field.name), path)? {
            return Ok(Some(found));
        }
        let aliased = field.aliases.iter().flat_map(|alias| named(alias));
        if let Some(found) = self.one(&self.free(aliased), path)? {
            return Ok(Some(found));
        }
        let names = std::iter::once(&field.name).chain(&field.aliases);
        let folded = names
            .filter_map(|name| self.folded.get(&name.to_lowercase()))
            .flatten();
        self.one(&self.free(folded), path)
    }

    /// Each once, without those that belong to another field.
    fn free<'i>(&self, found: impl Iterator<Item = &'i usize>) -> Vec<usize> {
        let free: BTreeSet<usize> = found.copied().filter(|i| !self.reserved[*i]).collect();
        free.into_iter().collect()
    }

    fn one(&self, found: &[usize], path: &str) -> Result<Option<usize>, PlanError> {
        match found {
            [] => Ok(None),
            [i] => Ok(Some(*i)),
            several => Err(PlanError::Ambiguous {
                field: path.to_owned(),
                columns: list(several.iter().map(|i| self.columns[*i].name().as_str())),
            }),
        }
    }
}

/// Names for a message, not more than a reader can take in.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 40;
    let names: Vec<_> = names.collect();
    match names.len() {
        0 => "(none)".to_owned(),
        n if n <= SHOWN => names.join(", "),
        n => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
    }
}
