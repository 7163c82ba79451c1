"""What Kubernetes is told of the job service (worker, callback server, scheduler): pure.

Two processes or more, all of them everything: they share the work through the database, and whichever hears a report
settles it. ``manifests.py`` puts it together with the functions.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobfn.deploy.knative import FUNCTION_LABELS, INVOKE_SECRET, Manifest, security_context

CALLBACK_PORT = 12345
METRICS_PORT = 9464
#: Whose pods may scrape.
MONITORING_NAMESPACE = "monitoring"
NAME = "jobs-service"
#: The callback server's host is named so in the contract.
CALLBACK_NAME = "jobs-callback"
CONFIG_NAME = "jobs-config"
#: Made by hand, once: it holds DATABASE_URL and JOBS_CALLBACK_SECRET.
SECRET_NAME = "jobs-secrets"  # noqa: S105  - what it is called
LABELS = {"app.kubernetes.io/part-of": "jobs", "app.kubernetes.io/component": "service"}
#: Longer than JOBS_SHUTDOWN_TIMEOUT_SECONDS, which is how long running jobs may take.
_GRACE_SECONDS = 40


@dataclass(frozen=True)
class Platform:
    """The job service of one namespace.

    Attributes:
        image: Of its container.
        namespace: Where it runs.
        gateway_url: ``KNATIVE_SERVICE_URL``.
        function_urls: ``JOBS_FUNCTION_URLS``.
        replicas: How many processes.
    """

    image: str
    namespace: str
    gateway_url: str
    function_urls: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 2


def config(platform: Platform) -> Manifest:
    """The service's settings that are no secrets."""
    data = {
        "KNATIVE_SERVICE_URL": platform.gateway_url,
        "INTERNAL_JOBS_CALLBACK_URL": (
            f"http://{CALLBACK_NAME}.{platform.namespace}.svc.cluster.local:{CALLBACK_PORT}/callback"
        ),
        "INTERNAL_JOBS_CALLBACK_PORT": str(CALLBACK_PORT),
        "JOBS_METRICS_PORT": str(METRICS_PORT),
        "JOBFN_ENV": "production",
    }
    if platform.function_urls:
        data["JOBS_FUNCTION_URLS"] = json.dumps(dict(platform.function_urls))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(CONFIG_NAME, platform), "data": data}


def deployment(platform: Platform) -> Manifest:
    """The processes. Their ids are their pods' names, which Kubernetes puts into ``HOSTNAME``."""
    probe = {"httpGet": {"path": "/healthz", "port": "callbacks"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(NAME, platform),
        "spec": {
            "replicas": platform.replicas,
            "selector": {"matchLabels": dict(LABELS)},
            "template": {
                "metadata": {
                    "labels": dict(LABELS),
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT)},
                },
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": _GRACE_SECONDS,
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": dict(LABELS)},
                        }
                    ],
                    "containers": [
                        {
                            "name": "service",
                            "image": platform.image,
                            "ports": [
                                {"name": "callbacks", "containerPort": CALLBACK_PORT},
                                {"name": "metrics", "containerPort": METRICS_PORT},
                            ],
                            "envFrom": [
                                {"configMapRef": {"name": CONFIG_NAME}},
                                {"secretRef": {"name": SECRET_NAME}},
                            ],
                            "env": [
                                {
                                    "name": "JOBFN_INVOKE_SECRET",
                                    "valueFrom": {"secretKeyRef": INVOKE_SECRET | {"optional": True}},
                                }
                            ],
                            "startupProbe": probe | {"periodSeconds": 2, "failureThreshold": 30},
                            "readinessProbe": dict(probe),
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


def callback_service(platform: Platform) -> Manifest:
    """Where functions report."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(CALLBACK_NAME, platform),
        "spec": {
            "selector": dict(LABELS),
            "ports": [{"name": "callbacks", "port": CALLBACK_PORT, "targetPort": "callbacks"}],
        },
    }


def network_policy(platform: Platform) -> Manifest:
    """The callback server hears functions, the metrics' port what scrapes, and nobody else."""
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


def disruption_budget(platform: Platform) -> Manifest:
    """One process stays while nodes are drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(NAME, platform),
        "spec": {"minAvailable": 1, "selector": {"matchLabels": dict(LABELS)}},
    }


def _metadata(name: str, platform: Platform) -> Manifest:
    return {"name": name, "namespace": platform.namespace, "labels": dict(LABELS)}
