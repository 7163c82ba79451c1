"""Manifests: what Kubernetes' and Knative's schemas say of them, and what schemas do not say."""

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pydantic
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfn.deploy.inspection import TaskFacts
from jobfn.deploy.knative import Function, Limits, name_of
from jobfn.deploy.manifests import ManifestOptions, files, stream, write
from jobfn.errors import ConfigurationError
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS
from jobfn.worker.dispatch import Routes
from jobfn.worker.settings import ServiceSettings
from support.manifests import Manifest, of_kind, pod_labels, validate

#: Ports of Knative's own proxy beside each container.
KNATIVE_PORTS = {8008, 8012, 8013, 8022, 9090, 9091}


def facts(identifier: str, **more: Any) -> TaskFacts:
    return TaskFacts(identifier=identifier, description="", payload={}, location=f"{identifier}.py:1", **more)


def function(*identifiers: str, folder: str = "shop", **more: Any) -> Function:
    tasks = [facts(identifier, **more) for identifier in identifiers]
    return Function(name=name_of(folder, tasks), image="registry.example.com/shop:1", tasks=tasks)


def wanted(*functions: Function, **more: Any) -> ManifestOptions:
    return ManifestOptions(
        **{"namespace": "jobs", "functions": functions, "service_image": "registry.example.com/jobs:1"} | more
    )


def manifests(what: ManifestOptions) -> list[Manifest]:
    return list(yaml.safe_load_all(stream(what)))


ALL = wanted(function("email:send_email"), function("a", "b", folder="two"), function("slow", background=True))


def test_kubernetes_and_knative_take_them() -> None:
    """Each object fits its published schema: no field of another name or type."""
    found = manifests(ALL)
    for manifest in found:
        validate(manifest)
    kinds = sorted(manifest["kind"] for manifest in found)
    assert kinds == sorted(
        ["Service"] * 4 + ["Deployment", "ConfigMap", "NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget"]
    )


def test_the_schemas_can_refuse() -> None:
    """What the test above relies on: a field that is not there, and one of another type, are found."""
    service = of_kind(manifests(ALL), "Service", "serving")[0]
    service["spec"]["template"]["spec"]["containerConcurency"] = 1
    with pytest.raises(AssertionError, match="does not have all of"):
        validate(service)
    service = of_kind(manifests(ALL), "Service", "serving")[0]
    service["spec"]["template"]["spec"]["timeoutSeconds"] = "long"
    with pytest.raises(pydantic.ValidationError):
        validate(service)
    deployment = of_kind(manifests(ALL), "Deployment")[0]
    deployment["spec"]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validate(deployment)


