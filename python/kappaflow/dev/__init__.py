"""The dev stack: real Apache Kafkas on loopback, one a region, and a schema registry, without Docker, root or an
installed Java.

from kappaflow.dev import DevStack

with DevStack(".kappaflow/dev", regions=["east", "west"]) as stack:
    print(stack.bootstrap("east"))
"""

from kappaflow.dev.server import ServerStatus
from kappaflow.dev.stack import DevStack
from kappaflow.dev.state import RegionStatus
from kappaflow.errors import DevStackError

__all__ = ["DevStack", "DevStackError", "RegionStatus", "ServerStatus"]
