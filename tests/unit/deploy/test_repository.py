"""Overlays, locks and the example of this repository are consistent with the generators."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from jobfn.deploy.inspection import inspect_tasks
from jobfn.deploy.knative import Function, service_name
from jobfn.deploy.manifests import ManifestOptions, kustomize_base, write_files
from support.manifests import Manifest, of_kind, pod_labels, validate

ROOT = Path(__file__).resolve().parents[3]
OVERLAYS = sorted(path.name for path in (ROOT / "deploy" / "overlays").iterdir())


@pytest.fixture(scope="module")
def deploy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The overlays with a generated base, as `make manifests` writes it."""
    kustomize = shutil.which("kustomize")
    if kustomize is None:
        pytest.skip("kustomize is not installed: apt-get install kustomize")
    tasks = inspect_tasks(str(ROOT / "examples" / "send_email" / "functions.py"))
    function = Function(
        name=service_name("send_email", tasks), image="registry.example.com/send-email:latest", tasks=tasks
    )
    options = ManifestOptions(namespace="jobs", functions=[function], service_image="registry.example.com/jobs:latest")
    folder = tmp_path_factory.mktemp("deploy")
    write_files(kustomize_base(options), folder / "base", force=False)
    shutil.copytree(ROOT / "deploy" / "overlays", folder / "overlays")
    return folder


def build(overlay: Path) -> list[Manifest]:
    built = subprocess.run(["kustomize", "build", str(overlay)], capture_output=True, text=True, check=False)  # noqa: S607
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_builds_valid_manifests(deploy_folder: Path, name: str) -> None:
    manifests = build(deploy_folder / "overlays" / name)
    for manifest in manifests:
        validate(manifest)
        assert manifest["metadata"]["namespace"] == "jobs"
    for labels in pod_labels(manifests):
        assert labels["app.kubernetes.io/part-of"] == "jobs"
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
        data = {config["metadata"]["name"]: config["data"] for config in of_kind(manifests, "ConfigMap")}
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


def locked_versions(path: str) -> dict[str, Version]:
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
def test_lock_satisfies_the_project(lock: str, project: str, extra: str | None) -> None:
    metadata = tomllib.loads((ROOT / project).read_text())["project"]
    versions = locked_versions(lock)
    for text in [*metadata["dependencies"], *(metadata["optional-dependencies"][extra] if extra else [])]:
        requirement = Requirement(text)
        if requirement.name != "jobfn":
            assert versions[requirement.name] in requirement.specifier


LOCKS = (
    "locks/build.txt",
    "locks/service.txt",
    "templates/function/requirements.lock",
    "examples/send_email/requirements.lock",
)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_versions_with_hashes_only(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    line_pattern = re.compile(r"[a-z0-9-]+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not line_pattern.fullmatch(line)] == []


@pytest.mark.parametrize("name", [".gitignore", "wheels/README.md", "Dockerfile"])
def test_example_has_the_template_s_files_with_other_labels(name: str) -> None:
    example, template = (
        [line for line in (ROOT / folder / name).read_text().splitlines() if "image." not in line]
        for folder in ("examples/send_email", "templates/function")
    )
    assert example == template
