"""Runs one DAG by `dag.test()` in this process: `python dag_test.py DAG_FILE FUNCTION CONF_AS_JSON`.

Exit 0 if the run succeeded, 1 if not. The demo starts it as a process of its own, since Airflow wants its
environment set before it is imported, and prints much.
"""

import importlib.util
import json
import sys


def main(dag_file: str, function: str, conf: str) -> int:
    """Makes the DAG by calling `function` of the file, and runs it once with `conf`."""
    spec = importlib.util.spec_from_file_location("demo_dag", dag_file)
    if spec is None or spec.loader is None:
        print(f"can't import {dag_file}", file=sys.stderr)
        return 1
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = getattr(module, function)().test(run_conf=json.loads(conf))
    print(f"the DAG run ended: {run.state}", file=sys.stderr)
    return 0 if str(run.state) == "success" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
