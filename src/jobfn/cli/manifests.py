"""``jobfn manifests``: generate Kubernetes manifests for functions and the job service."""

from pathlib import Path
from typing import Annotated

import typer

from jobfn.cli.output import echo
from jobfn.deploy.inspection import inspect_tasks, resolve_target
from jobfn.deploy.knative import Function, Limits, service_name
from jobfn.deploy.manifests import INGRESS_NAMESPACES, ManifestOptions, as_stream, kustomize_base, write_files
from jobfn.errors import ConfigurationError

EXAMPLE = (
    "example: jobfn manifests orders/ emails/ --image 'registry.example.com/{function}:1.0' "
    "--service-image registry.example.com/jobs:1.0 --output deploy/base"
)


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("manifests", epilog=EXAMPLE)(manifests_command)


def manifests_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Functions: folders with a functions.py, or Python files."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image of the functions; {function} is the service's name.")] = None,
    service_image: Annotated[
        str | None, typer.Option(help="Image of the job service. Default: no job service.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of all objects.")] = "jobs",
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Concurrent requests per container.")] = 16,
    timeout_seconds: Annotated[
        int, typer.Option(min=1, help="Timeout of a request; longer if a task's own timeout is.")
    ] = 300,
    min_scale: Annotated[int, typer.Option(min=0, help="Minimum number of containers per function.")] = 0,
    max_scale: Annotated[int, typer.Option(min=1, help="Maximum number of containers per function.")] = 10,
    replicas: Annotated[int, typer.Option(min=1, help="Replicas of the job service, or of each of its roles.")] = 2,
    split_roles: Annotated[
        bool, typer.Option("--split-roles", help="One deployment each for worker, callback server and scheduler.")
    ] = False,
    gateway_url: Annotated[
        str | None, typer.Option(help="KNATIVE_SERVICE_URL. Default: one service per task in this namespace.")
    ] = None,
    ingress_namespace: Annotated[
        list[str] | None,
        typer.Option(
            help="Namespace whose pods send requests to functions; repeatable. "
            f"Default: {' and '.join(INGRESS_NAMESPACES)}."
        ),
    ] = None,
    egress: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET[:PORT]",
            help="Namespace, network or any that functions may connect to; repeatable. "
            "Default: DNS and the callback server.",
        ),
    ] = None,
    secret_per_function: Annotated[
        bool,
        typer.Option(
            "--secret-per-function", help="One invoke secret per function, derived from JOBFN_INVOKE_KEY of the worker."
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Write a kustomize base to this folder. Default: print YAML.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that differ.")] = False,
) -> None:
    """Generate Kubernetes manifests.

    A Knative service for each function, and the job service.
    """
    if min_scale > max_scale:
        raise ConfigurationError(f"--min-scale {min_scale} must not exceed --max-scale {max_scale}: lower it")
    if secret_per_function and gateway_url:
        raise ConfigurationError("--secret-per-function needs a host per function: omit --gateway-url")
    options = ManifestOptions(
        namespace=namespace,
        functions=[_function(path, image) for path in paths or ()],
        limits=Limits(
            concurrency=concurrency, timeout_seconds=timeout_seconds, min_scale=min_scale, max_scale=max_scale
        ),
        service_image=service_image,
        gateway_url=gateway_url,
        replicas=replicas,
        splits_roles=split_roles,
        ingress_namespaces=ingress_namespace or INGRESS_NAMESPACES,
        egress=egress or (),
        secret_per_function=secret_per_function,
    )
    if output is None:
        typer.echo(as_stream(options), nl=False)
    else:
        for path in write_files(kustomize_base(options), output, force=force):
            echo(f"wrote {output / path}")
    for note in options.notes:
        echo(f"note: {note}", err=True)


def _function(path: Path, image: str | None) -> Function:
    if not image:
        raise ConfigurationError("--image is missing: name the image of the functions: registry.example.com/orders:1.0")
    target = resolve_target(path)
    tasks = inspect_tasks(target)
    name = service_name(Path(target).resolve().parent.name, tasks)
    return Function(name=name, image=image.replace("{function}", name), tasks=tasks)
