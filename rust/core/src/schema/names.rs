//! Names that Avro takes: `[A-Za-z_][A-Za-z0-9_]*`, each once.

use std::collections::BTreeSet;

/// Whether a name is one by Avro's rules.
pub fn is_valid(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The nearest valid name.
pub fn sanitized(name: &str) -> String {
    let mut out: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if !is_valid(&out) {
        out.insert(0, '_');
    }
    out
}

/// Names given out so far. Readers that fold case must be able to tell them apart too.
#[derive(Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// Takes a name as it is.
    pub fn reserve(&mut self, name: &str) {
        self.0.insert(name.to_lowercase());
    }

    /// A name like this one that nobody has: itself, or with a number behind it.
    pub fn free(&mut self, like: &str) -> String {
        let numbered = (2_u64..).map(|n| format!("{like}_{n}"));
        let mut candidates = std::iter::once(like.to_owned()).chain(numbered);
        candidates
            .find(|name| self.0.insert(name.to_lowercase()))
            .unwrap_or_else(|| like.to_owned())
    }
}

/// A field's name for each column, in order. Valid names are kept; the others give way to them.
pub fn of_fields<'a>(columns: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut names = Names::default();
    columns
        .clone()
        .filter(|c| is_valid(c))
        .for_each(|c| names.reserve(c));
    columns
        .map(|column| {
            if is_valid(column) {
                column.to_owned()
            } else {
                names.free(&sanitized(column))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn valid_names_are_kept_and_others_give_way() {
        let columns = ["a b", "a_b", "1st", "", "prix €", "A-B"];
        let names = of_fields(columns.into_iter());
        assert_eq!(names, ["a_b_2", "a_b", "_1st", "_", "prix__", "A_B_3"]);
    }

    proptest! {
        #[test]
        fn every_name_is_valid_and_a_name_of_one_column(columns in prop::collection::btree_set("[aA_ 1é-]{0,3}", 0..12)) {
            let names = of_fields(columns.iter().map(String::as_str));
            prop_assert!(names.iter().all(|n| is_valid(n)), "{:?}", names);
            let distinct: BTreeSet<&String> = names.iter().collect();
            prop_assert_eq!(distinct.len(), columns.len());
        }
    }
}
