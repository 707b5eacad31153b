"""The flights example's data: its figures, its faults, and what is expected of them."""

import json
import math
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FLIGHTS = Path(__file__).resolve().parents[2] / "examples" / "flights"
sys.path.insert(0, str(FLIGHTS))

import make_data  # noqa: E402
import warehouse  # noqa: E402
from delay_cost.cache import Cache  # noqa: E402
from delay_cost.pricing import NoPrice, Pricer  # noqa: E402
from delay_cost.rules import RULES  # noqa: E402
from expected import CAUSES, expected  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flights") / "data"
    assert make_data.make(out).startswith("wrote 336,776 flights x 19 columns")
    return out


def ints(flights: pa.Table) -> list[dict[str, Any]]:
    """The rows as flight.avsc types them."""
    rows: list[dict[str, Any]] = flights.to_pylist()
    for row in rows:
        for name in warehouse.FLOATS:
            if row[name] is not None:
                assert row[name].is_integer()
                row[name] = int(row[name])
        row["time_hour"] = datetime.fromisoformat(row["time_hour"])
    return rows


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def test_the_figures_are_the_known_ones(data: Path) -> None:
    assert make_data.figures(data) == make_data.FIGURES
    source = expected("v2", data / "flights", data / "lookup")["source_with"]
    assert source == {name: make_data.FIGURES[name] for name in source}


def test_the_files_are_as_a_warehouse_holds_them(data: Path) -> None:
    parts = sorted(str(path.relative_to(data / "flights")) for path in (data / "flights").rglob("*.parquet"))
    assert parts == [f"m=2013-{month:02d}/part-0.parquet" for month in range(1, 13)]
    for month, part in enumerate(parts, start=1):
        file = pq.ParquetFile(data / "flights" / part)
        groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        assert len(groups) == 3 and groups[:2] == [10_000, 10_000]
        assert file.read(["month"])["month"].unique().to_pylist() == [month]
        types = {field.name: field.type for field in file.schema_arrow}
        assert {name for name, kind in types.items() if kind == pa.float64()} == set(warehouse.FLOATS)
        assert types["time_hour"] == pa.string() and types["year"] == pa.int64()


def test_the_columns_are_those_of_the_schema(data: Path) -> None:
    schema = json.loads((FLIGHTS / "flight.avsc").read_text())
    flights = warehouse.read_back(data / "flights")
    assert [field["name"] for field in schema["fields"]] == flights.column_names
    nullable = {field["name"] for field in schema["fields"] if isinstance(field["type"], list)}
    assert nullable == {name for name in flights.column_names if flights[name].null_count}


def test_a_second_run_does_nothing(data: Path) -> None:
    before = snapshot(data)
    assert make_data.make(data).endswith("is up to date: nothing to do")
    assert snapshot(data) == before


def test_a_damaged_folder_is_mended_and_leftovers_go(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(data, out)
    part = out / "flights" / "m=2013-07" / "part-0.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    killed = tmp_path / ".data.tmp-new" / "flights"
    killed.mkdir(parents=True)
    assert make_data.make(out).startswith("wrote")
    assert part.read_bytes() == (data / part.relative_to(out)).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".data.lock", "data"]


