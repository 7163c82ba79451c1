"""Knative manifests of functions. ``manifests.py`` combines them with the job service.

The service of a function with one task has the DNS name of the task, so that the worker finds it through
``KNATIVE_SERVICE_URL=http://{task}.namespace.svc.cluster.local``. The service of a function with several tasks is named
after its folder, and the worker gets the URL of each task (``JOBS_FUNCTION_URLS``).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobfn.deploy.inspection import TaskInfo
from jobfn.errors import ConfigurationError
from jobfn.wire import task_url
from jobfn.wire.dns_names import dns_name, dns_names

#: Port of the container; Knative sets ``PORT`` to it.
PORT = 8080
#: Id of the Dockerfile's user.
USER_ID = 65532
#: Labels of every function pod, which the network policies select.
FUNCTION_LABELS = {"app.kubernetes.io/part-of": "jobs", "app.kubernetes.io/component": "function"}
#: Maximum timeout in Knative, unless ``max-revision-timeout-seconds`` is raised.
MAX_TIMEOUT_SECONDS = 600
#: Margin between a task's timeout and Knative's, so that the function reports its timeout itself.
_TIMEOUT_MARGIN_SECONDS = 10
#: Secret that workers send and functions require, or the key from which the secrets of functions are derived. The
#: derived secret of a function is in ``jobs-invoke-{function}``.
INVOKE_SECRET_NAME = "jobs-invoke"  # noqa: S105  - a name
#: Names of the job service: a function with such a name would replace its Service or get its secrets.
RESERVED_NAMES = frozenset(
    {
        *("jobs-callback", "jobs-config", "jobs-functions", "jobs-invoke", "jobs-secrets", "jobs-service"),
        *("jobs-service-worker", "jobs-service-callbacks", "jobs-service-scheduler"),
    }
)

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """Scale and timeout of functions.

    Attributes:
        concurrency: Maximum concurrent requests per container; more start another container.
        timeout_seconds: Timeout of a request, unless a task's own timeout is longer.
    """

    concurrency: int = 16
    timeout_seconds: int = 300
    min_scale: int = 0
    max_scale: int = 10


@dataclass(frozen=True)
class Function:
    """A function with the name of its Knative service."""

    name: str
    image: str
    tasks: Sequence[TaskInfo]

    @property
    def has_background(self) -> bool:
        """Whether a task continues after its request is answered."""
        return any(task.background for task in self.tasks)

    def timeout_seconds(self, limits: Limits) -> int:
        """Return the timeout of a request to it, in seconds."""
        longest = max((task.timeout_seconds or 0 for task in self.tasks if not task.background), default=0)
        return max(limits.timeout_seconds, math.ceil(longest) + _TIMEOUT_MARGIN_SECONDS if longest else 0)


def service_name(folder_name: str, tasks: Sequence[TaskInfo]) -> str:
    """Return the name of a function's service: its only task, or its folder if it has several."""
    return dns_name(tasks[0].identifier if len(tasks) == 1 else folder_name)


def check_names(functions: Sequence[Function]) -> None:
    """Check that tasks and services have unique names.

    Raises:
        ConfigurationError: Two tasks or two services have the same name, or a service has a reserved one.
    """
    tasks: dict[str, TaskInfo] = {}
    for function in functions:
        for task in function.tasks:
            other = tasks.setdefault(task.identifier, task)
            if other is not task:
                raise ConfigurationError(
                    f"the task {task.identifier!r} is at {other.location} and at {task.location}: rename one of them"
                )
    dns_names(function.tasks[0].identifier for function in functions if len(function.tasks) == 1)
    owners: dict[str, Function] = {}
    for function in functions:
        if function.name in RESERVED_NAMES or function.name.startswith(f"{INVOKE_SECRET_NAME}-"):
            raise ConfigurationError(
                f"the function at {function.tasks[0].location} has the reserved name {function.name!r} of the job "
                "service: rename its task, or its folder if it has several tasks"
            )
        if (first := owners.setdefault(function.name, function)) is not function:
            raise ConfigurationError(
                f"the functions at {first.tasks[0].location} and {function.tasks[0].location} are both named "
                f"{function.name!r}: rename the folder or the task of one"
            )


