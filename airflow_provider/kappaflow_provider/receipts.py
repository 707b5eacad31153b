"""A publish's receipt, as a task's log tells it."""

import logging
from collections.abc import Mapping
from typing import Any

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
