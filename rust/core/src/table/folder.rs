//! The folder of a partition, as Hive and Spark name it: `data/day=2013-01-01/carrier=UA`. Readers that know such folders
//! find their way; what the values are, the table's log says.

use super::DATA;
use crate::snapshot::HIVE_NULL;

/// The folder of files with these values in these columns.
pub fn folder(names: &[String], values: &[Option<String>]) -> String {
    let mut path = DATA.to_owned();
    for (name, value) in names.iter().zip(values) {
        path.push('/');
        escape(name, &mut path);
        path.push('=');
        match value.as_deref() {
            None | Some("") => path.push_str(HIVE_NULL),
            Some(value) => escape(value, &mut path),
        }
    }
    path
}

/// Percent-encodes what a name of a folder, or of an object, had better not have.
fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.+@,".contains(c) {
            into.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            into.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_hives() {
        let names = ["day".to_owned(), "who".to_owned()];
        let of = |a: Option<&str>, b: Option<&str>| {
            folder(&names, &[a, b].map(|v| v.map(str::to_owned)))
        };
        assert_eq!(
            of(Some("2013-01-01"), Some("a/b=c%")),
            "data/day=2013-01-01/who=a%2Fb%3Dc%25"
        );
        let null = "__HIVE_DEFAULT_PARTITION__";
        assert_eq!(of(None, Some("")), format!("data/day={null}/who={null}"));
        assert_eq!(of(Some("é"), Some("..")), "data/day=é/who=..");
        assert_eq!(folder(&[], &[]), "data");
    }
}
