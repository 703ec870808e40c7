"""From a kubeconfig to a cluster."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from kubernetes import config
from kubernetes.client import Configuration

from packhorse.cli.cluster import Cluster
from packhorse.cli.errors import CliError
from packhorse.cli.options import Target

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_HINT = "Name a kubeconfig by --kubeconfig PATH or by the variable KUBECONFIG."


@contextlib.contextmanager
def connect(target: Target) -> Iterator[Cluster]:
    """Reach the cluster that kubectl would reach; inside a pod without a kubeconfig, that pod's own.

    Raises:
        CliError: There is no usable kubeconfig, or no such context.
    """
    cluster = _cluster(target)
    try:
        yield cluster
    finally:
        cluster.close()


def _cluster(target: Target) -> Cluster:
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings repeat what our errors say
    configuration = Configuration()
    paths = _kubeconfigs(target)
    try:
        if not paths and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
            return Cluster(configuration, target.namespace or _OWN_NAMESPACE.read_text().strip())
        if not paths:
            raise CliError("No cluster is known: there is no kubeconfig.", _HINT)
        joined = os.pathsep.join(paths)
        contexts, current = config.list_kube_config_contexts(joined)
        named = {context["name"]: context["context"] for context in contexts}
        name = target.context or current["name"]
        if name not in named:
            raise CliError(f"The kubeconfig has no context '{name}'.", f"It has: {', '.join(named)}")
        config.load_kube_config(joined, context=name, client_configuration=configuration)
    except config.ConfigException as error:
        raise CliError(f"The kubeconfig {os.pathsep.join(paths)} cannot be used: {error}", _HINT) from error
    except OSError as error:
        raise CliError(f"The kubeconfig cannot be read: {error}", _HINT) from error
    return Cluster(configuration, target.namespace or named[name].get("namespace") or "default")


def _kubeconfigs(target: Target) -> list[str]:
    """The kubeconfigs that count, of those that are there."""
    if target.kubeconfig:
        if not Path(target.kubeconfig).is_file():
            raise CliError(f"There is no kubeconfig {target.kubeconfig}.")
        return [target.kubeconfig]
    listed = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [path for path in listed or [str(Path("~/.kube/config").expanduser())] if Path(path).is_file()]
