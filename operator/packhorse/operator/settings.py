"""What the operator is told by its environment, as the chart sets it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from kubernetes.utils.quantity import parse_quantity

from packhorse.archive.limits import Limits, directory_size

PACKAGE_LIMITS = Limits()


class SettingsError(ValueError):
    """The environment lacks something or makes no sense; the message names the variable."""


@dataclass(frozen=True)
class Settings:
    """The operator's settings.

    Attributes:
        namespace: Where the operator itself runs.
        instance: Name of its pod, for events.
        image: Its own image, which nodes run the agent from.
        pull_policy: Of that image, for nodes.
        node_service: ``host:port`` by which nodes reach the node service.
        watch_namespaces: Namespaces to serve; none means all.
        storage_secret: Secret of the linked account in the operator's namespace; empty where there is none.
        storage_account: Name or blob endpoint of the account that is linked by the operator's workload identity.
        namespace_storage: Whether a Secret `packhorse-storage` links an account of its own to the Secret's namespace.
        storage_container: The account's container for packages.
        packages_per_application: Quota; 0 is none.
        package_size: Quota for a ZIP file, in bytes; 0 is none.
        limits: How much a package may hold unpacked, wherever it is judged.
        embedded_storage: ``host:port`` of the embedded Azurite; empty where there is none.
        node_network_policy: Whether each pool's nodes get a NetworkPolicy.
        log_level: DEBUG, INFO, WARNING or ERROR.
        node_port: Port that the node service listens on.
        health_port: Port for liveness and readiness.
    """

    namespace: str
    instance: str
    image: str
    node_service: str
    pull_policy: str = "IfNotPresent"
    watch_namespaces: tuple[str, ...] = ()
    storage_secret: str = ""
    storage_account: str = ""
    namespace_storage: bool = False
    packages_per_application: int = 40
    package_size: int = 195 << 30
    limits: Limits = PACKAGE_LIMITS
    storage_container: str = "packhorse"
    embedded_storage: str = ""
    node_network_policy: bool = True
    log_level: str = "INFO"
    node_port: int = 8443
    health_port: int = 8080

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the ``PACKHORSE_`` variables. Raises SettingsError."""
        given = os.environ if environment is None else environment

        def required(name: str) -> str:
            value = given.get(f"PACKHORSE_{name}", "")
            if not value:
                raise SettingsError(f"the environment variable PACKHORSE_{name} is not set; the chart sets it")
            return value

        def quantity(name: str, default: int) -> int:
            text = given.get(f"PACKHORSE_{name}", "")
            try:
                value = int(parse_quantity(text)) if text else default
            except ValueError as error:
                raise SettingsError(f"PACKHORSE_{name}={text} is no quantity such as 40 or 195Gi") from error
            if value < 0:
                raise SettingsError(f"PACKHORSE_{name}={text} is below zero; 0 means no limit")
            return value

        def limit(name: str, default: int) -> int:
            # Here 0 cannot mean none: what bounds the work on a stranger's file has to be a number.
            value = quantity(f"PACKAGE_{name}", default)
            if value == 0:
                raise SettingsError(
                    f"PACKHORSE_PACKAGE_{name}=0 would allow no package; set a high number for no limit"
                )
            return value

        namespaces = given.get("PACKHORSE_WATCH_NAMESPACES", "").split(",")
        return cls(
            namespace=required("NAMESPACE"),
            instance=given.get("PACKHORSE_POD", "packhorse-operator"),
            image=required("IMAGE"),
            node_service=required("NODE_SERVICE"),
            pull_policy=given.get("PACKHORSE_IMAGE_PULL_POLICY") or cls.pull_policy,
            watch_namespaces=tuple(name.strip() for name in namespaces if name.strip()),
            storage_secret=given.get("PACKHORSE_STORAGE_SECRET", ""),
            storage_account=given.get("PACKHORSE_STORAGE_ACCOUNT", ""),
            namespace_storage=given.get("PACKHORSE_NAMESPACE_STORAGE", "").lower() == "true",
            packages_per_application=quantity("PACKAGES_PER_APPLICATION", cls.packages_per_application),
            package_size=quantity("PACKAGE_SIZE", cls.package_size),
            limits=Limits(
                files=(files := limit("FILES", cls.limits.files)),
                file_size=limit("FILE_SIZE", cls.limits.file_size),
                total_size=limit("UNPACKED_SIZE", cls.limits.total_size),
                ratio=limit("RATIO", cls.limits.ratio),
                directory_size=directory_size(files),
            ),
            storage_container=given.get("PACKHORSE_STORAGE_CONTAINER") or cls.storage_container,
            embedded_storage=given.get("PACKHORSE_EMBEDDED_STORAGE", ""),
            node_network_policy=given.get("PACKHORSE_NODE_NETWORK_POLICY", "").lower() != "false",
            log_level=(given.get("PACKHORSE_LOG_LEVEL") or cls.log_level).upper(),
        )
