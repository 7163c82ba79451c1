"""What Knative is told of a function: pure. ``manifests.py`` puts it together with everything else.

A function that holds one task is the service of that task's DNS name, so that the worker finds it through
``KNATIVE_SERVICE_URL=http://{task}.namespace.svc.cluster.local``. One that holds several has a name of its own, and the
worker is told of each task's URL (``JOBS_FUNCTION_URLS``).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobfn.deploy.inspection import TaskFacts
from jobfn.errors import ConfigurationError
from jobfn.wire import task_url
from jobfn.wire.dns_names import dns_name, dns_names

#: The container's port: what ``PORT`` is set to.
PORT = 8080
#: Who runs it: the Dockerfile's user.
USER = 65532
#: On every pod of a function; the network policies go by it.
FUNCTION_LABELS = {"app.kubernetes.io/part-of": "jobs", "app.kubernetes.io/component": "function"}
#: Knative's own limit, unless its administrator has raised ``max-revision-timeout-seconds``.
MAX_TIMEOUT_SECONDS = 600
#: Between a handler's own timeout and Knative's, so that the handler's is the one that reports.
_SPARE_SECONDS = 10
#: The secret that workers send; functions run without it where the cluster has none.
INVOKE_SECRET = {"name": "jobs-invoke", "key": "JOBFN_INVOKE_SECRET"}
#: The job service's own names. A function of such a name would meet its service, or be handed its secrets.
RESERVED_NAMES = frozenset(
    {"jobs-callback", "jobs-config", "jobs-functions", "jobs-invoke", "jobs-secrets", "jobs-service"}
)

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """How a function is scaled and cut off.

    Attributes:
        concurrency: Requests at a time for one container; the next one starts another.
        timeout_seconds: How long a request may take. One whose task's own timeout is longer gets more.
        min_scale: Containers that are always there.
        max_scale: Containers at most.
    """

    concurrency: int = 16
    timeout_seconds: int = 300
    min_scale: int = 0
    max_scale: int = 10


@dataclass(frozen=True)
class Function:
    """One function.

    Attributes:
        name: Of its Knative service.
        image: Of its container.
        tasks: What it holds.
    """

    name: str
    image: str
    tasks: Sequence[TaskFacts]

    @property
    def has_background(self) -> bool:
        """Whether one of its tasks works on after its request is answered."""
        return any(task.background for task in self.tasks)

    def timeout_seconds(self, limits: Limits) -> int:
        """How long a request to it may take, in seconds."""
        longest = max((task.timeout_seconds or 0 for task in self.tasks if not task.background), default=0)
        return max(limits.timeout_seconds, math.ceil(longest) + _SPARE_SECONDS if longest else 0)


def name_of(folder_name: str, tasks: Sequence[TaskFacts]) -> str:
    """What a function's service is called: as its task, or as its folder where it holds several."""
    return dns_name(tasks[0].identifier if len(tasks) == 1 else folder_name)


def check(functions: Sequence[Function]) -> None:
    """See that each task and each service is there once.

    Raises:
        ConfigurationError: One is not; names both places.
    """
    places: dict[str, TaskFacts] = {}
    for function in functions:
        for task in function.tasks:
            other = places.setdefault(task.identifier, task)
            if other is not task:
                raise ConfigurationError(
                    f"the task {task.identifier!r} is at {other.location} and at {task.location}: rename one of them"
                )
    dns_names(function.tasks[0].identifier for function in functions if len(function.tasks) == 1)
    owners: dict[str, Function] = {}
    for function in functions:
        if function.name in RESERVED_NAMES:
            raise ConfigurationError(
                f"the function at {function.tasks[0].location} would be called {function.name!r}, as a part of the "
                "job service is: rename its task, or its folder where it holds several"
            )
        if (first := owners.setdefault(function.name, function)) is not function:
            raise ConfigurationError(
                f"the functions at {first.tasks[0].location} and {function.tasks[0].location} would both be the "
                f"service {function.name!r}: rename the folder of one, or its task"
            )


def function_urls(functions: Iterable[Function], *, namespace: str) -> dict[str, str]:
    """Where the tasks live that cannot be found by their own names: those that share a function."""
    return {
        task.identifier: task_url(f"http://{function.name}.{namespace}.svc.cluster.local", task.identifier)
        for function in functions
        if len(function.tasks) > 1
        for task in function.tasks
    }


def service(function: Function, *, namespace: str, limits: Limits) -> Manifest:
    """The Knative Service of one function, within reach of the cluster alone."""
    timeout_seconds = function.timeout_seconds(limits)
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": function.name,
            "namespace": namespace,
            "labels": FUNCTION_LABELS | {"networking.knative.dev/visibility": "cluster-local"},
            "annotations": {"jobfn.dev/tasks": " ".join(task.identifier for task in function.tasks)},
        },
        "spec": {
            "template": {
                "metadata": {
                    "labels": dict(FUNCTION_LABELS),
                    "annotations": {
                        # a container without requests may be taken away, and a background job with it
                        "autoscaling.knative.dev/min-scale": str(max(limits.min_scale, int(function.has_background))),
                        "autoscaling.knative.dev/max-scale": str(limits.max_scale),
                    },
                },
                "spec": {
                    "automountServiceAccountToken": False,
                    "containerConcurrency": limits.concurrency,
                    "timeoutSeconds": timeout_seconds,
                    # a function answers when its job has ended, so the two are the same
                    "responseStartTimeoutSeconds": timeout_seconds,
                    "containers": [_container(function)],
                },
            }
        },
    }


def _container(function: Function) -> Manifest:
    return {
        "image": function.image,
        "ports": [{"containerPort": PORT}],
        "env": [
            {"name": "JOBFN_INVOKE_SECRET", "valueFrom": {"secretKeyRef": INVOKE_SECRET | {"optional": True}}},
        ],
        # the function's own settings and secrets, where there are some
        "envFrom": [
            {"configMapRef": {"name": function.name, "optional": True}},
            {"secretRef": {"name": function.name, "optional": True}},
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz"}},
        "livenessProbe": {"httpGet": {"path": "/healthz"}, "periodSeconds": 10, "failureThreshold": 3},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": security_context(),
    }


def security_context() -> Manifest:
    """What a container may do: nothing that a job needs a container for."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def network_policy(*, namespace: str, ingress_namespaces: Sequence[str]) -> Manifest:
    """Functions hear Knative, which carries the worker's requests, and nobody else."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "jobs-functions", "namespace": namespace, "labels": dict(FUNCTION_LABELS)},
        "spec": {
            "podSelector": {"matchLabels": dict(FUNCTION_LABELS)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [
                        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
                        for name in ingress_namespaces
                    ]
                }
            ],
        },
    }


def notes(functions: Iterable[Function], limits: Limits, urls: Mapping[str, str]) -> list[str]:
    """What whoever applies this has to know, one sentence each."""
    said = []
    for function in functions:
        timeout_seconds = function.timeout_seconds(limits)
        if timeout_seconds > MAX_TIMEOUT_SECONDS:
            said.append(
                f"{function.name} may take {timeout_seconds} seconds: Knative refuses more than {MAX_TIMEOUT_SECONDS} "
                "unless max-revision-timeout-seconds in config-defaults is raised; "
                "or make it @task(..., background=True)"
            )
        if function.has_background and limits.min_scale == 0:
            said.append(f"{function.name} has background tasks, so one container is always there (min-scale 1)")
    if urls:
        said.append(
            f"workers elsewhere need JOBS_FUNCTION_URLS for {', '.join(urls)}: several tasks share one function"
        )
    return said
