//! A schema whose types are in other subjects, made whole: each referenced type is put where it is first named.

use std::collections::HashMap;

use serde_json::Value;

/// Types that a reference defines, by full name, each already whole but for types of this very map.
type Definitions = HashMap<String, Value>;

/// Types that stand for themselves.
const PRIMITIVES: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];
/// Deeper schemas are no schemas that a person wrote.
const MAX_DEPTH: usize = 200;

/// Puts the definitions into `schema` where it names them first.
///
/// # Errors
/// If schemas are nested too deeply, which they also are when references go round.
fn inline(schema: &Value, definitions: &Definitions) -> Result<Value, String> {
    let mut inliner = Inliner {
        definitions,
        defined: Vec::new(),
    };
    inliner.schema(schema, "", 0)
}

/// As [`inline`], on texts: those referenced by the names that references give them.
///
/// # Errors
/// Also if a text is no JSON.
pub fn whole(schema: &str, referenced: &[(String, String)]) -> Result<String, String> {
    if referenced.is_empty() {
        return Ok(schema.to_owned());
    }
    let parse = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|e| format!("a schema is no JSON: {e}"))
    };
    let mut definitions = Definitions::new();
    for (name, text) in referenced {
        let definition = parse(text)?;
        let name = full_name(&definition).unwrap_or_else(|| name.clone());
        definitions.insert(name, definition);
    }
    inline(&parse(schema)?, &definitions).map(|value| value.to_string())
}

/// The full name of the type that a schema defines at its top, if it has one.
fn full_name(schema: &Value) -> Option<String> {
    let name = schema.get("name")?.as_str()?;
    let namespace = schema.get("namespace").and_then(Value::as_str);
    Some(join(name, namespace.unwrap_or_default()))
}

fn join(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn namespace_of(full: &str) -> &str {
    full.rsplit_once('.').map_or("", |(namespace, _)| namespace)
}

struct Inliner<'a> {
    definitions: &'a Definitions,
    /// Full names that were defined so far: they are named from then on.
    defined: Vec<String>,
}

