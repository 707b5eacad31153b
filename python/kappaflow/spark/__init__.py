"""Publishing and landing in Spark's executors; `tables` has what a job has landed, for Spark SQL.

Rows never pass through the JVM. Install `kappaflow` where the executors run, too.
"""

from kappaflow.spark.landing import land
from kappaflow.spark.publishing import Published, publish

__all__ = ["Published", "land", "publish"]
