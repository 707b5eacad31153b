"""What can't be done or explained is named: no headroom, rows that vanished, a fork after use."""

import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

import kappaflow
from tests.conftest import JobMaker

pytestmark = pytest.mark.integration


def test_no_headroom_names_the_child_and_the_regions(make_job: JobMaker) -> None:
    job = make_job(1)
    job.edit("cap_max = 200000", "cap_max = 1000")
    with pytest.raises(kappaflow.errors.NoHeadroomError, match=r"2013-01 of 27004 rows: .*east has 1000 of"):
        kappaflow.dispatch(job.file, params=job.params)


def test_rows_that_vanished_are_listed_exactly_and_landing_again_mends_it(make_job: JobMaker) -> None:
    job = make_job(1)
    ledger = job.run("run").ok()["ledger"]
    shutil.rmtree(job.dir / "landed")
    failed = job.run("reconcile")
    assert failed.code == 1
    assert "m=2013-01/part-0.parquet" in failed.stderr
    report = kappaflow.reconcile(job.file, params=job.params)
    assert (report["explained"], report["missing"]) == (False, ledger["landed"])
    assert report["missing_by"]["lost"] == ledger["landed"]
    with pytest.raises(kappaflow.UnexplainedError, match=f"{ledger['landed']} of 27004 rows are missing"):
        kappaflow.check_ledger(report)
    listed = pq.read_table(report["missing_file"])
    assert listed.num_rows == ledger["landed"]
    assert set(listed["file"].to_pylist()) == {"m=2013-01/part-0.parquet"}
    job.run("land").ok()
    assert job.run("reconcile").ok()["landed"] == ledger["landed"]


def test_a_child_forked_after_use_is_refused_by_name(make_job: JobMaker) -> None:
    job = make_job(1)
    program = f"""
import os, sys
import kappaflow
params = {job.params!r}
kappaflow.plan({str(job.file)!r}, params=params)
pid = os.fork()
if pid == 0:
    try:
        kappaflow.plan({str(job.file)!r}, params=params)
    except kappaflow.errors.ForkedError as error:
        os._exit(0 if "before the fork" in str(error) else 3)
    os._exit(4)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], timeout=60, check=False)
    assert done.returncode == 0


def test_a_fork_before_use_is_fine(make_job: JobMaker) -> None:
    """Airflow forks its tasks: importing before the fork must leave the child free."""
    job = make_job(1)
    program = f"""
import os, sys
import kappaflow, kappaflow._native
pid = os.fork()
if pid == 0:
    kappaflow.plan({str(job.file)!r}, params={job.params!r})
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 0
