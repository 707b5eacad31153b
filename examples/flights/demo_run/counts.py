"""How far the job is, sampled while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import kappaflow
from kappaflow.errors import KappaFlowError, NotReadyError
from kappaflow.report import Sample
from kappaflow.types import Summary

from .processes import now_ms

# A look may fail while a broker starts or the store is written; so many in a row are no accident.
_MOST_FAILURES = 25


@dataclass
class Counts:
    """The series of samples, and the newest look at each region."""

    job_file: Path
    params: Mapping[str, str]
    expected: int
    samples: list[Sample] = field(default_factory=list)
    region_rows: dict[str, int] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)
    _failures: int = 0

    def look(self) -> None:
        """Takes a sample, if there is something to see yet. Raises KappaFlowError if looking fails on and on."""
        try:
            status = kappaflow.status(self.job_file, params=self.params)
        except NotReadyError:
            return
        except KappaFlowError:
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                raise
            return
        self._failures = 0
        self._take(status)

    def _take(self, status: Summary) -> None:
        self.region_rows = {}
        for child in status["children"]:
            if child["region"]:
                self.region_rows[child["region"]] = self.region_rows.get(child["region"], 0) + child["rows"]
        published = worked = 0
        for region in status["regions"]:
            progress = region["progress"]
            if progress is None:
                continue
            self.committed[region["name"]] = progress["committed"]
            published += progress["ingress_end"]
            worked += progress["committed"]
        self.samples.append(Sample(now_ms(), published, worked, status["table"]["rows"]))

    def half_way(self, region: str) -> bool:
        """Whether half of the region's rows are committed."""
        rows = self.region_rows.get(region, 0)
        return rows > 0 and self.committed.get(region, 0) * 2 >= rows

    def rate(self, stage: str, over_ms: int = 4_000) -> float:
        """Rows a second of late: `stage` is `published`, `worked` or `landed`."""
        if len(self.samples) < 2:
            return 0.0
        last = self.samples[-1]
        first = next(s for s in self.samples if s.at_ms >= last.at_ms - over_ms)
        seconds = (last.at_ms - first.at_ms) / 1_000
        gained: int = getattr(last, stage) - getattr(first, stage)
        return gained / seconds if seconds > 0 else 0.0
