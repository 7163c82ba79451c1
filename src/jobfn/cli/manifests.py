"""``jobfn manifests``: what a cluster is told of functions and of the job service."""

from pathlib import Path
from typing import Annotated

import typer

from jobfn.deploy.inspection import target_in, tasks_in
from jobfn.deploy.knative import Function, Limits, name_of
from jobfn.deploy.manifests import INGRESS_NAMESPACES, ManifestOptions, files, stream, write
from jobfn.errors import ConfigurationError

EXAMPLE = (
    "example: jobfn manifests orders/ emails/ --image 'registry.example.com/{function}:1.0' "
    "--service-image registry.example.com/jobs:1.0 --output deploy/base"
)


def register_commands(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("manifests", epilog=EXAMPLE)(manifests_command)


def manifests_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Functions: each a folder with a functions.py, or a Python file."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(help="The functions' image; {function} in it is the service's name.", show_default=False),
    ] = None,
    service_image: Annotated[
        str | None, typer.Option(help="The job service's image. Default: no job service.", show_default=False)
    ] = None,
    namespace: Annotated[str, typer.Option(help="Where all of it runs.")] = "jobs",
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Requests at a time for one container.")] = 16,
    timeout_seconds: Annotated[
        int, typer.Option(min=1, help="How long a request may take; longer where a task's own timeout is.")
    ] = 300,
    min_scale: Annotated[int, typer.Option(min=0, help="Containers that are always there.")] = 0,
    max_scale: Annotated[int, typer.Option(min=1, help="Containers at most.")] = 10,
    replicas: Annotated[int, typer.Option(min=1, help="Processes of the job service.")] = 2,
    gateway_url: Annotated[
        str | None,
        typer.Option(help="KNATIVE_SERVICE_URL. Default: each task by its own name, in this namespace."),
    ] = None,
    ingress_namespace: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Whose pods carry requests to functions; repeatable. Default: {' and '.join(INGRESS_NAMESPACES)}."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write a kustomize base there. Default: print one stream of YAML.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files of another content.")] = False,
) -> None:
    """Write Kubernetes manifests: a Knative service for each function, and the job service."""
    if min_scale > max_scale:
        raise ConfigurationError(f"--min-scale {min_scale} is more than --max-scale {max_scale}")
    wanted = ManifestOptions(
        namespace=namespace,
        functions=[_function(path, image) for path in paths or ()],
        limits=Limits(
            concurrency=concurrency, timeout_seconds=timeout_seconds, min_scale=min_scale, max_scale=max_scale
        ),
        service_image=service_image,
        gateway_url=gateway_url,
        replicas=replicas,
        ingress_namespaces=ingress_namespace or INGRESS_NAMESPACES,
    )
    if output is None:
        typer.echo(stream(wanted), nl=False)
    else:
        for path in write(files(wanted), output, force=force):
            typer.echo(f"wrote {output / path}")
    for note in wanted.notes:
        typer.echo(f"note: {note}", err=True)


def _function(path: Path, image: str | None) -> Function:
    if not image:
        raise ConfigurationError(
            "--image is missing: name the functions' image, such as registry.example.com/orders:1.0"
        )
    target = target_in(path)
    tasks = tasks_in(target)
    name = name_of(Path(target).resolve().parent.name, tasks)
    return Function(name=name, image=image.replace("{function}", name), tasks=tasks)
