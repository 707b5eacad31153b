"""The command line of the dev stack, as far as it needs no Kafka."""

import argparse
import json
from pathlib import Path

import pytest

from kappaflow.dev import cli
from kappaflow.dev.state import BrokerRecord, RegionRecord, StackState, save_state


def test_it_is_a_command_of_the_main_parser(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="kappaflow")
    cli.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["dev", "status", "--dir", str(tmp_path), "--json"])
    assert args.run(args) == 1
    assert json.loads(capsys.readouterr().out) == {"command": "status", "dir": str(tmp_path), "regions": []}


def test_down_is_safe_without_a_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent"
    assert cli.main(["down", "--dir", str(absent)]) == 0
    assert cli.main(["down", "--dir", str(absent), "--wipe"]) == 0
    assert not absent.exists()
    assert "nothing to stop" in capsys.readouterr().out


def test_wipe_removes_only_what_is_ours(tmp_path: Path) -> None:
    save_state(tmp_path, StackState({"east": RegionRecord("c", {1: BrokerRecord({"PLAINTEXT": 20_000})})}))
    (tmp_path / "east" / "broker-1" / "data").mkdir(parents=True)
    (tmp_path / "mine.txt").write_text("")
    assert cli.main(["down", "--dir", str(tmp_path), "--wipe"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_error_is_one_message_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--dir", str(tmp_path), "--regions", "East!", "--json"]) == 1
    told = capsys.readouterr()
    assert "'East!' can't name a region" in json.loads(told.out)["error"]
    assert told.err.startswith("error: 'East!'")
    assert "Traceback" not in told.err


@pytest.mark.parametrize("argv", [[], ["sideways"], ["up", "--port", "x"]])
def test_wrong_usage_is_exit_code_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2


def test_logs_names_the_stack_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["logs", "--dir", str(tmp_path)]) == 1
    assert "kappaflow dev up" in capsys.readouterr().err


def test_logs_prints_the_last_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_state(tmp_path, StackState({"east": RegionRecord("c", {1: BrokerRecord({"PLAINTEXT": 20_000})})}))
    home = tmp_path / "east" / "broker-1"
    home.mkdir(parents=True)
    (home / "kafka.log").write_text("".join(f"line {number}\n" for number in range(100)))
    assert cli.main(["logs", "--dir", str(tmp_path), "-n", "2"]) == 0
    assert capsys.readouterr().out == "line 98\nline 99\n"
