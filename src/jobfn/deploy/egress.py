"""Destinations that functions may connect to, for their network policy."""

import ipaddress
import re
from collections.abc import Iterable, Mapping

from jobfn.deploy.knative import Manifest
from jobfn.errors import ConfigurationError

#: Stands for all addresses.
ANYWHERE = "any"
#: Addresses that ``any`` leaves out: a cloud gives the credentials of a machine to all who ask there.
_LINK_LOCAL = {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}
#: On any address: a cluster may have a DNS cache on each node.
_DNS = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
_TARGET = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^\[\]:]+))(?::(?P<port>\d{1,5}))?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_PORT = 65_535


def egress_rules(
    callback_labels: Mapping[str, str] | None, callback_port: int, targets: Iterable[str]
) -> list[Manifest]:
    """Return the egress rules: DNS, the callback server of this namespace, and the targets.

    Args:
        callback_labels: Labels of the callback server's pods; None: it is not in this namespace.
        callback_port: Port of the callback server.
        targets: ``any``, a namespace, or a network, each with ``:PORT`` or for all ports.

    Raises:
        ConfigurationError: A target has another form.
    """
    rules: list[Manifest] = [dict(_DNS)]
    if callback_labels is not None:
        callbacks = {"podSelector": {"matchLabels": dict(callback_labels)}}
        rules.append({"to": [callbacks], "ports": [{"protocol": "TCP", "port": callback_port}]})
    return rules + [_rule(target) for target in targets]


def _rule(target: str) -> Manifest:
    # an IPv6 network without brackets does not match: its colons are not followed by a port
    match = _TARGET.fullmatch(target)
    place, port = (target, None) if match is None else (match["bracketed"] or match["plain"], match["port"])
    if port is not None and not 0 < int(port) <= _MAX_PORT:
        raise ConfigurationError(f"--egress {target}: the port must be between 1 and {_MAX_PORT}")
    rule: Manifest = {"to": _peers(place, target)}
    if port is not None:
        rule["ports"] = [{"protocol": "TCP", "port": int(port)}]
    return rule


def _peers(place: str, target: str) -> list[Manifest]:
    if place == ANYWHERE:
        return [{"ipBlock": {"cidr": network, "except": [local]}} for network, local in _LINK_LOCAL.items()]
    try:
        return [{"ipBlock": {"cidr": str(ipaddress.ip_network(place))}}]
    except ValueError:
        if not _NAMESPACE.fullmatch(place):
            raise ConfigurationError(
                f"--egress {target} is not a destination: give a namespace, a network such as 10.0.0.0/8, or any, "
                "each perhaps with :PORT ([2001:db8::/32]:443 for IPv6)"
            ) from None
        return [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place}}}]
