"""Kubernetes manifests of the job service: worker, callback server and scheduler.

Every replica runs all roles, or each role has a Deployment. They share the work through the database, and any callback
server can settle a report. ``manifests.py`` combines them with the functions.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobfn.deploy.knative import FUNCTION_LABELS, INVOKE_SECRET_NAME, Manifest, invoke_variable, security_context
from jobfn.worker.settings import ServiceRole

CALLBACK_PORT = 12345
HEALTH_PORT = 12346
METRICS_PORT = 9464
#: Namespace whose pods may scrape the metrics.
MONITORING_NAMESPACE = "monitoring"
NAME = "jobs-service"
#: Host name of the callback server, given by the contract.
CALLBACK_NAME = "jobs-callback"
CONFIG_NAME = "jobs-config"
#: Created by hand, with DATABASE_URL, and JOBS_CALLBACK_SECRET if wanted.
SECRET_NAME = "jobs-secrets"  # noqa: S105  - a name
LABELS = {"app.kubernetes.io/part-of": "jobs", "app.kubernetes.io/component": "service"}
#: Label with the role of a pod that runs one role.
ROLE_LABEL = "jobfn.dev/role"
#: Grace period of a pod; longer than JOBS_SHUTDOWN_TIMEOUT_SECONDS, the timeout of running jobs.
_GRACE_PERIOD_SECONDS = 40


@dataclass(frozen=True)
class Platform:
    """The job service of one namespace.

    Attributes:
        gateway_url: ``KNATIVE_SERVICE_URL``.
        function_urls: ``JOBS_FUNCTION_URLS``.
        replicas: Number of pods of each Deployment.
        splits_roles: Whether each role has a Deployment.
        derives_secrets: Whether each function has a separate invoke secret.
    """

    image: str
    namespace: str
    gateway_url: str
    function_urls: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 2
    splits_roles: bool = False
    derives_secrets: bool = False


def config(platform: Platform) -> Manifest:
    """Return the settings that are not secret."""
    data = {
        "KNATIVE_SERVICE_URL": platform.gateway_url,
        "INTERNAL_JOBS_CALLBACK_URL": (
            f"http://{CALLBACK_NAME}.{platform.namespace}.svc.cluster.local:{CALLBACK_PORT}/callback"
        ),
        "INTERNAL_JOBS_CALLBACK_PORT": str(CALLBACK_PORT),
        "JOBS_HEALTH_PORT": str(HEALTH_PORT),
        "JOBS_METRICS_PORT": str(METRICS_PORT),
        "JOBFN_ENV": "production",
    }
    if platform.function_urls:
        data["JOBS_FUNCTION_URLS"] = json.dumps(dict(platform.function_urls))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(CONFIG_NAME, platform), "data": data}


def deployment(platform: Platform, role: ServiceRole | None = None) -> Manifest:
    """Return the Deployment of a role, or of all roles in one process.

    The worker ids are the pods' names, which Kubernetes sets as ``HOSTNAME``.
    """
    probe = {"httpGet": {"path": "/healthz", "port": "health"}}
    labels = _labels(role)
    ports = {"health": HEALTH_PORT, "metrics": METRICS_PORT}
    if role in {None, ServiceRole.CALLBACKS}:
        ports = {"callbacks": CALLBACK_PORT} | ports
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(_name(role), platform, role),
        "spec": {
            "replicas": platform.replicas,
            "selector": {"matchLabels": dict(labels)},
            "template": {
                "metadata": {
                    "labels": dict(labels),
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT)},
                },
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": _GRACE_PERIOD_SECONDS,
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": dict(labels)},
                        }
                    ],
                    "containers": [
                        {
                            "name": "service",
                            "image": platform.image,
                            **({} if role is None else {"args": ["--only", role.value]}),
                            "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
                            "envFrom": [{"configMapRef": {"name": CONFIG_NAME}}, {"secretRef": {"name": SECRET_NAME}}],
                            "env": [_invoke_variable(platform)],
                            "startupProbe": probe | {"periodSeconds": 2, "failureThreshold": 30},
                            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}},
                            "livenessProbe": probe | {"periodSeconds": 10, "failureThreshold": 3},
                            "resources": {
                                "requests": {"cpu": "100m", "memory": "128Mi"},
                                "limits": {"memory": "512Mi"},
                            },
                            "securityContext": security_context(),
                        }
                    ],
                },
            },
        },
    }


def _invoke_variable(platform: Platform) -> Manifest:
    if platform.derives_secrets:
        return invoke_variable("JOBFN_INVOKE_KEY", INVOKE_SECRET_NAME, optional=False)
    return invoke_variable("JOBFN_INVOKE_SECRET", INVOKE_SECRET_NAME, optional=True)


def callback_service(platform: Platform) -> Manifest:
    """Return the Service that functions report to."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(CALLBACK_NAME, platform),
        "spec": {
            "selector": _labels(ServiceRole.CALLBACKS if platform.splits_roles else None),
            "ports": [{"name": "callbacks", "port": CALLBACK_PORT, "targetPort": "callbacks"}],
        },
    }


def network_policy(platform: Platform) -> Manifest:
    """Return the network policy: functions may reach the callback server, Prometheus the metrics port."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(NAME, platform),
        "spec": {
            "podSelector": {"matchLabels": dict(LABELS)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": dict(FUNCTION_LABELS)}}],
                    "ports": [{"protocol": "TCP", "port": "callbacks"}],
                },
                {
                    "from": [
                        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": MONITORING_NAMESPACE}}}
                    ],
                    "ports": [{"protocol": "TCP", "port": "metrics"}],
                },
            ],
        },
    }


def disruption_budget(platform: Platform, role: ServiceRole | None = None) -> Manifest:
    """Return the disruption budget of a Deployment: one pod stays while nodes are drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(_name(role), platform, role),
        "spec": {"minAvailable": 1, "selector": {"matchLabels": _labels(role)}},
    }


def _name(role: ServiceRole | None) -> str:
    return NAME if role is None else f"{NAME}-{role.value}"


def _labels(role: ServiceRole | None) -> dict[str, str]:
    return dict(LABELS) if role is None else LABELS | {ROLE_LABEL: role.value}


def _metadata(name: str, platform: Platform, role: ServiceRole | None = None) -> Manifest:
    return {"name": name, "namespace": platform.namespace, "labels": _labels(role)}