def test_other_row_groups_are_written_anew(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(data, out)
    assert make_data.make(out, rows_per_group=20_000).startswith("wrote")
    assert pq.ParquetFile(out / "flights" / "m=2013-01" / "part-0.parquet").num_row_groups == 2


def test_two_at_once_leave_one_whole_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(FLIGHTS / "make_data.py"), "--out", str(tmp_path / "data")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(run.communicate(timeout=120)[0] for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    assert "up to date" in said[0] and said[1].startswith("wrote")


def test_a_strange_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    for option in ("--out", "--corrupt"):
        assert make_data.main([option, str(tmp_path)]) == 2
        assert "did not write" in capsys.readouterr().err
    assert mine.read_text() == "precious"


def test_other_figures_are_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    shutil.copytree(warehouse.source_dir(), source)
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        lines = archive.read("flights.csv").split(b"\n")
    with zipfile.ZipFile(source / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flights.csv", b"\n".join(lines[:1] + lines[2:]))
    out = tmp_path / "out" / "data"
    assert make_data.main(["--out", str(out), "--source", str(source)]) == 1
    assert "flights: 336,775, should be 336,776" in capsys.readouterr().err
    assert not out.exists()
    # And one that was there before stays as it was.
    shutil.copytree(data, out)
    before = snapshot(out)
    command = ["--out", str(out), "--source", str(source), "--rows-per-group", "5000"]
    assert make_data.main(command) == 1
    assert snapshot(out) == before


def test_missing_tables_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_data.main(["--out", str(tmp_path / "data"), "--source", str(tmp_path)]) == 2
    assert "flights.csv.zip" in capsys.readouterr().err


@pytest.mark.parametrize("rules", sorted(RULES))
def test_the_service_does_to_every_flight_what_is_expected(data: Path, rules: str) -> None:
    pricer = Pricer.load(rules, data / "lookup")
    fields = [field["name"] for field in json.loads((FLIGHTS / "delay_cost.avsc").read_text())["fields"]]
    verdicts: Counter[str] = Counter()
    landed_with: Counter[str] = Counter()
    for flight in ints(warehouse.read_back(data / "flights")):
        try:
            answer = pricer.price(flight)
        except NoPrice as no_price:
            verdicts[type(no_price).__qualname__] += 1
            continue
        verdicts["landed"] += 1
        codes = [reason["code"] for reason in answer["reasons"]]
        landed_with.update(code for code in codes if code.endswith("_unknown") or code == "departed_midnight")
        assert len(codes) == len(set(codes)) and list(answer) == fields
        assert answer["cost_cents"] == sum(reason["cents"] for reason in answer["reasons"]) >= 0
    must = expected(rules, data / "flights", data / "lookup")
    by_cause = must["filtered"] | must["dead_lettered"]
    assert verdicts == {"landed": must["landed"]} | {
        CAUSES[cause].rpartition(":")[2]: count for cause, count in by_cause.items()
    }
    assert landed_with == must["landed_with"]


def test_expected_counts_by_cause(data: Path) -> None:
    v1 = expected("v1", data / "flights", data / "lookup")
    v2 = expected("v2", data / "flights", data / "lookup")
    assert v1["landed"] == v2["landed"] == 336_776 - 8_255 - 1_175
    assert (v1["filtered"], v1["dead_lettered"]) == ({"cancelled": 8_255, "not_covered": 1_175}, {})
    assert (v2["filtered"], v2["dead_lettered"]) == ({"cancelled": 8_255}, {"not_arrived": 1_175})
    for must in (v1, v2):
        assert len(must["children"]) == 12 and must["rejected"] == {}
        for name in ("rows", "landed"):
            assert sum(child[name] for child in must["children"].values()) == must[name]


def test_the_corrupted_copy_differs_in_the_named_cells_only(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corrupted"
    assert make_data.main(["--corrupt", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert json.loads((out / "corrupted.json").read_text()) == said
    assert {cell["fault"] for cell in said["corrupted"]} == {"fraction", "null", "timestamp", "too_large"}
    rows = 0
    found: set[tuple[str, int, str]] = set()
    for path in sorted((out / "flights").rglob("*.parquet")):
        name = str(path.relative_to(out / "flights"))
        corrupted, clean = pq.ParquetFile(path), pq.ParquetFile(data / "flights" / name)
        assert corrupted.schema_arrow.equals(clean.schema_arrow)
        assert corrupted.num_row_groups > 1
        bad = corrupted.read().to_pylist()
        rows += len(bad)
        for row, (is_now, was) in enumerate(zip(bad, clean.read().to_pylist(), strict=False)):
            found |= {(name, row, column) for column in was if is_now[column] != was[column]}
    cells = {(cell["file"], cell["row"], cell["column"]): cell for cell in said["corrupted"]}
    assert found == set(cells) and len({key[:2] for key in cells}) == len(cells) == said["rejected"]
    assert rows == said["rows"]
    for (name, row, column), cell in cells.items():
        group = pq.ParquetFile(out / "flights" / name).read_row_group(cell["row_group"])
        assert group[column][cell["row_in_group"]].as_py() == cell["value"]
        assert row == cell["row_group"] * 500 + cell["row_in_group"]


def test_every_fault_is_one(tmp_path: Path) -> None:
    schema = json.loads((FLIGHTS / "flight.avsc").read_text())
    types = {field["name"]: field["type"] for field in schema["fields"]}
    make_data.main(["--corrupt", str(tmp_path / "corrupted")])
    for cell in json.loads((tmp_path / "corrupted" / "corrupted.json").read_text())["corrupted"]:
        kind, value = types[cell["column"]], cell["value"]
        if cell["fault"] == "null":
            assert value is None and not isinstance(kind, list)
        elif cell["fault"] == "timestamp":
            assert cell["column"] == "time_hour"
            with pytest.raises(ValueError, match=r"isoformat|month|day|hour"):
                datetime.fromisoformat(value)
        else:
            assert kind in ("int", ["null", "int"])
            if cell["fault"] == "fraction":
                assert math.isfinite(value) and not float(value).is_integer()
            else:
                assert float(value).is_integer() and not -(2**31) <= value < 2**31


def test_expected_leaves_rejects_out(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "corrupted"
    make_data.main(["--corrupt", str(out)])
    cells = json.loads(capsys.readouterr().out)["corrupted"]
    must = expected("v2", out / "flights", data / "lookup", cells)
    assert must["rejected"] == dict(Counter(cell["fault"] for cell in cells))
    gone = (
        sum(must["rejected"].values()) + sum(must["filtered"].values()) + sum(must["dead_lettered"].values())
    )
    assert must["landed"] + gone == must["rows"] == 6_000
    assert must["children"]["2013-03"]["rejected"] == 0


def test_the_service_loads_the_tables(data: Path) -> None:
    assert Cache.load(data / "lookup").sizes() == {
        "airports": 1_458,
        "planes": 3_322,
        "airlines": 16,
        "weather": 26_115,
    }