def test_a_function_keeps_the_container_contract() -> None:
    """One container, one port that is not Knative's, PORT left to Knative, probes, no reach from outside."""
    for service in of_kind(manifests(ALL), "Service", "serving"):
        assert service["metadata"]["labels"]["networking.knative.dev/visibility"] == "cluster-local"
        spec = service["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        (port,) = container["ports"]
        assert port["containerPort"] not in KNATIVE_PORTS
        assert not {variable["name"] for variable in container["env"]} & {"PORT", "K_SERVICE", "K_REVISION"}
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert "port" not in container["readinessProbe"]["httpGet"]
        assert spec["responseStartTimeoutSeconds"] == spec["timeoutSeconds"]


def test_no_container_may_more_than_it_needs() -> None:
    """Not root, nothing to write to, no capability, no token of the cluster's, memory with an end."""
    found = manifests(ALL)
    for made in of_kind(found, "Deployment") + of_kind(found, "Service", "serving"):
        spec = made["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        context = container["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 65532)
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert spec["automountServiceAccountToken"] is False
        assert container["resources"]["limits"]["memory"]


def test_everything_that_is_selected_is_there() -> None:
    """Service, policies and budget name labels that pods have; ports by their names; what a pod refers to exists."""
    found = manifests(ALL)
    selectors = [manifest["spec"]["selector"] for manifest in of_kind(found, "Service", "v1")]
    selectors += [manifest["spec"]["selector"]["matchLabels"] for manifest in of_kind(found, "PodDisruptionBudget")]
    for policy in of_kind(found, "NetworkPolicy"):
        selectors.append(policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"]["ingress"]:
            selectors += [peer["podSelector"]["matchLabels"] for peer in rule["from"] if "podSelector" in peer]
    for selector in selectors:
        assert [labels for labels in pod_labels(found) if selector.items() <= labels.items()], selector
    (deployment,) = of_kind(found, "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    (callbacks,) = of_kind(found, "Service", "v1")
    names = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in callbacks["spec"]["ports"]} <= names
    (config,) = of_kind(found, "ConfigMap")
    assert {"configMapRef": {"name": config["metadata"]["name"]}} in container["envFrom"]


def test_the_service_is_reached_where_its_own_setting_says() -> None:
    """INTERNAL_JOBS_CALLBACK_URL is the Service's name, namespace and port; the settings are ones it can read."""
    found = manifests(ALL)
    (config,) = of_kind(found, "ConfigMap")
    (callbacks,) = of_kind(found, "Service", "v1")
    settings = ServiceSettings.from_environ(config["data"])
    name, namespace = callbacks["metadata"]["name"], callbacks["metadata"]["namespace"]
    port = callbacks["spec"]["ports"][0]["port"]
    assert settings.callback_url == f"http://{name}.{namespace}.svc.cluster.local:{port}/callback"
    assert (settings.callback_port, settings.is_production) == (port, True)
    (deployment,) = of_kind(found, "Deployment")
    template = deployment["spec"]["template"]
    ports = {named["name"]: named["containerPort"] for named in template["spec"]["containers"][0]["ports"]}
    assert ports == {"callbacks": settings.callback_port, "metrics": settings.metrics_port}
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(settings.metrics_port)


IDENTIFIERS = st.lists(
    st.text(min_size=1, max_size=MAX_TASK_IDENTIFIER_CHARACTERS).filter(str.isprintable), min_size=1, max_size=5
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.lists(IDENTIFIERS, min_size=1, max_size=4))
def test_the_worker_finds_what_the_manifests_name(groups: list[list[str]]) -> None:
    """Whatever the tasks are called and however they are put together: no job is sent to a host that is no service."""
    functions = [function(*tasks, folder=f"folder-{number}") for number, tasks in enumerate(groups)]
    try:
        found = manifests(wanted(*functions))
    except ConfigurationError as error:
        assert "rename" in str(error)  # noqa: PT017  - the texts can meet: refused with a reason is right as well
        return
    (config,) = of_kind(found, "ConfigMap")
    settings = ServiceSettings.from_environ(config["data"])
    routes = Routes(settings.gateway_url, settings.urls_by_task)
    hosts = {
        f"{service['metadata']['name']}.jobs.svc.cluster.local" for service in of_kind(found, "Service", "serving")
    }
    for made in functions:
        for task in made.tasks:
            url = urlsplit(routes.url_of(task.identifier))
            assert url.hostname in hosts
            assert url.hostname == f"{made.name}.jobs.svc.cluster.local"
            assert (url.path == "") == (len(made.tasks) == 1)


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ([function("a:b"), function("a.b")], "the tasks 'a:b' and 'a.b' have the same DNS name, 'a-b'"),
        ([function("x", "y"), function("y", folder="z")], "the task 'y' is at y.py:1 and at y.py:1: rename"),
        ([function("x", "y"), function("shop")], "would both be the service 'shop': rename"),
        ([function("jobs_secrets")], "would be called 'jobs-secrets', as a part of the job service is"),
        ([function("p", "q", folder="jobs-callback")], "would be called 'jobs-callback'"),
    ],
)
def test_what_would_meet_is_refused(functions: list[Function], said: str) -> None:
    """Two services of one name, a task in two functions, a function in the place of the job service."""
    with pytest.raises(ConfigurationError) as caught:
        files(wanted(*functions))
    assert said in str(caught.value)