def function_urls(functions: Iterable[Function], *, namespace: str) -> dict[str, str]:
    """Return the URLs of the tasks that share a function, by task."""
    return {
        task.identifier: task_url(f"http://{function.name}.{namespace}.svc.cluster.local", task.identifier)
        for function in functions
        if len(function.tasks) > 1
        for task in function.tasks
    }


def invoke_variable(variable: str, secret: str, *, optional: bool) -> Manifest:
    """Return an environment variable that is read from the key of its name in a secret."""
    reference: Manifest = {"name": secret, "key": variable} | ({"optional": True} if optional else {})
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def service(function: Function, *, namespace: str, limits: Limits, has_own_secret: bool = False) -> Manifest:
    """Return the Knative Service of a function, visible within the cluster only.

    Args:
        function: The function.
        namespace: Its namespace.
        limits: Scale and timeout.
        has_own_secret: Whether it has a separate invoke secret, which the worker derives.
    """
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
                        # Knative removes containers without requests, which would end background jobs
                        "autoscaling.knative.dev/min-scale": str(max(limits.min_scale, int(function.has_background))),
                        "autoscaling.knative.dev/max-scale": str(limits.max_scale),
                    },
                },
                "spec": {
                    "automountServiceAccountToken": False,
                    "containerConcurrency": limits.concurrency,
                    "timeoutSeconds": timeout_seconds,
                    # a function responds when the job has ended, so both are the same
                    "responseStartTimeoutSeconds": timeout_seconds,
                    "containers": [_container(function, has_own_secret=has_own_secret)],
                },
            }
        },
    }


def _container(function: Function, *, has_own_secret: bool) -> Manifest:
    secret = f"{INVOKE_SECRET_NAME}-{function.name}" if has_own_secret else INVOKE_SECRET_NAME
    return {
        "image": function.image,
        "ports": [{"containerPort": PORT}],
        "env": [invoke_variable("JOBFN_INVOKE_SECRET", secret, optional=not has_own_secret)],
        # optional settings and secrets of the function
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
    """Return the security context of containers: no privileges, read-only file system."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def network_policy(*, namespace: str, ingress_namespaces: Sequence[str], egress: Sequence[Manifest]) -> Manifest:
    """Return the network policy of functions: only Knative, which forwards the worker's requests, may connect.

    Args:
        namespace: The namespace of the functions.
        ingress_namespaces: Namespaces whose pods may connect.
        egress: Rules of ``egress.py``. What a function sends elsewhere is dropped.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "jobs-functions", "namespace": namespace, "labels": dict(FUNCTION_LABELS)},
        "spec": {
            "podSelector": {"matchLabels": dict(FUNCTION_LABELS)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
                        for name in ingress_namespaces
                    ]
                }
            ],
            "egress": list(egress),
        },
    }


def deployment_notes(functions: Iterable[Function], limits: Limits, urls: Mapping[str, str]) -> list[str]:
    """Return what to know before applying the manifests, a sentence each."""
    notes = []
    for function in functions:
        timeout_seconds = function.timeout_seconds(limits)
        if timeout_seconds > MAX_TIMEOUT_SECONDS:
            notes.append(
                f"{function.name} has a timeout of {timeout_seconds} seconds, and Knative's maximum is "
                f"{MAX_TIMEOUT_SECONDS}: raise max-revision-timeout-seconds in config-defaults, "
                "or use @task(..., background=True)"
            )
        if function.has_background and limits.min_scale == 0:
            notes.append(f"{function.name} has background tasks, so one container always runs (min-scale 1)")
    if urls:
        notes.append(
            f"{', '.join(urls)} share a function: set JOBS_FUNCTION_URLS on workers outside of these manifests"
        )
    return notes


def secret_notes(functions: Iterable[Function], *, namespace: str) -> list[str]:
    """Return how to create the secrets of functions, a sentence each."""
    return [
        f"create the secret of {function.name}: kubectl --namespace {namespace} create secret generic "
        f"{INVOKE_SECRET_NAME}-{function.name} --from-literal=JOBFN_INVOKE_SECRET="
        f'"$(jobfn invoke-secret http://{function.name}.{namespace}.svc.cluster.local)"'
        for function in functions
    ]
