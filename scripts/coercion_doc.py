"""Write docs/coercion.md from the rules themselves, so that the page can't say other than the plan.

python scripts/coercion_doc.py           write it
python scripts/coercion_doc.py --check   exit 1 if it is not what would be written
"""

import sys
from pathlib import Path

from kappaflow import _native

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coercion.md"
INTRO = """\
# What a column may become

Rows enter a topic as what the schema says, exactly, or they don't enter it. Before the first row is read, a *plan* is
made of the table's columns and the schema's fields: one rule for each pair, and no rule is looked for again. A rule is

- **exact**: no value of the column's type can fail;
- **checked**: a value that can't be what the field says rejects its row, by row number, column, value and reason; the
  rows beside it are not touched;
- **impossible**: the plan is refused, naming both types and the way out.

## Rules of thumb

- A value is never changed on the way: `517.0` is the int 517, `517.5` rejects its row. Nothing wraps, is cut off, or
  turns null into 0. A null where the schema requires a value rejects its row.
- Text is read as what the field is, since warehouses export text: numbers (`517`, `517.0`, `5.17E2`), booleans (true or
  false, t or f, yes or no, y or n, 1 or 0, in any case), decimals, dates (`2013-01-31`), times (`05:00:00.25`),
  timestamps (RFC 3339, with a `T` or a space), uuids, symbols of enums. Spaces around a number or a date are passed
  over. A decimal number as text becomes the nearest float or double if that, written with as many digits, reads the
  same; so `0.1` passes, and `9007199254740993` doesn't.
- A timestamp without a zone says no instant. Declare the zone of its clocks, or use a local-timestamp; UTC is never
  assumed. In a zone whose clocks are set back and forward, an hour that came twice or never rejects its row.
- A timestamp that is finer than its field passes where nothing is lost: INT96 and nanoseconds of whole milliseconds do.
- A date is the midnight it begins with; a timestamp is a date where it is midnight.
- A dictionary is as its values are. A nullable column makes a rule checked where the field takes no null.
- Text that is not UTF-8, whatever its column's type says (Latin-1 in a warehouse's files), rejects its row where the
  field is a string, and is taken as it is where the field is bytes.
- A map whose key is there twice rejects its row: readers would keep one of the two values, and not the same one.
- A union takes the first branch that fits exactly, else the first that fits with checks or a declared loss. A union of
  several types takes a struct of `member0`, `member1`, …, one for each type that is not null, in order, as Spark has
  it: the one that holds a value is the branch; two reject their row.
- A struct becomes a record field by field, a list an array item by item, a map (of text) a map value by value.
- A duration in Avro is a struct of `months`, `days` and `millis` (UInt32), or an Arrow duration of whole milliseconds.

## Which column feeds a field

By `from`, if that is declared; else by name, by alias, and by name or alias in another case, if that is one column.
A field without a column takes the schema's default, or the plan is refused. Two columns that fit one field, a column
that two fields take, a declaration for a field that isn't there: each is refused by name. So are columns that no field
takes, unless `extra = "ignore"`. All this holds inside structs as well; a nested field is declared by its path, with
`[]` after a list and `{}` after a map.

## Declarations

What loses or substitutes anything happens only where a field declares it, and a declaration that its rule has no use
for is refused.

    [schema]
    mode = "checked"                   # or "strict": exact rules only, or the plan is refused
    extra = "ignore"                   # columns that the schema lacks

    [schema.fields.created]
    from = "created_at"                # the column is named otherwise
    zone = "Europe/Berlin"             # UTC, +01:00, or a name: what its clocks were set to
    lossy = "truncate"                 # microseconds to the field's milliseconds

    [schema.fields.price]
    lossy = "round"                    # a float to a decimal; digits that the field hasn't room for
    nan = "null"                       # NaN is taken as null

    [schema.fields."legs[].delay"]
    unit = "s"                         # a duration, in a field that is a number

    [schema.fields.carrier]
    null = "default"                   # null is taken as the schema's default

- `lossy`: `round` goes to the nearest, a half away from zero (of a time: to the later); `truncate` cuts numbers towards
  zero and times to the earlier. Whatever is out of range still rejects its row. Floats are only ever rounded; a float
  becomes a decimal by the fewest digits that read back as it.
- `zone`: of timestamps and dates without a zone, and of text that names none, bound for an instant; or the zone in
  which an instant is read as a local timestamp.
- `unit`: of a duration bound for an int or a long.
- `nan`: `null` makes a float that is NaN null.
- `null`: `default` makes a null the schema's default of the field, as a missing column is.

What is declared for a list or a map holds for its items. `mode = "strict"` refuses a plan in which any value could be
rejected or changed, declared or not.

## The matrix

A rule with a key beside it needs that declaration. Arrow types that are in no line of a table have no rule there; those
of which the rules say the same share a line. `Timestamp(ms)` has no zone, `Timestamp(ms, zone)` has one; columns and
fields here hold no nulls.

*(What follows is written from the rules by `scripts/coercion_doc.py`.)*
"""


def page() -> str:
    """The whole page."""
    return INTRO + "\n" + _native.coercion_matrix()


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        if PAGE.read_text() != text:
            sys.exit(f"{PAGE.name} is not what the rules say: run python scripts/coercion_doc.py")
    else:
        PAGE.write_text(text)