def test_nothing_wanted_is_an_error() -> None:
    """Neither functions nor the job service."""
    with pytest.raises(ConfigurationError, match="nothing to write"):
        files(ManifestOptions(namespace="jobs"))


@pytest.mark.parametrize(
    ("tasks", "seconds"),
    [
        ({"timeout_seconds": None}, 300),
        ({"timeout_seconds": 30}, 300),
        ({"timeout_seconds": 299.5}, 310),
        ({"timeout_seconds": 900}, 910),
        ({"timeout_seconds": 900, "background": True}, 300),
    ],
)
def test_knative_waits_longer_than_the_task(tasks: dict[str, Any], seconds: int) -> None:
    """The handler's own limit comes first, so that it can report."""
    (service,) = of_kind(manifests(wanted(function("t", **tasks))), "Service", "serving")
    assert service["spec"]["template"]["spec"]["timeoutSeconds"] == seconds


def test_limits_are_what_was_asked_for() -> None:
    """Concurrency, timeout and scale; a function with background tasks keeps one container."""
    limits = Limits(concurrency=3, timeout_seconds=40, min_scale=2, max_scale=5)
    (service,) = of_kind(manifests(wanted(function("t"), limits=limits)), "Service", "serving")
    template = service["spec"]["template"]
    assert (template["spec"]["containerConcurrency"], template["spec"]["timeoutSeconds"]) == (3, 40)
    assert sorted(template["metadata"]["annotations"].values()) == ["2", "5"]
    (service,) = of_kind(manifests(wanted(function("t", background=True))), "Service", "serving")
    assert service["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "1"


def test_what_has_to_be_known_is_said() -> None:
    """Over Knative's limit; always one container; URLs that another worker needs."""
    what = wanted(function("t", timeout_seconds=900), function("a", "b", background=True), service_image=None)
    assert [note.split(":")[0] for note in what.notes] == [
        "t may take 910 seconds",
        "shop has background tasks, so one container is always there (min-scale 1)",
        "workers elsewhere need JOBS_FUNCTION_URLS for a, b",
    ]
    assert replace(what, functions=[function("t")]).notes == []


def test_the_job_service_alone(tmp_path: Path) -> None:
    """Without functions there is nothing of Knative, and the gateway may be another's."""
    what = wanted(gateway_url="http://gateway.platform:8080")
    texts = files(what)
    assert not [path for path in texts if path.parts[0] == "functions"]
    config = yaml.safe_load(texts[PurePosixPath("service/config.yaml")])
    assert config["data"]["KNATIVE_SERVICE_URL"] == "http://gateway.platform:8080"
    assert "JOBS_FUNCTION_URLS" not in config["data"]
    assert write(texts, tmp_path, force=False) == sorted(texts)


def test_several_tasks_of_one_function_are_told_to_the_worker() -> None:
    """As JSON, by the identifiers as they are."""
    (config,) = of_kind(manifests(wanted(function("a:x", "b", folder="Two Things"))), "ConfigMap")
    assert json.loads(config["data"]["JOBS_FUNCTION_URLS"]) == {
        "a:x": "http://two-things.jobs.svc.cluster.local/a:x",
        "b": "http://two-things.jobs.svc.cluster.local/b",
    }


def test_files_of_another_content_are_kept(tmp_path: Path) -> None:
    """Nothing is written then; what is the same is no conflict; force replaces."""
    texts = files(ALL)
    write(texts, tmp_path, force=False)
    assert write(texts, tmp_path, force=False) == []
    changed = tmp_path / "service" / "config.yaml"
    changed.write_text("mine")
    (tmp_path / "service" / "deployment.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"has other contents in service/config\.yaml: nothing was written"):
        write(texts, tmp_path, force=False)
    assert changed.read_text() == "mine"
    assert not (tmp_path / "service" / "deployment.yaml").exists()
    assert len(write(texts, tmp_path, force=True)) == 2
    assert changed.read_text() != "mine"


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    """A file in the way is one line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written to"):
        write(files(ALL), tmp_path / "file", force=False)
