"""The tariff, in versions. A version is never edited once it has priced a flight: a change is a new version.

All money is in whole US cents, all durations in whole minutes, all arithmetic in integers.
"""

from dataclasses import dataclass
from typing import ClassVar

from .cache import Airport, Plane, Weather


@dataclass(frozen=True, slots=True)
class Delay:
    """What the rules look at: a flight that arrived ``late_minutes`` late, and what is known about it."""

    year: int
    late_minutes: int
    dep_delay_minutes: int
    dep_minute_of_day: int
    sched_arr_minute_of_day: int
    distance_miles: int
    plane: Plane | None
    dest: Airport | None
    weather: Weather | None


@dataclass(frozen=True, slots=True)
class Reason:
    """One line of the bill. ``cents`` is negative for a relief."""

    code: str
    minutes: int
    cents: int


class RulesV1:
    """The first tariff: one rate a minute from 15 minutes on, and a flat sum for each thing unknown.

    It covers arrived flights only: a flight that was diverted or never arrived is none of its business.
    """

    version = "v1"
    covers_not_arrived = False

    GRACE_MINUTES = 15
    CENTS_PER_MINUTE = 7_500
    UNKNOWN_CENTS = 5_000

    def late(self, delay: Delay) -> bool:
        """Whether the delay costs anything at all."""
        return delay.late_minutes >= self.GRACE_MINUTES

    def reasons(self, delay: Delay) -> list[Reason]:
        """The bill of a late flight, without the lines for what is unknown."""
        return [Reason("late_arrival", delay.late_minutes, delay.late_minutes * self.CENTS_PER_MINUTE)]

    def unknown_cents(self, code: str) -> int:
        """What a late flight pays for ``plane_unknown``, ``dest_unknown`` or ``weather_unknown``."""
        return self.UNKNOWN_CENTS


class RulesV2:
    """The second tariff: minutes at the gate and in the air cost differently, passengers are paid by the
    seat, nights cost more, and bad weather at the origin halves what passengers are owed.

    A flight that was diverted or never arrived *is* its business, but no formula prices it: somebody has to.
    """

    version = "v2"
    covers_not_arrived = True

    GRACE_MINUTES = 15
    GATE_CENTS_PER_MINUTE = 2_500
    AIR_CENTS_PER_MINUTE = 6_000
    OLD_PLANE_YEARS = 20
    OLD_PLANE_PERCENT = 10
    PASSENGER_FROM_MINUTES = 30
    SEAT_CENTS_PER_MINUTE = 15
    NIGHT_CENTS = 20_000
    OVERNIGHT_FROM_MINUTES = 180
    HOTEL_CENTS = 9_000
    REMOTE_HOTEL_CENTS = 14_000
    UNKNOWN_CENTS: ClassVar = {"plane_unknown": 2_000, "dest_unknown": 3_000, "weather_unknown": 1_000}

    def late(self, delay: Delay) -> bool:
        """Whether the delay costs anything at all."""
        return delay.late_minutes >= self.GRACE_MINUTES

    def reasons(self, delay: Delay) -> list[Reason]:
        """The bill of a late flight, without the lines for what is unknown."""
        bill: list[Reason] = []
        gate_minutes = min(max(delay.dep_delay_minutes, 0), delay.late_minutes)
        air_minutes = delay.late_minutes - gate_minutes
        if gate_minutes:
            bill.append(Reason("at_gate", gate_minutes, gate_minutes * self.GATE_CENTS_PER_MINUTE))
        if air_minutes:
            air_cents = air_minutes * self.AIR_CENTS_PER_MINUTE
            bill.append(Reason("in_air", air_minutes, air_cents))
            if delay.plane and delay.plane.built and delay.year - delay.plane.built >= self.OLD_PLANE_YEARS:
                bill.append(Reason("old_plane", air_minutes, air_cents * self.OLD_PLANE_PERCENT // 100))
        if delay.dep_minute_of_day >= 23 * 60 or delay.dep_minute_of_day < 5 * 60:
            bill.append(Reason("night_departure", 0, self.NIGHT_CENTS))
        owed = self._passengers(delay)
        bill.extend(owed)
        if owed and delay.weather and bad(delay.weather):
            bill.append(Reason("bad_weather", 0, -(sum(reason.cents for reason in owed) // 2)))
        return bill

    def _passengers(self, delay: Delay) -> list[Reason]:
        if delay.late_minutes < self.PASSENGER_FROM_MINUTES:
            return []
        seats = delay.plane.seats if delay.plane else usual_seats(delay.distance_miles)
        owed = [
            Reason("passengers", delay.late_minutes, seats * delay.late_minutes * self.SEAT_CENTS_PER_MINUTE)
        ]
        past_midnight = delay.sched_arr_minute_of_day + delay.late_minutes >= 24 * 60
        if past_midnight and delay.late_minutes >= self.OVERNIGHT_FROM_MINUTES:
            mainland = delay.dest is not None and -8 <= delay.dest.utc_offset_hours <= -5
            hotel_cents = self.HOTEL_CENTS if mainland else self.REMOTE_HOTEL_CENTS
            owed.append(Reason("overnight", delay.late_minutes, (seats + 1) // 2 * hotel_cents))
        return owed

    def unknown_cents(self, code: str) -> int:
        """What a late flight pays for ``plane_unknown``, ``dest_unknown`` or ``weather_unknown``."""
        return self.UNKNOWN_CENTS[code]


def usual_seats(distance_miles: int) -> int:
    """The seats of the plane that usually flies so far: what is assumed of a plane nobody knows."""
    if distance_miles < 500:
        return 50
    return 150 if distance_miles < 1_500 else 200


def bad(weather: Weather) -> bool:
    """Under 3 miles of visibility, gusts of 35 mph and more, or a tenth of an inch of rain in the hour."""
    return (
        (weather.visibility_hundredths is not None and weather.visibility_hundredths < 300)
        or (weather.gust_hundredths is not None and weather.gust_hundredths >= 3_500)
        or (weather.rain_hundredths is not None and weather.rain_hundredths >= 10)
    )


Rules = RulesV1 | RulesV2

RULES: dict[str, Rules] = {rules.version: rules for rules in (RulesV1(), RulesV2())}
