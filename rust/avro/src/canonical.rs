//! Avro's Parsing Canonical Form, as the specification has it. apache-avro's keeps parts of logical types, and panics on
//! attributes of a user's that are named as its own.

use apache_avro::Schema;
use apache_avro::schema::{FixedSchema, InnerDecimalSchema, UuidSchema};

/// Names are ASCII words and dots, so that nothing needs escaping.
pub(crate) fn form(schema: &Schema) -> String {
    let mut out = String::new();
    push(schema, &mut out);
    out
}

fn push(schema: &Schema, out: &mut String) {
    let primitive = match schema {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int | Schema::Date | Schema::TimeMillis => "int",
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => "bytes",
        Schema::String | Schema::Uuid(UuidSchema::String) => "string",
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
            return push_fixed(fixed, out);
        }
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Bytes => "bytes",
            InnerDecimalSchema::Fixed(fixed) => return push_fixed(fixed, out),
        },
        Schema::Ref { name } => return out.push_str(&format!(r#""{}""#, name.fullname(None))),
        Schema::Array(array) => {
            out.push_str(r#"{"type":"array","items":"#);
            push(&array.items, out);
            return out.push('}');
        }
        Schema::Map(map) => {
            out.push_str(r#"{"type":"map","values":"#);
            push(&map.types, out);
            return out.push('}');
        }
        Schema::Union(union) => {
            return list(union.variants(), out, push);
        }
        Schema::Enum(e) => {
            let name = e.name.fullname(None);
            out.push_str(&format!(r#"{{"name":"{name}","type":"enum","symbols":"#));
            list(&e.symbols, out, |symbol, out| {
                out.push_str(&format!(r#""{symbol}""#));
            });
            return out.push('}');
        }
        Schema::Record(record) => {
            let name = record.name.fullname(None);
            out.push_str(&format!(r#"{{"name":"{name}","type":"record","fields":"#));
            list(&record.fields, out, |field, out| {
                out.push_str(&format!(r#"{{"name":"{}","type":"#, field.name));
                push(&field.schema, out);
                out.push('}');
            });
            return out.push('}');
        }
    };
    out.push_str(&format!(r#""{primitive}""#));
}

fn push_fixed(fixed: &FixedSchema, out: &mut String) {
    let (name, size) = (fixed.name.fullname(None), fixed.size);
    out.push_str(&format!(
        r#"{{"name":"{name}","type":"fixed","size":{size}}}"#
    ));
}

fn list<T>(items: &[T], out: &mut String, each: impl Fn(&T, &mut String)) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(']');
}
