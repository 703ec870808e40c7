"""The operator's process: Kopf is the shell that watches and stays alive; the rest is wired in ``runtime``."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import kopf

from packhorse.cluster.client import POD, STATEFUL_SET, Kind
from packhorse.model.meta import GROUP
from packhorse.model.node import POOL_LABEL
from packhorse.operator.runtime import Runtime
from packhorse.operator.settings import Settings, SettingsError


class _NoProgress(kopf.ProgressStorage):
    """Kopf's notes on objects about its own handlers' progress: ours need none."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


class _NoDiffBase(kopf.DiffBaseStorage):
    """Kopf's copy of an object as last seen: we compare by ourselves, and copies cost half a millisecond an event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


def configure(settings: kopf.OperatorSettings) -> None:
    """Set Kopf up as a shell: no notes on users' objects, no events of its own, nothing to discover."""
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.networking.request_timeout = 15.0
    settings.watching.chunk_size = 500
    settings.watching.connect_timeout = 10.0
    for kind in (POD, STATEFUL_SET):
        settings.watching.label_selectors[kind.plural] = POOL_LABEL


def register(runtime: Runtime, registry: kopf.OperatorRegistry) -> None:
    """Register Kopf's handlers: each hands over to the runtime."""

    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        await runtime.start()

    async def stop(**_: Any) -> None:
        await runtime.stop()

    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    def observer(kind: Kind) -> Callable[..., Any]:
        async def observe(event: Any, **_: Any) -> None:
            runtime.observe(kind, event)

        return observe

    # A start that fails ends the process: the kubelet starts a fresh one, with nothing half begun.
    kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(start)
    kopf.on.cleanup(registry=registry)(stop)
    kopf.on.login(registry=registry)(login)
    for kind in runtime.kinds:
        kopf.on.event(kind.api_version, kind.plural, id=f"observe-{kind.plural}", registry=registry)(observer(kind))


SWITCH = 0.0005
"""Seconds after which a thread that reads a package lets the event loop go on. With Python's 5 ms, a loop that does a
little and waits, a thousand times a second, comes to a crawl beside two such threads.
"""


def main() -> None:
    """Run until told to stop."""
    sys.setswitchinterval(SWITCH)
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.exit(f"packhorse-operator: {error}")
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("kopf", "azure", "aiohttp", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    registry = kopf.OperatorRegistry()
    register(Runtime(settings), registry)
    kopf.run(
        registry=registry,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        standalone=True,
    )


if __name__ == "__main__":
    main()
