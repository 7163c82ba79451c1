"""Validation of manifests with the published schemas of Kubernetes and Knative."""

from typing import Any

import kubernetes_validate
from cloudcoil.models.knative_serving.serving.v1 import Service as KnativeService

Manifest = dict[str, Any]
KUBERNETES = "1.31"


def validate(manifest: Manifest) -> None:
    """Fail if a field is unknown, missing or has another type."""
    if manifest["apiVersion"] != "serving.knative.dev/v1":
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    # the models drop unknown fields, so compare with what is left
    model = KnativeService.model_validate(manifest)
    dumped = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert dumped == manifest, f"unknown fields in {manifest['metadata']['name']}"


def of_kind(manifests: list[Manifest], kind: str, api: str = "") -> list[Manifest]:
    """Return the manifests of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind and manifest["apiVersion"].startswith(api)]


def pod_labels(manifests: list[Manifest]) -> list[dict[str, str]]:
    """Return the labels of the pods of the manifests."""
    workloads = of_kind(manifests, "Deployment") + of_kind(manifests, "Service", "serving.knative.dev")
    return [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads]
