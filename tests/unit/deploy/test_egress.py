"""Destinations that the network policy of functions allows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobfn.deploy.manifests import ManifestOptions, as_stream
from jobfn.errors import ConfigurationError
from support.commands import Command
from support.deploy import function, generate, options
from support.manifests import Manifest, of_kind, validate

DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
CALLBACKS = {
    "to": [
        {
            "podSelector": {
                "matchLabels": {"app.kubernetes.io/part-of": "jobs", "app.kubernetes.io/component": "service"}
            }
        }
    ],
    "ports": [{"protocol": "TCP", "port": 12345}],
}


def policy_of_functions(manifest_options: ManifestOptions) -> Manifest:
    policies = of_kind(generate(manifest_options), "NetworkPolicy")
    (policy,) = (each for each in policies if each["metadata"]["name"] == "jobs-functions")
    validate(policy)
    return policy


def block(cidr: str, *excepted: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr} | ({"except": list(excepted)} if excepted else {})}


def namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def port(number: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": number}]


def test_functions_reach_dns_and_the_callback_server_alone() -> None:
    policy = policy_of_functions(options(function("t")))
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["egress"] == [DNS, CALLBACKS]


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("mail", {"to": [namespace("mail")]}),
        ("mail:25", {"to": [namespace("mail")], "ports": port(25)}),
        ("10.0.0.0/8", {"to": [block("10.0.0.0/8")]}),
        ("10.1.2.3:5432", {"to": [block("10.1.2.3/32")], "ports": port(5432)}),
        ("2001:db8::/32", {"to": [block("2001:db8::/32")]}),
        ("[2001:db8::/32]:443", {"to": [block("2001:db8::/32")], "ports": port(443)}),
        ("any:443", {"to": [block("0.0.0.0/0", "169.254.0.0/16"), block("::/0", "fe80::/10")], "ports": port(443)}),
    ],
)
def test_target_is_allowed(target: str, rule: dict[str, Any]) -> None:
    assert policy_of_functions(options(function("t"), egress=[target]))["spec"]["egress"] == [DNS, CALLBACKS, rule]


@pytest.mark.parametrize("target", ["", "Mail", "a.b", "10.0.0.1/8", "mail:0", "mail:65536", "any:", "[any", ":25"])
def test_other_text_is_an_error(target: str) -> None:
    with pytest.raises(ConfigurationError, match="--egress"):
        as_stream(options(function("t"), egress=[target]))


def test_callback_server_elsewhere_is_noted() -> None:
    elsewhere = replace(options(function("t")), service_image=None)
    assert policy_of_functions(elsewhere)["spec"]["egress"] == [DNS]
    note = (
        "functions may not reach a callback server elsewhere: name its namespace with --egress, if they report to one"
    )
    assert elsewhere.notes == [note]
    assert replace(elsewhere, egress=["platform:12345"]).notes == []


async def test_command_has_the_option(invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(
        "from jobfn import task\n\n\n@task('t')\nasync def t(payload: dict) -> None:\n    pass\n"
    )
    result = await invoke("jobfn", *["manifests", ".", "--image", "x:1", "--egress", "mail:25", "--egress", "any:443"])
    assert result.code == 0
    assert "kubernetes.io/metadata.name: mail" in result.output
    assert "cidr: 0.0.0.0/0" in result.output
