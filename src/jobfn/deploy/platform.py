"""Kubernetes manifests of the job service: worker, callback server and scheduler.

Every replica runs all roles. They share the work through the database, and any of them can settle a report.
``manifests.py`` combines them with the functions.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobfn.deploy.knative import FUNCTION_LABELS, INVOKE_SECRET, Manifest, security_context

CALLBACK_PORT = 12345
METRICS_PORT = 9464
#: Namespace whose pods may scrape the metrics.
MONITORING_NAMESPACE = "monitoring"
NAME = "jobs-service"
#: Host name of the callback server, given by the contract.
CALLBACK_NAME = "jobs-callback"
CONFIG_NAME = "jobs-config"
#: Created by hand, with DATABASE_URL and JOBS_CALLBACK_SECRET.
SECRET_NAME = "jobs-secrets"  # noqa: S105  - a name
LABELS = {"app.kubernetes.io/part-of": "jobs", "app.kubernetes.io/component": "service"}
#: Grace period of a pod; longer than JOBS_SHUTDOWN_TIMEOUT_SECONDS, the timeout of running jobs.
_GRACE_PERIOD_SECONDS = 40


@dataclass(frozen=True)
class Platform:
    """The job service of one namespace.

    Attributes:
        gateway_url: ``KNATIVE_SERVICE_URL``.
        function_urls: ``JOBS_FUNCTION_URLS``.
    """

    image: str
    namespace: str
    gateway_url: str
    function_urls: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 2


def config(platform: Platform) -> Manifest:
    """Return the settings that are not secret."""
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
    """Return the Deployment. The worker ids are the pods' names, which Kubernetes sets as ``HOSTNAME``."""
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
                    "terminationGracePeriodSeconds": _GRACE_PERIOD_SECONDS,
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
                            "envFrom": [{"configMapRef": {"name": CONFIG_NAME}}, {"secretRef": {"name": SECRET_NAME}}],
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
    """Return the Service that functions report to."""
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


def disruption_budget(platform: Platform) -> Manifest:
    """Return the disruption budget: one pod stays while nodes are drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(NAME, platform),
        "spec": {"minAvailable": 1, "selector": {"matchLabels": dict(LABELS)}},
    }


def _metadata(name: str, platform: Platform) -> Manifest:
    return {"name": name, "namespace": platform.namespace, "labels": dict(LABELS)}