impl Inliner<'_> {
    fn schema(&mut self, schema: &Value, namespace: &str, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("schemas are nested more than {MAX_DEPTH} deep"));
        }
        match schema {
            Value::String(name) if !PRIMITIVES.contains(&name.as_str()) => {
                self.named(name, namespace, depth)
            }
            Value::Array(branches) => branches
                .iter()
                .map(|branch| self.schema(branch, namespace, depth + 1))
                .collect(),
            Value::Object(_) => self.object(schema, namespace, depth),
            other => Ok(other.clone()),
        }
    }

    /// A name: of a type that was defined before, or one to put here.
    fn named(&mut self, name: &str, namespace: &str, depth: usize) -> Result<Value, String> {
        let full = join(name, namespace);
        let full = match self.definitions.contains_key(&full) {
            true => full,
            // A name without dots may also be one of no namespace.
            false => name.to_owned(),
        };
        match self.definitions.get(&full) {
            Some(definition) if !self.defined.contains(&full) => {
                self.schema(definition, "", depth + 1)
            }
            // A dot in front tells a name of no namespace from one of the namespace around it.
            Some(_) if !full.contains('.') && !namespace.is_empty() => {
                Ok(Value::String(format!(".{full}")))
            }
            Some(_) => Ok(Value::String(full)),
            None => Ok(Value::String(name.to_owned())),
        }
    }

    fn object(&mut self, schema: &Value, namespace: &str, depth: usize) -> Result<Value, String> {
        let mut made = schema.clone();
        let mut inner = namespace.to_owned();
        let kind = schema.get("type").and_then(Value::as_str);
        if matches!(kind, Some("record" | "error" | "enum" | "fixed"))
            && let Some(name) = schema.get("name").and_then(Value::as_str)
        {
            let own = schema.get("namespace").and_then(Value::as_str);
            let full = join(name, own.unwrap_or(namespace));
            namespace_of(&full).clone_into(&mut inner);
            // Told in full, since the place that a definition is put in may be of another namespace.
            let simple = full.rsplit('.').next().unwrap_or_default();
            made["name"] = Value::from(simple);
            made["namespace"] = Value::from(inner.as_str());
            self.defined.push(full);
        }
        for key in ["items", "values"] {
            if let Some(part) = schema.get(key) {
                made[key] = self.schema(part, &inner, depth + 1)?;
            }
        }
        match schema.get("type") {
            Some(part @ (Value::Object(_) | Value::Array(_))) => {
                made["type"] = self.schema(part, &inner, depth + 1)?;
            }
            Some(Value::String(name))
                if !matches!(
                    name.as_str(),
                    "record" | "error" | "enum" | "fixed" | "array" | "map"
                ) =>
            {
                made["type"] = self.schema(&Value::from(name.as_str()), &inner, depth + 1)?;
            }
            _ => {}
        }
        if let Some(Value::Array(fields)) = made.get_mut("fields") {
            for field in fields {
                if let Some(part) = field.get("type").cloned() {
                    field["type"] = self.schema(&part, &inner, depth + 1)?;
                }
            }
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kappaflow_avro::AvroSchema;
    use serde_json::json;

    fn address() -> Value {
        json!({"type": "record", "name": "Address", "namespace": "geo", "fields": [
            {"name": "street", "type": "string"},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["HOME", "WORK"]}},
        ]})
    }

    fn definitions(schemas: &[Value]) -> Definitions {
        let named = |s: &Value| (full_name(s).unwrap(), s.clone());
        schemas.iter().map(named).collect()
    }

    #[test]
    fn a_type_is_put_where_it_is_first_named() {
        let person = json!({"type": "record", "name": "Person", "namespace": "people", "fields": [
            {"name": "home", "type": ["null", "geo.Address"], "default": null},
            {"name": "work", "type": {"type": "array", "items": "geo.Address"}},
            {"name": "kinds", "type": {"type": "map", "values": "geo.Kind"}},
        ]});
        let whole = inline(&person, &definitions(&[address()])).unwrap();
        assert_eq!(whole["fields"][0]["type"][1]["name"], "Address");
        assert_eq!(whole["fields"][1]["type"]["items"], "geo.Address");
        let schema = AvroSchema::parse(&whole.to_string()).unwrap();
        assert_eq!(schema.full_name(), "people.Person");
        assert_eq!(schema.fields().len(), 3);
    }

    #[test]
    fn references_of_references_and_types_without_a_namespace() {
        let zip = json!({"type": "fixed", "name": "Zip", "size": 5});
        let place = json!({"type": "record", "name": "Place", "namespace": "geo", "fields": [
            {"name": "zip", "type": "Zip"},
            {"name": "flag", "type": "post.Flag"},
            {"name": "flags", "type": {"type": "array", "items": "post.Flag"}},
        ]});
        let flag = json!({"type": "enum", "name": "Flag", "namespace": "post", "symbols": ["A"]});
        let top = json!({"type": "record", "name": "Top", "fields": [
            {"name": "a", "type": "geo.Place"}, {"name": "b", "type": {"type": "Zip"}},
        ]});
        let whole = inline(&top, &definitions(&[zip, flag, place])).unwrap();
        let schema = AvroSchema::parse(&whole.to_string()).unwrap();
        assert_eq!(schema.fields().len(), 2);
    }

    #[test]
    fn what_is_not_referenced_stays() {
        let schema = json!({"type": "record", "name": "A", "namespace": "n", "fields": [
            {"name": "x", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
            {"name": "y", "type": {"type": "fixed", "name": "F", "size": 2}},
        ]});
        let whole = inline(&schema, &Definitions::new()).unwrap();
        let canonical = |s: &Value| AvroSchema::parse(&s.to_string()).unwrap().canonical();
        assert_eq!(canonical(&whole), canonical(&schema));
        assert_eq!(whole["fields"][0], schema["fields"][0]);
    }

    #[test]
    fn what_goes_round_or_down_without_end_is_refused() {
        let mut deep = json!("string");
        for _ in 0..300 {
            deep = json!({"type": "array", "items": deep});
        }
        let reason = inline(&deep, &Definitions::new()).unwrap_err();
        assert!(reason.contains("nested"), "{reason}");
    }
}
