"""All that a cluster is told, as files for kustomize or as one stream of YAML. Pure, but for ``write``.

``knative.py`` says what a function is, ``platform.py`` what the job service is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import yaml

from jobfn.deploy import knative, platform
from jobfn.deploy.knative import Function, Limits, Manifest
from jobfn.errors import ConfigurationError

KUSTOMIZATION = "kustomization.yaml"
#: Where Knative's requests come from: its own parts, and Kourier, which carries them in its default installation.
INGRESS_NAMESPACES = ("knative-serving", "kourier-system")
_HEADER = "# Written by jobfn manifests: change what it was made of and run it again, or change it in an overlay.\n"


@dataclass(frozen=True)
class ManifestOptions:
    """What is to be written.

    Attributes:
        namespace: Where everything runs.
        functions: The functions; may be none.
        limits: How each of them is scaled and cut off.
        service_image: The job service's image; None: it runs elsewhere.
        gateway_url: Where the job service finds functions; None: each by its own name, in this namespace.
        replicas: How many processes of the job service.
        ingress_namespaces: Whose pods carry Knative's requests to functions.
    """

    namespace: str
    functions: Sequence[Function] = ()
    limits: Limits = field(default_factory=Limits)
    service_image: str | None = None
    gateway_url: str | None = None
    replicas: int = 2
    ingress_namespaces: Sequence[str] = INGRESS_NAMESPACES

    @property
    def function_urls(self) -> dict[str, str]:
        """Where the tasks live that share a function with others."""
        return knative.function_urls(self.functions, namespace=self.namespace)

    @property
    def notes(self) -> list[str]:
        """What whoever applies it has to know."""
        return knative.notes(self.functions, self.limits, {} if self.service_image else self.function_urls)


def files(wanted: ManifestOptions) -> dict[PurePosixPath, str]:
    """The files of a kustomize base: one object each, and a list of them in every folder.

    Raises:
        ConfigurationError: Two functions would be one; or there is nothing to write.
    """
    if not wanted.functions and wanted.service_image is None:
        raise ConfigurationError(
            "nothing to write: name a folder with a functions.py, or give --service-image, or both"
        )
    knative.check(wanted.functions)
    folders: dict[str, dict[str, Manifest]] = {}
    if wanted.functions:
        folders["functions"] = _functions(wanted)
    if wanted.service_image is not None:
        folders["service"] = _service(wanted, wanted.service_image)
    texts = {PurePosixPath(KUSTOMIZATION): _kustomization(list(folders))}
    for folder, objects in folders.items():
        texts[PurePosixPath(folder, KUSTOMIZATION)] = _kustomization(list(objects))
        texts |= {PurePosixPath(folder, name): _HEADER + _yaml(object_) for name, object_ in objects.items()}
    return texts


def stream(wanted: ManifestOptions) -> str:
    """All objects one after the other, for ``kubectl apply --filename -``.

    Raises:
        ConfigurationError: As ``files``.
    """
    texts = (text for path, text in files(wanted).items() if path.name != KUSTOMIZATION)
    return "---\n".join(text.removeprefix(_HEADER) for text in texts)


def write(texts: dict[PurePosixPath, str], folder: Path, *, force: bool) -> list[PurePosixPath]:
    """Write the files that differ from what is there; returns their paths, relative to the folder.

    Raises:
        ConfigurationError: A file is there with another content, and ``force`` is false: then none is written; or the
            folder cannot be written to.
    """
    try:
        new = {path: text for path, text in texts.items() if _content(folder / path) != text}
        changed = sorted(str(path) for path in new if (folder / path).exists())
        if changed and not force:
            raise ConfigurationError(
                f"{folder} has other contents in {', '.join(changed)}: nothing was written; "
                "--force replaces them, another --output leaves them"
            )
        for path, text in new.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written to: {error}") from error
    return sorted(new)


def _functions(wanted: ManifestOptions) -> dict[str, Manifest]:
    return {
        f"function_{function.name}.yaml": knative.service(function, namespace=wanted.namespace, limits=wanted.limits)
        for function in wanted.functions
    } | {
        "network_policy.yaml": knative.network_policy(
            namespace=wanted.namespace, ingress_namespaces=wanted.ingress_namespaces
        )
    }


def _service(wanted: ManifestOptions, image: str) -> dict[str, Manifest]:
    service = platform.Platform(
        image=image,
        namespace=wanted.namespace,
        gateway_url=wanted.gateway_url or f"http://{{task}}.{wanted.namespace}.svc.cluster.local",
        function_urls=wanted.function_urls,
        replicas=wanted.replicas,
    )
    return {
        "config.yaml": platform.config(service),
        "deployment.yaml": platform.deployment(service),
        "callback_service.yaml": platform.callback_service(service),
        "network_policy.yaml": platform.network_policy(service),
        "disruption_budget.yaml": platform.disruption_budget(service),
    }


def _kustomization(resources: list[str]) -> str:
    return _HEADER + _yaml(
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
    )


def _yaml(object_: Manifest) -> str:
    return yaml.safe_dump(object_, sort_keys=False, width=120, allow_unicode=True)


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
