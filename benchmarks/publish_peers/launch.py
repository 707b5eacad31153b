"""Runs a command and writes down what it took, its children included: launch.py OUT.json COMMAND…"""

import json
import resource
import subprocess
import sys
import time

begun = time.perf_counter()
code = subprocess.run(sys.argv[2:], check=False).returncode
seconds = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:  # noqa: PTH123 - a small process imports little
    json.dump(
        {"seconds": seconds, "cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}, file
    )
sys.exit(code)
