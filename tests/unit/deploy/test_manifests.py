"""Generated manifests: the schemas of Kubernetes and Knative, and what schemas do not check."""

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfn.deploy.knative import Function, Limits
from jobfn.deploy.manifests import kustomize_base, write_files
from jobfn.errors import ConfigurationError
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings
from support.deploy import function, generate, options
from support.manifests import of_kind, pod_labels, validate

#: Ports that Knative's proxy uses in each pod.
KNATIVE_PORTS = {8008, 8012, 8013, 8022, 9090, 9091}


ALL = options(function("email:send_email"), function("a", "b", folder="two"), function("slow", background=True))


def test_manifests_match_the_published_schemas() -> None:
    manifests = generate(ALL)
    for manifest in manifests:
        validate(manifest)
    kinds = sorted(manifest["kind"] for manifest in manifests)
    assert kinds == sorted(
        ["Service"] * 4 + ["Deployment", "ConfigMap", "NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget"]
    )


def test_function_keeps_knative_s_container_contract() -> None:
    for service in of_kind(generate(ALL), "Service", "serving"):
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


def test_each_function_has_its_own_secret_where_the_worker_derives_them() -> None:
    derived = replace(ALL, secret_per_function=True)
    manifests = generate(derived)
    for manifest in manifests:
        validate(manifest)
    references = {
        workload["metadata"]["name"]: workload["spec"]["template"]["spec"]["containers"][0]["env"]
        for workload in of_kind(manifests, "Deployment") + of_kind(manifests, "Service", "serving")
    }
    assert references == {
        name: [{"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": variable}}}]
        for name, secret, variable in (
            ("jobs-service", "jobs-invoke", "JOBFN_INVOKE_KEY"),
            ("email-send-email", "jobs-invoke-email-send-email", "JOBFN_INVOKE_SECRET"),
            ("two", "jobs-invoke-two", "JOBFN_INVOKE_SECRET"),
            ("slow", "jobs-invoke-slow", "JOBFN_INVOKE_SECRET"),
        )
    }
    assert derived.notes[-1] == (
        "create the secret of slow: kubectl --namespace jobs create secret generic jobs-invoke-slow "
        '--from-literal=JOBFN_INVOKE_SECRET="$(jobfn invoke-secret http://slow.jobs.svc.cluster.local)"'
    )
    with pytest.raises(ConfigurationError, match="the reserved name 'jobs-invoke-two'"):
        generate(options(function("jobs-invoke-two")))


def test_containers_have_no_privileges() -> None:
    manifests = generate(ALL)
    for workload in of_kind(manifests, "Deployment") + of_kind(manifests, "Service", "serving"):
        spec = workload["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        context = container["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 65532)
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert spec["automountServiceAccountToken"] is False
        assert container["resources"]["limits"]["memory"]


def test_selectors_and_references_match_objects() -> None:
    manifests = generate(ALL)
    selectors = [manifest["spec"]["selector"] for manifest in of_kind(manifests, "Service", "v1")]
    selectors += [manifest["spec"]["selector"]["matchLabels"] for manifest in of_kind(manifests, "PodDisruptionBudget")]
    for policy in of_kind(manifests, "NetworkPolicy"):
        selectors.append(policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"]["ingress"]:
            selectors += [peer["podSelector"]["matchLabels"] for peer in rule["from"] if "podSelector" in peer]
    for selector in selectors:
        assert [labels for labels in pod_labels(manifests) if selector.items() <= labels.items()], selector
    (deployment,) = of_kind(manifests, "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    (callbacks,) = of_kind(manifests, "Service", "v1")
    names = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in callbacks["spec"]["ports"]} <= names
    (config,) = of_kind(manifests, "ConfigMap")
    assert {"configMapRef": {"name": config["metadata"]["name"]}} in container["envFrom"]


def test_roles_can_have_a_deployment_each() -> None:
    manifests = generate(replace(ALL, splits_roles=True, replicas=3))
    for manifest in manifests:
        validate(manifest)
    deployments = {each["metadata"]["name"]: each["spec"] for each in of_kind(manifests, "Deployment")}
    containers = {name: spec["template"]["spec"]["containers"][0] for name, spec in deployments.items()}
    assert {name: container["args"] for name, container in containers.items()} == {
        "jobs-service-worker": ["--only", "worker"],
        "jobs-service-callbacks": ["--only", "callbacks"],
        "jobs-service-scheduler": ["--only", "scheduler"],
    }
    assert {spec["replicas"] for spec in deployments.values()} == {3}
    for name, container in containers.items():
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        expected = {"health": 12346, "metrics": 9464}
        assert ports == (expected | {"callbacks": 12345} if name == "jobs-service-callbacks" else expected)
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    selectors = [spec["selector"]["matchLabels"] for spec in deployments.values()]
    assert [sum(selector.items() <= labels.items() for labels in pod_labels(manifests)) for selector in selectors] == [
        1
    ] * 3
    (callbacks,) = of_kind(manifests, "Service", "v1")
    assert callbacks["spec"]["selector"]["jobfn.dev/role"] == "callbacks"
    assert len(of_kind(manifests, "PodDisruptionBudget")) == 3


def test_settings_match_the_callback_service() -> None:
    manifests = generate(ALL)
    (config,) = of_kind(manifests, "ConfigMap")
    (callbacks,) = of_kind(manifests, "Service", "v1")
    settings = ServiceSettings.from_environ(config["data"])
    name, namespace = callbacks["metadata"]["name"], callbacks["metadata"]["namespace"]
    port = callbacks["spec"]["ports"][0]["port"]
    assert settings.callback_url == f"http://{name}.{namespace}.svc.cluster.local:{port}/callback"
    assert (settings.callback_port, settings.is_production) == (port, True)
    (deployment,) = of_kind(manifests, "Deployment")
    template = deployment["spec"]["template"]
    ports = {named["name"]: named["containerPort"] for named in template["spec"]["containers"][0]["ports"]}
    assert ports == {
        "callbacks": settings.callback_port,
        "health": settings.health_port,
        "metrics": settings.metrics_port,
    }
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(settings.metrics_port)


PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
IDENTIFIERS = st.lists(st.text(PRINTABLE, min_size=1, max_size=MAX_TASK_IDENTIFIER_CHARACTERS), min_size=1, max_size=5)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # slow machines
@given(st.lists(IDENTIFIERS, min_size=1, max_size=4))
def test_worker_routes_each_task_to_its_service(groups: list[list[str]]) -> None:
    functions = [function(*tasks, folder=f"folder-{number}") for number, tasks in enumerate(groups)]
    try:
        manifests = generate(options(*functions))
    except ConfigurationError as error:
        assert "rename" in str(error)  # noqa: PT017  - generated names can collide
        return
    (config,) = of_kind(manifests, "ConfigMap")
    settings = ServiceSettings.from_environ(config["data"])
    routes = Routes.from_settings(settings)
    hosts = {
        f"{service['metadata']['name']}.jobs.svc.cluster.local" for service in of_kind(manifests, "Service", "serving")
    }
    for function_ in functions:
        for task in function_.tasks:
            url = urlsplit(routes.url_for(task.identifier))
            assert url.hostname in hosts
            assert url.hostname == f"{function_.name}.jobs.svc.cluster.local"
            assert (url.path == "") == (len(function_.tasks) == 1)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([function("a:b"), function("a.b")], "the tasks 'a:b' and 'a.b' have the same DNS name, 'a-b'"),
        ([function("x", "y"), function("y", folder="z")], "the task 'y' is at y.py:1 and at y.py:1: rename"),
        ([function("x", "y"), function("shop")], "are both named 'shop': rename"),
        ([function("jobs_secrets")], "has the reserved name 'jobs-secrets' of the job service"),
        ([function("p", "q", folder="jobs-callback")], "has the reserved name 'jobs-callback'"),
    ],
)
def test_names_that_are_not_unique_are_rejected(functions: list[Function], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kustomize_base(options(*functions))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tasks", "seconds"),
    [
        ({"timeout_seconds": None}, 300),
        ({"timeout_seconds": 299.5}, 310),
        ({"timeout_seconds": 900}, 910),
        ({"timeout_seconds": 900, "background": True}, 300),
    ],
)
def test_request_timeout_exceeds_the_task_timeout(tasks: dict[str, Any], seconds: int) -> None:
    (service,) = of_kind(generate(options(function("t", **tasks))), "Service", "serving")
    assert service["spec"]["template"]["spec"]["timeoutSeconds"] == seconds


