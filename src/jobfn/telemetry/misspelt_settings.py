"""Warn about environment variables that look like misspelt settings, which would be ignored without a word."""

from collections.abc import Iterable, Mapping

from jobfn.settings import EnvironmentSettings
from jobfn.telemetry import logs

#: The first part of the names of jobfn's variables, and of misspelt ones: ``JOB_CONCURRENCY``.
_PREFIX = "JOB"
#: A setting on one side may have the name of one on the other side, apart from its prefix.
_PREFIXES = ("JOBS_", "JOBFN_")
#: Similarity above which a name counts as misspelt.
_MIN_SIMILARITY = 0.85
#: Kubernetes sets such variables for a service called ``jobs-callback``.
_KUBERNETES = ("_SERVICE_HOST", "_SERVICE_PORT")


def warn_of_misspelt(environ: Mapping[str, str], *models: type[EnvironmentSettings], logger: str) -> None:
    """Log one warning that names each misspelt variable and the nearest setting.

    Args:
        environ: Environment, for example ``os.environ``.
        models: The settings that the process reads.
        logger: Name of the logger.
    """
    nearest = misspelt(environ, {name for model in models for name in model.variables()})
    if nearest:
        names = ", ".join(f"{name} (did you mean {known}?)" for name, known in nearest.items())
        logs.get_logger(logger).warning(f"unknown settings are ignored: {names}")


def misspelt(environ: Mapping[str, str], known: Iterable[str]) -> dict[str, str]:
    """Return the nearest known variable of each unknown one that resembles it."""
    known = sorted(known)
    unknown = [
        name
        for name, value in sorted(environ.items())
        if name.startswith(_PREFIX)
        and name not in known
        and not value.startswith("tcp://")
        and not any(part in name for part in _KUBERNETES)
    ]
    if not unknown:
        return {}
    import difflib  # noqa: PLC0415  - not needed by most starts

    nearest = {}
    for name in unknown:
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), _PREFIX)
        candidates = [each for each in known if each.startswith(prefix)]
        if similar := difflib.get_close_matches(name, candidates, n=1, cutoff=_MIN_SIMILARITY):
            nearest[name] = similar[0]
    return nearest
