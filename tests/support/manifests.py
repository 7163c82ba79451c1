"""Whether Kubernetes and Knative would take a manifest: their published schemas, as packages of the index ship them."""

from typing import Any

import kubernetes_validate
from cloudcoil.models.knative_serving.serving.v1 import Service as KnativeService

Manifest = dict[str, Any]
KUBERNETES = "1.31"


def validate(manifest: Manifest) -> None:
    """Raise where a field has another type than the schema's, is not in it, or is missing."""
    if manifest["apiVersion"] != "serving.knative.dev/v1":
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    # the models ignore what they do not know: what comes back is what they knew
    known = KnativeService.model_validate(manifest)
    back = known.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert back == manifest, f"Knative's schema does not have all of {manifest['metadata']['name']}"


def of_kind(manifests: list[Manifest], kind: str, api: str = "") -> list[Manifest]:
    """The manifests of one kind."""
    return [found for found in manifests if found["kind"] == kind and found["apiVersion"].startswith(api)]


def pod_labels(manifests: list[Manifest]) -> list[dict[str, str]]:
    """The labels of the pods that the manifests make."""
    made = of_kind(manifests, "Deployment") + of_kind(manifests, "Service", "serving.knative.dev")
    return [found["spec"]["template"]["metadata"]["labels"] for found in made]
