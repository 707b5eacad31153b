"""Sources beyond Parquet files: Iceberg, Delta and SQL, planned as lists of files, and streams kept as snapshots.

from kappaflow.sources import materialise

kept = materialise(frame, "snapshots/2013-01-31")   # pandas, Polars, pyarrow, DuckDB, or any other Arrow stream
print(kept.path, kept.rows)
"""

from kappaflow.sources.kept import Kept, materialise
from kappaflow.sources.plan import plan

__all__ = ["Kept", "materialise", "plan"]
