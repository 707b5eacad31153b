"""The delay cost service's rules, by hand, over tables small enough to see."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

FLIGHTS = Path(__file__).resolve().parents[2] / "examples" / "flights"
sys.path.insert(0, str(FLIGHTS))

from delay_cost import pricing  # noqa: E402
from delay_cost.cache import Cache, CacheError, Weather  # noqa: E402
from delay_cost.pricing import BadFlight, Cancelled, NotArrived, NotCovered, Pricer  # noqa: E402
from delay_cost.rules import bad, usual_seats  # noqa: E402

TABLES = {
    "airports": "faa,name,lat,lon,alt,tz,dst,tzone\nIAH,Houston,29.9,-95.3,97,-6,A,America/Chicago\n"
    "HNL,Honolulu,21.3,-157.9,13,-10,N,Pacific/Honolulu\n",
    "planes": "tailnum,year,type,manufacturer,model,engines,seats,speed,engine\n"
    "N14228,1999,Fixed wing multi engine,BOEING,737-824,2,149,NA,Turbo-fan\n"
    "N90001,1990,Fixed wing multi engine,BOEING,737-300,2,101,NA,Turbo-fan\n"
    "N90002,NA,Fixed wing multi engine,BOEING,737-300,2,101,NA,Turbo-fan\n",
    "airlines": "carrier,name\nUA,United Air Lines Inc.\n",
    "weather": "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,"
    "visib,time_hour\n"
    "EWR,2013,1,1,5,39.02,28.04,64.43,260,12.6,NA,0,1011.9,10,2013-01-01T10:00:00Z\n"
    "EWR,2013,1,1,6,39.02,28.04,64.43,260,12.6,35.000,0,1011.9,10,2013-01-01T11:00:00Z\n",
}

FLIGHT: dict[str, Any] = {
    "year": 2013,
    "month": 1,
    "day": 1,
    "dep_time": 517,
    "sched_dep_time": 515,
    "dep_delay": 2,
    "arr_time": 830,
    "sched_arr_time": 819,
    "arr_delay": 11,
    "carrier": "UA",
    "flight": 1545,
    "tailnum": "N14228",
    "origin": "EWR",
    "dest": "IAH",
    "air_time": 227,
    "distance": 1400,
    "hour": 5,
    "minute": 15,
    "time_hour": "2013-01-01T10:00:00Z",
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lookup")
    for name, text in TABLES.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


@pytest.fixture(scope="module")
def v1(tables: Path) -> Pricer:
    return Pricer.load("v1", tables)


@pytest.fixture(scope="module")
def v2(tables: Path) -> Pricer:
    return Pricer.load("v2", tables)


def bill(pricer: Pricer, **changes: Any) -> list[tuple[str, int, int]]:
    """The reasons of FLIGHT with some fields changed, having checked their sum."""
    answer = pricer.price(FLIGHT | changes)
    assert answer["cost_cents"] == sum(reason["cents"] for reason in answer["reasons"])
    return [(reason["code"], reason["minutes"], reason["cents"]) for reason in answer["reasons"]]


def test_a_flight_on_time_costs_nothing(v2: Pricer) -> None:
    assert v2.price(FLIGHT) == {
        "year": 2013,
        "month": 1,
        "day": 1,
        "carrier": "UA",
        "flight": 1545,
        "origin": "EWR",
        "dest": "IAH",
        "time_hour": datetime(2013, 1, 1, 10, tzinfo=UTC),
        "airline": "United Air Lines Inc.",
        "late_minutes": 11,
        "cost_cents": 0,
        "reasons": [],
        "plane_known": True,
        "dest_known": True,
        "weather_known": True,
        "rules": "v2",
    }
    assert v2.price(FLIGHT | {"arr_delay": -20})["late_minutes"] == 0


def test_v1_has_one_rate_after_a_grace(v1: Pricer) -> None:
    assert bill(v1, arr_delay=14) == []
    assert bill(v1, arr_delay=15) == [("late_arrival", 15, 112_500)]
    assert bill(v1, arr_delay=200, tailnum=None) == [
        ("late_arrival", 200, 1_500_000),
        ("plane_unknown", 0, 5_000),
    ]


def test_v2_splits_gate_and_air(v2: Pricer) -> None:
    assert bill(v2, arr_delay=14, dep_delay=14) == []
    assert bill(v2, arr_delay=20, dep_delay=-3) == [("in_air", 20, 120_000)]
    assert bill(v2, arr_delay=20, dep_delay=12) == [("at_gate", 12, 30_000), ("in_air", 8, 48_000)]
    assert bill(v2, arr_delay=20, dep_delay=90) == [("at_gate", 20, 50_000)]


def test_v2_pays_passengers_by_the_seat(v2: Pricer) -> None:
    assert bill(v2, arr_delay=29, dep_delay=29) == [("at_gate", 29, 72_500)]
    assert bill(v2, arr_delay=30, dep_delay=30) == [
        ("at_gate", 30, 75_000),
        ("passengers", 30, 149 * 30 * 15),
    ]


def test_v2_charges_old_planes_in_the_air(v2: Pricer) -> None:
    assert ("old_plane", 20, 12_000) in bill(v2, arr_delay=20, dep_delay=0, tailnum="N90001")
    built_unknown = bill(v2, arr_delay=20, dep_delay=0, tailnum="N90002")
    assert "old_plane" not in [code for code, _, _ in built_unknown]
    assert ("old_plane", 20, 12_000) not in bill(v2, arr_delay=20, dep_delay=0)


def test_v2_halves_what_passengers_are_owed_in_bad_weather(v2: Pricer) -> None:
    assert bill(v2, arr_delay=31, dep_delay=31, time_hour="2013-01-01T11:59:59Z") == [
        ("at_gate", 31, 77_500),
        ("passengers", 31, 69_285),
        ("bad_weather", 0, -34_642),
    ]
    assert bill(v2, arr_delay=20, dep_delay=20, time_hour="2013-01-01T11:00:00Z") == [("at_gate", 20, 50_000)]


def test_v2_puts_passengers_up_for_the_night(v2: Pricer) -> None:
    late = {"arr_delay": 180, "dep_delay": 180, "sched_arr_time": 2100}
    assert ("overnight", 180, 75 * 9_000) in bill(v2, **late)
    assert ("overnight", 180, 75 * 14_000) in bill(v2, **late, dest="HNL")
    assert ("overnight", 180, 75 * 14_000) in bill(v2, **late, dest="SJU")
    for early in ({"sched_arr_time": 2059}, {"arr_delay": 179, "sched_arr_time": 2300}):
        assert "overnight" not in [code for code, _, _ in bill(v2, **late | early)]


@pytest.mark.parametrize(
    ("dep_time", "night"), [(2259, False), (2300, True), (2400, True), (1, True), (459, True), (500, False)]
)
def test_v2_charges_nights(v2: Pricer, dep_time: int, night: bool) -> None:
    reasons = bill(v2, arr_delay=20, dep_delay=20, dep_time=dep_time)
    assert (("night_departure", 0, 20_000) in reasons) is night


def test_2400_is_midnight(v1: Pricer, v2: Pricer) -> None:
    for pricer in (v1, v2):
        assert bill(pricer, dep_time=2400) == [("departed_midnight", 0, 0)]
        assert bill(pricer, dep_time=1) == []


@pytest.mark.parametrize(
    ("code", "flag", "change", "v1_cents", "v2_cents"),
    [
        ("plane_unknown", "plane_known", {"tailnum": "N0"}, 5_000, 2_000),
        ("plane_unknown", "plane_known", {"tailnum": None}, 5_000, 2_000),
        ("dest_unknown", "dest_known", {"dest": "SJU"}, 5_000, 3_000),
        ("weather_unknown", "weather_known", {"time_hour": "2013-01-01T12:00:00Z"}, 5_000, 1_000),
        ("weather_unknown", "weather_known", {"origin": "JFK"}, 5_000, 1_000),
    ],
)
def test_what_is_unknown_is_said_and_costs_the_late(
    v1: Pricer, v2: Pricer, code: str, flag: str, change: dict[str, Any], v1_cents: int, v2_cents: int
) -> None:
    for pricer, cents in ((v1, v1_cents), (v2, v2_cents)):
        on_time = pricer.price(FLIGHT | change)
        assert on_time[flag] is False and on_time["cost_cents"] == 0
        assert on_time["reasons"] == [{"code": code, "minutes": 0, "cents": 0}]
        known = {"plane_known", "dest_known", "weather_known"} - {flag}
        assert all(on_time[other] for other in known)
        assert (code, 0, cents) in bill(pricer, arr_delay=15, **change)


def test_an_unknown_plane_has_the_usual_seats(v2: Pricer) -> None:
    assert [usual_seats(miles) for miles in (499, 500, 1_499, 1_500)] == [50, 150, 150, 200]
    assert ("passengers", 30, 50 * 30 * 15) in bill(v2, arr_delay=30, tailnum=None, distance=200)


def test_an_unknown_airline_has_no_name(v2: Pricer) -> None:
    assert v2.price(FLIGHT | {"carrier": "ZZ"})["airline"] is None


def test_a_cancelled_flight_has_no_price(v1: Pricer, v2: Pricer) -> None:
    nothing = dict.fromkeys(("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"))
    for pricer in (v1, v2):
        with pytest.raises(Cancelled, match="never departed"):
            pricer.price(FLIGHT | nothing)


def test_the_rules_differ_over_a_flight_that_did_not_arrive(v1: Pricer, v2: Pricer) -> None:
    diverted = FLIGHT | {"arr_delay": None, "air_time": None}
    lost = diverted | {"arr_time": None}
    for flight, why in ((diverted, "diverted"), (lost, "no arrival")):
        with pytest.raises(NotCovered):
            v1.price(flight)
        with pytest.raises(NotArrived, match=why):
            v2.price(flight)


def test_time_is_a_datetime_or_a_string(v2: Pricer) -> None:
    there = datetime(2013, 1, 1, 5, tzinfo=timezone(timedelta(hours=-5)))
    answers = [
        v2.price(FLIGHT | {"time_hour": time})
        for time in (there, there.astimezone(UTC), "2013-01-01T10:00:00Z", "2013-01-01T05:00:00-05:00")
    ]
    assert all(answer == answers[0] and answer["weather_known"] for answer in answers)
    assert answers[0]["time_hour"].utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "change",
    [
        {"flight": 1545.0},
        {"flight": True},
        {"flight": "1545"},
        {"year": None},
        {"carrier": None},
        {"carrier": ""},
        {"dep_time": 2401},
        {"dep_time": 1060},
        {"dep_time": -1},
        {"dep_delay": None},
        {"time_hour": "yesterday"},
        {"time_hour": "2013-01-01T10:00:00"},
        {"time_hour": datetime(2013, 1, 1)},
        {"time_hour": "0001-01-01T00:00:00+10:00"},
        {"time_hour": 1357034400000},
        {"time_hour": None},
    ],
)
def test_what_is_no_flight_is_refused_by_name(v2: Pricer, change: dict[str, Any]) -> None:
    with pytest.raises(BadFlight, match=next(iter(change))):
        v2.price(FLIGHT | change)


@pytest.mark.parametrize("name", ["dep_time", "arr_delay", "tailnum", "year", "time_hour", "distance"])
def test_a_missing_field_is_not_a_null(v2: Pricer, name: str) -> None:
    with pytest.raises(BadFlight, match=f"{name} is missing"):
        v2.price({field: value for field, value in FLIGHT.items() if field != name})


def test_weather_unmeasured_is_not_bad() -> None:
    assert not bad(Weather(None, None, None))
    assert not bad(Weather(300, 3_499, 9))
    assert bad(Weather(299, None, 0)) and bad(Weather(1_000, 3_500, 0)) and bad(Weather(1_000, None, 10))


def test_load_chooses_for_every_later_price(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "_pricer", None)
    pricing.load(rules="v1", data_dir=str(tables))
    assert pricing.price(FLIGHT)["rules"] == "v1"
    pricing.load(rules="v2", data_dir=tables)
    assert pricing.price(FLIGHT)["rules"] == "v2"
    with pytest.raises(ValueError, match="choose one of v1, v2"):
        pricing.load(rules="v3", data_dir=tables)
    assert pricing.price(FLIGHT)["rules"] == "v2"


def test_price_loads_by_itself_and_once(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[None] = []
    load = Cache.load

    def counted(_data_dir: object = None) -> Cache:
        loads.append(None)
        return load(tables)

    monkeypatch.setattr(pricing, "_pricer", None)
    monkeypatch.setattr(Cache, "load", counted)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(pricing.price, [FLIGHT] * 64))
    assert len(loads) == 1 and all(answer == answers[0] for answer in answers)


def test_a_table_that_cannot_be_read_is_named(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"airports\.csv cannot be read .* run make_data\.py"):
        Cache.load(tmp_path)
    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "planes.csv").write_text(TABLES["planes"].replace(",149,", ",many,"))
    with pytest.raises(CacheError, match=r"planes\.csv, line 2: .*many"):
        Cache.load(tmp_path)
    (tmp_path / "planes.csv").write_text(TABLES["planes"].replace("seats", "chairs"))
    with pytest.raises(CacheError, match=r"planes\.csv: there is no column 'seats'"):
        Cache.load(tmp_path)
    (tmp_path / "planes.csv").write_text("")
    with pytest.raises(CacheError, match=r"planes\.csv has no rows"):
        Cache.load(tmp_path)


def test_the_service_needs_the_standard_library_alone() -> None:
    program = (
        "import sys, delay_cost.server\n"
        "loaded = {name.partition('.')[0] for name in sys.modules} - {'__main__'}\n"
        "print(sorted(loaded - set(sys.stdlib_module_names)))"
    )
    command = [sys.executable, "-S", "-c", program]
    ran = subprocess.run(command, cwd=FLIGHTS, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "['delay_cost']"
