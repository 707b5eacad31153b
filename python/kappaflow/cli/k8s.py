"""The command `kappaflow k8s render`: Kubernetes objects for a job's workers."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kappaflow import k8s
from kappaflow.cli import show
from kappaflow.cli.stages import job_arguments, only_region

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_RENDER = """\
Render the Kubernetes objects of a region's workers as YAML on stdout: a Deployment (the worker, and the service beside
it), what scales it, a PodDisruptionBudget, a ConfigMap of the job file and its schemas, a claim for the job's
.kappaflow. No cluster is asked, and nothing is applied:

    kappaflow k8s render job.toml --image registry.example/worker:1 | kubectl apply -f -

--scaler keda (default) needs KEDA: from no worker on, when there is lag, and from then on as many as the workers say
are needed. --scaler hpa needs an adapter of Prometheus' metrics: by CPU and lag, from one worker on.

Secrets are references in the job file (env:NAME, file:PATH); here they become references to one Secret, whose keys
docs/kubernetes.md tells. They are never rendered.
"""


def add_parser(commands: "SubParsers") -> None:
    """Add `k8s` and its command."""
    summary = "render Kubernetes objects for a job's workers"
    top = commands.add_parser("k8s", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    render = actions.add_parser(
        "render",
        parents=[job_arguments()],
        help=summary,
        description=_RENDER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    render.set_defaults(run=_render)
    defaults = k8s.Options(image="", region="")
    add = render.add_argument
    add("--image", required=True, help="the worker's image: kappaflow-worker, and the callable if it is one")
    add("--service-image", metavar="IMAGE", help="the image of an HTTP service, to run beside each worker")
    add("--region", help="the region (default: the only one of the job)")
    add("--namespace", default=defaults.namespace, help="(default: %(default)s)")
    add("--scaler", choices=["keda", "hpa"], default=defaults.scaler, help="(default: %(default)s)")
    add("--min", type=int, default=defaults.min_workers, metavar="N", help="workers (default: %(default)s)")
    add("--max", type=int, default=defaults.max_workers, metavar="N", help="workers (default: %(default)s)")
    add("--cpu", default=defaults.cpu, help="of the service (default: %(default)s)")
    add("--memory", default=defaults.memory, help="of the service (default: %(default)s)")
    add(
        "--lag-per-worker",
        type=int,
        default=defaults.lag_per_worker,
        metavar="N",
        help="with --scaler hpa: records that may wait for each worker (default: %(default)s)",
    )
    add("--secret", metavar="NAME", help="the Secret of the job's references (default: by the job's name)")
    add("--claim", metavar="NAME", help="a claim that has the job's .kappaflow (default: one is rendered)")
    add("--out", metavar="FILE", help="write it there (default: stdout)")


def _render(args: argparse.Namespace) -> int:
    params = dict(args.param)
    options = k8s.Options(
        image=args.image,
        region=args.region or only_region(args.job, params),
        service_image=args.service_image,
        scaler=args.scaler,
        min_workers=args.min,
        max_workers=args.max,
        cpu=args.cpu,
        memory=args.memory,
        lag_per_worker=args.lag_per_worker,
        namespace=args.namespace,
        secret=args.secret,
        claim=args.claim,
    )
    objects = k8s.render(args.job, options, params=params)
    text = k8s.to_json(objects) if args.json else k8s.to_yaml(objects)
    if args.out:
        Path(args.out).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    if not args.quiet:
        show.lines([f"{rendered['kind']}/{rendered['metadata']['name']}" for rendered in objects])
    return 0