def test_limits_are_in_the_manifest() -> None:
    limits = Limits(concurrency=3, timeout_seconds=40, min_scale=2, max_scale=5)
    (service,) = of_kind(generate(options(function("t"), limits=limits)), "Service", "serving")
    template = service["spec"]["template"]
    assert (template["spec"]["containerConcurrency"], template["spec"]["timeoutSeconds"]) == (3, 40)
    assert sorted(template["metadata"]["annotations"].values()) == ["2", "5"]
    (service,) = of_kind(generate(options(function("t", background=True))), "Service", "serving")
    assert service["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "1"


def test_notes_name_what_to_configure() -> None:
    selected = options(function("t", timeout_seconds=900), function("a", "b", background=True), service_image=None)
    assert [note.split(":")[0] for note in selected.notes] == [
        "t has a timeout of 910 seconds, and Knative's maximum is 600",
        "shop has background tasks, so one container always runs (min-scale 1)",
        "a, b share a function",
        "functions may not reach a callback server elsewhere",
    ]
    assert options(function("t")).notes == []


def test_job_service_without_functions(tmp_path: Path) -> None:
    selected = options(gateway_url="http://gateway.platform:8080")
    texts = kustomize_base(selected)
    assert not [path for path in texts if path.parts[0] == "functions"]
    config = yaml.safe_load(texts[PurePosixPath("service/config.yaml")])
    assert config["data"]["KNATIVE_SERVICE_URL"] == "http://gateway.platform:8080"
    assert "JOBS_FUNCTION_URLS" not in config["data"]
    assert write_files(texts, tmp_path, force=False) == sorted(texts)


def test_tasks_of_a_shared_function_are_in_function_urls() -> None:
    (config,) = of_kind(generate(options(function("a:x", "b", folder="Two Things"))), "ConfigMap")
    assert json.loads(config["data"]["JOBS_FUNCTION_URLS"]) == {
        "a:x": "http://two-things.jobs.svc.cluster.local/a:x",
        "b": "http://two-things.jobs.svc.cluster.local/b",
    }


def test_files_that_differ_are_replaced_with_force_only(tmp_path: Path) -> None:
    texts = kustomize_base(ALL)
    write_files(texts, tmp_path, force=False)
    assert write_files(texts, tmp_path, force=False) == []
    changed = tmp_path / "service" / "config.yaml"
    changed.write_text("mine")
    (tmp_path / "service" / "deployment.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"has other contents in service/config\.yaml, so nothing was written"):
        write_files(texts, tmp_path, force=False)
    assert changed.read_text() == "mine"
    assert not (tmp_path / "service" / "deployment.yaml").exists()
    assert len(write_files(texts, tmp_path, force=True)) == 2
    assert changed.read_text() != "mine"


def test_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is not writable"):
        write_files(kustomize_base(ALL), tmp_path / "file", force=False)
