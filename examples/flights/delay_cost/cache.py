"""What the service knows by heart: airports, planes, airlines and weather, read once when it starts.

The tables are CSV files with a header line; ``NA`` and the empty string mean *unknown*. Measured values are
kept as integers in fixed units, so that no price depends on how floating point rounds.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

DEFAULT_DATA_DIR = Path(__file__).resolve().parent.parent / "data" / "lookup"


class CacheError(Exception):
    """A lookup table is missing or cannot be read. The message names the file, the line and what to do."""


@dataclass(frozen=True, slots=True)
class Plane:
    """An aircraft. ``built`` is its year of manufacture, None where the register does not say."""

    seats: int
    built: int | None


@dataclass(frozen=True, slots=True)
class Airport:
    """An airport. ``utc_offset_hours`` is its standard time's offset from UTC."""

    utc_offset_hours: int


@dataclass(frozen=True, slots=True)
class Weather:
    """One hour at one airport: visibility, gusts and rain in hundredths of a mile, of mph, of an inch.

    A measurement that was not taken is None.
    """

    visibility_hundredths: int | None
    gust_hundredths: int | None
    rain_hundredths: int | None


@dataclass(frozen=True, slots=True)
class Cache:
    """The four tables, keyed as the rules ask for them. Never changed once loaded: threads may share it."""

    airports: dict[str, Airport]
    planes: dict[str, Plane]
    airlines: dict[str, str]
    weather: dict[tuple[str, int], Weather]
    """By origin and hour, the hour counted from 1970-01-01T00:00Z."""

    @classmethod
    def load(cls, data_dir: str | Path | None = None) -> "Cache":
        """Reads the four CSV files of ``data_dir`` (default: ``data/lookup`` beside the package).

        Raises CacheError if a file is missing, lacks a column, or holds a value that is none.
        """
        folder = DEFAULT_DATA_DIR if data_dir is None else Path(data_dir)
        airports = _table(
            folder / "airports.csv",
            lambda row: (row["faa"], Airport(utc_offset_hours=int(row["tz"]))),
        )
        planes = _table(
            folder / "planes.csv",
            lambda row: (row["tailnum"], Plane(seats=int(row["seats"]), built=_whole(row["year"]))),
        )
        airlines = _table(folder / "airlines.csv", lambda row: (row["carrier"], row["name"]))
        weather = _table(
            folder / "weather.csv",
            lambda row: (
                (row["origin"], hour_of(datetime.fromisoformat(row["time_hour"]))),
                Weather(
                    visibility_hundredths=_hundredths(row["visib"]),
                    gust_hundredths=_hundredths(row["wind_gust"]),
                    rain_hundredths=_hundredths(row["precip"]),
                ),
            ),
        )
        return cls(airports=airports, planes=planes, airlines=airlines, weather=weather)

    def sizes(self) -> dict[str, int]:
        """Entries per table."""
        return {
            "airports": len(self.airports),
            "planes": len(self.planes),
            "airlines": len(self.airlines),
            "weather": len(self.weather),
        }


def hour_of(time: datetime) -> int:
    """Whole hours since 1970-01-01T00:00Z of an aware datetime."""
    return int(time.timestamp()) // 3600


def _table(path: Path, entry: Callable[[dict[str, str]], tuple[Key, Value]]) -> dict[Key, Value]:
    table: dict[Key, Value] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for row in reader:
                try:
                    key, value = entry(row)
                except KeyError as error:
                    raise CacheError(
                        f"{path}: there is no column {error}; its header is {reader.fieldnames}"
                    ) from error
                except (ValueError, ArithmeticError, TypeError) as error:
                    raise CacheError(f"{path}, line {reader.line_num}: {error}") from error
                table[key] = value
    except OSError as error:
        raise CacheError(
            f"{path} cannot be read ({error.strerror}): run make_data.py, which writes it, or name the "
            "folder that holds the lookup tables (data_dir, --data-dir)"
        ) from error
    if not table:
        raise CacheError(f"{path} has no rows: run make_data.py, which writes it")
    return table


def _whole(text: str) -> int | None:
    return None if text in ("", "NA") else int(text)


def _hundredths(text: str) -> int | None:
    return None if text in ("", "NA") else round(Decimal(text) * 100)
