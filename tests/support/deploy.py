"""Functions for manifests, and the manifests of options."""

from typing import Any

import yaml

from jobfn.deploy.inspection import TaskInfo
from jobfn.deploy.knative import Function, service_name
from jobfn.deploy.manifests import ManifestOptions, as_stream
from support.manifests import Manifest


def task_info(identifier: str, **more: Any) -> TaskInfo:
    return TaskInfo(identifier=identifier, description="", payload={}, location=f"{identifier}.py:1", **more)


def function(*identifiers: str, folder: str = "shop", **more: Any) -> Function:
    tasks = [task_info(identifier, **more) for identifier in identifiers]
    return Function(name=service_name(folder, tasks), image="registry.example.com/shop:1", tasks=tasks)


def options(*functions: Function, **more: Any) -> ManifestOptions:
    return ManifestOptions(
        **{"namespace": "jobs", "functions": functions, "service_image": "registry.example.com/jobs:1"} | more
    )


def generate(manifest_options: ManifestOptions) -> list[Manifest]:
    return list(yaml.safe_load_all(as_stream(manifest_options)))
