"""What lies in this repository is what the commands would write: manifests, overlays, locks, the example's files."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from jobfn.deploy.inspection import tasks_in
from jobfn.deploy.knative import Function, Limits, name_of, service
from jobfn.deploy.manifests import ManifestOptions, files
from support.manifests import Manifest, of_kind, pod_labels, validate

ROOT = Path(__file__).resolve().parents[3]
OVERLAYS = sorted(path.name for path in (ROOT / "deploy" / "overlays").iterdir())


def function_in(folder: str, image: str) -> Function:
    tasks = tasks_in(str(ROOT / folder / "functions.py"))
    name = name_of(Path(folder).name, tasks)
    return Function(name=name, image=image.replace("{function}", name), tasks=tasks)


def test_the_base_is_what_jobfn_manifests_writes() -> None:
    """docs/deploy-knative.md has the command."""
    wanted = ManifestOptions(
        namespace="jobs",
        functions=[function_in("examples/send_email", "registry.example.com/{function}:latest")],
        service_image="registry.example.com/jobs:latest",
    )
    base = ROOT / "deploy" / "base"
    written = {path.relative_to(base): path.read_text() for path in base.rglob("*.yaml")}
    assert written == {Path(path): text for path, text in files(wanted).items()}


@pytest.mark.parametrize(
    ("folder", "image"),
    [("templates/function", "template-image"), ("examples/send_email", "registry.example.com/send-email:latest")],
)
def test_a_function_s_own_manifest_is_that_too(folder: str, image: str) -> None:
    """knative/service.yaml: the Knative service alone."""
    expected = service(function_in(folder, image), namespace="jobs", limits=Limits())
    assert yaml.safe_load((ROOT / folder / "knative" / "service.yaml").read_text()) == expected


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Manifest]]:
    """An overlay as kustomize builds it."""
    kustomize = shutil.which("kustomize")
    if kustomize is None:
        pytest.skip("kustomize is not installed: apt-get install kustomize")
    built = subprocess.run(
        [kustomize, "build", str(ROOT / "deploy" / "overlays" / request.param)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return request.param, list(yaml.safe_load_all(built.stdout))


def test_overlays_make_what_kubernetes_takes(overlay: tuple[str, list[Manifest]]) -> None:
    """Each object fits its schema still, and is in the namespace."""
    _, manifests = overlay
    assert manifests
    for manifest in manifests:
        validate(manifest)
        assert manifest["metadata"]["namespace"] == "jobs"


def test_each_overlay_does_what_it_is_for(overlay: tuple[str, list[Manifest]]) -> None:
    """Which parts, how many, where to."""
    name, manifests = overlay
    functions = of_kind(manifests, "Service", "serving")
    deployments = of_kind(manifests, "Deployment")
    assert (len(functions), len(deployments)) == {
        "development": (1, 1),
        "production": (1, 1),
        "under-node-worker": (1, 0),
        "before-node-functions": (0, 1),
    }[name]
    if name == "development":
        assert (deployments[0]["spec"]["replicas"], of_kind(manifests, "PodDisruptionBudget")) == (1, [])
        data = {found["metadata"]["name"]: found["data"] for found in of_kind(manifests, "ConfigMap")}
        assert data["send-email"] == {"SEND_EMAIL_DRY_RUN": "true"}
        assert data["jobs-config"]["LOG_LEVEL"] == "debug"
    if name == "production":
        assert deployments[0]["spec"]["replicas"] == 3
        template = functions[0]["spec"]["template"]
        assert template["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "1"
        assert {variable["name"] for variable in template["spec"]["containers"][0]["env"]} == {
            "JOBFN_INVOKE_SECRET",
            "JOBFN_CALLBACK_ALLOWED_HOSTS",
        }
        assert not [image for image in re.findall(r"'image': '([^']+)'", str(manifests)) if image.endswith(":latest")]
    if name == "before-node-functions":
        (config,) = of_kind(manifests, "ConfigMap")
        assert config["data"]["KNATIVE_SERVICE_URL"] == "http://{task}.functions.svc.cluster.local"
    for made in pod_labels(manifests):
        assert made["app.kubernetes.io/part-of"] == "jobs"


def locked(path: str) -> dict[str, Version]:
    return {
        name: Version(version)
        for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / path).read_text(), re.MULTILINE)
    }


@pytest.mark.parametrize(
    ("lock", "project", "extra"),
    [
        ("locks/service.txt", "pyproject.toml", "worker"),
        ("locks/service.txt", "pyproject.toml", "otel"),
        ("templates/function/requirements.lock", "pyproject.toml", None),
        ("templates/function/requirements.lock", "templates/function/pyproject.toml", None),
        ("examples/send_email/requirements.lock", "pyproject.toml", None),
        ("examples/send_email/requirements.lock", "examples/send_email/pyproject.toml", None),
    ],
)
def test_a_lock_has_what_the_project_asks_for(lock: str, project: str, extra: str | None) -> None:
    """Each dependency in a version that fits: `make lock` makes the locks anew after a change of pyproject.toml."""
    asked = tomllib.loads((ROOT / project).read_text())["project"]
    versions = locked(lock)
    for text in [*asked["dependencies"], *(asked["optional-dependencies"][extra] if extra else [])]:
        requirement = Requirement(text)
        if requirement.name != "jobfn":
            assert versions[requirement.name] in requirement.specifier


@pytest.mark.parametrize(
    "lock",
    [
        "locks/build.txt",
        "locks/service.txt",
        "templates/function/requirements.lock",
        "examples/send_email/requirements.lock",
    ],
)
def test_a_lock_is_exact(lock: str) -> None:
    """Every line is a version with hashes; none names an index or a place."""
    lines = (ROOT / lock).read_text().splitlines()
    shape = re.compile(r"[a-z0-9-]+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not shape.fullmatch(line)] == []


@pytest.mark.parametrize("name", [".gitignore", "wheels/README.md"])
def test_the_example_is_a_project_like_those_of_init(name: str) -> None:
    """What has no names in it is the same."""
    example, template = ROOT / "examples" / "send_email", ROOT / "templates" / "function"
    assert (example / name).read_text() == (template / name).read_text()


def test_the_example_s_dockerfile_is_the_template_s() -> None:
    """But for what it is called."""
    lines = [
        line
        for folder in ("examples/send_email", "templates/function")
        for line in [(ROOT / folder / "Dockerfile").read_text().splitlines()]
    ]
    assert [
        pair
        for pair in zip(*lines, strict=True)
        if pair[0] != pair[1] and "image.title" not in pair[0] and "image.description" not in pair[0]
    ] == []
