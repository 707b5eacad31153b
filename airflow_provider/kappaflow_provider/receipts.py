"""What a publish or a landing has done, as a task's log tells it."""

import logging
from collections.abc import Mapping
from typing import Any

from kappaflow_provider.progress import in_words

log = logging.getLogger(__name__)


def log_receipt(child: str | None, receipt: Mapping[str, Any]) -> None:
    """One line of counts, and one for each reason of rejects. child: `None` stands for all of them."""
    log.info(
        "published %s: %s rows = %s acknowledged + %s rejected (%s read back), %.1f s",
        child or "all child jobs",
        f"{receipt['rows']:,}",
        f"{receipt['acknowledged']:,}",
        f"{receipt['rejected']:,}",
        f"{receipt['read_back']:,}",
        receipt["seconds"],
    )
    for reject in receipt["rejects"]:
        log.warning("rejected %s rows: %s: %s", reject["count"], reject["field"], reject["reason"])


def log_landing(region: str | None, summary: Mapping[str, Any]) -> None:
    """A line of counts, and one of the table. region: `None` stands for all of them."""
    log.info("%s: %s", region or "all regions", in_words(summary))
    if "table" in summary:
        log.info("the table is %s, its version %s", summary["table"], summary["version"])
