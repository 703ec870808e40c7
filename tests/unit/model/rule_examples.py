"""For every CEL rule of the CRDs, objects that it lets pass and objects that it refuses.

The unit tests see to it that no rule is left out; the end-to-end tests send each example to a real API server. So they
do with ids and versions that the schema refuses, and with those that give no legal name.
"""

from dataclasses import dataclass
from typing import Any

from packhorse.model import Application, ApplicationPackage, Pool, Resource, Task
from packhorse.model.meta import API_VERSION, IMMUTABLE
from packhorse.model.names import application_name, package_name
from packhorse.model.reference import ID_GIVES_NAME, VERSION_GIVES_NAME
from packhorse.model.template import (
    NodeContainer,
    NodeSecurityContext,
    OwnContainer,
    TemplateMetadata,
    TokenSource,
    Volume,
    VolumeMount,
)

Fields = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """An object, and what a rule has to say of it.

    Attributes:
        resource: Its kind.
        rule: The message of the rule that it is an example of; for what breaks no rule, what it breaks.
        name: Its name.
        spec: Its spec.
        told: Part of what the API server answers; None where the object is good.
        before: The spec of the object that it is an update of; None where it is created.
    """

    resource: type[Resource]
    rule: str
    name: str
    spec: Fields
    told: str | None = None
    before: Fields | None = None

    def manifest(self, spec: Fields | None = None) -> Fields:
        """As it is sent to the API server; with another spec for its earlier form."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.resource.kind,
            "metadata": {"name": self.name},
            "spec": self.spec if spec is None else spec,
        }

    def __str__(self) -> str:
        """For the names of tests."""
        return f"{self.resource.kind}-{self.name[:20]}-{'good' if self.told is None else 'bad'}"


@dataclass(frozen=True)
class Named:
    """An object that bears an id and perhaps a version: which, and the example of it.

    Attributes:
        application_id: The id.
        version: The version; None for an Application.
        example: The object.
    """

    application_id: str
    version: str | None
    example: Example

    def __str__(self) -> str:
        """For the names of tests."""
        return ascii(f"{self.application_id[:20]}.{self.version or ''}"[:40])


ID_FIXED = "id cannot be changed; create another Application"
APPLICATION_NAME = "metadata.name must be spec.id in lower case, with '_' written '-'"
APPLICATION_PLAIN = (
    "metadata.name is the application's id in lower case: letters, digits and hyphens, at most 64, no periods"
)
PACKAGE_NAME = "metadata.name must be <applicationId>.<version> in lower case, with '_' written '-'"
BLOB = "spec.blob must be a path such as tools/blender-2.7.zip: no leading or trailing '/', no '..', no backslash"
STORAGE_CLASS = "storageClassName has no meaning with ephemeral: true; remove one of them"
MEDIUM = "medium: Memory means files that last as long as their pod; add ephemeral: true"
STORAGE_FIXED = "nodeStorage cannot be changed, since nodes keep their volumes; create another Pool"
NODE_RANGE = "minNodes is above maxNodes; raise maxNodes or lower minNodes"
POOL_NAME = "metadata.name begins the names of the pool's nodes: at most 52 letters, digits and hyphens, no periods"
SERVICE_NAME = "names that begin with AZ_BATCH_ are set by the service; choose another name"
TASK_NAME = "metadata.name is the name of the task's directory on its node: at most 128 characters"
FIXED = IMMUTABLE.message
ID_NAME, VERSION_NAME = ID_GIVES_NAME.message, VERSION_GIVES_NAME.message
OUR_LABELS, OUR_ANNOTATIONS = (rule.message for rule in TemplateMetadata.rules)
OUR_VOLUMES, OUR_TOKEN = Volume.rules[0].message, TokenSource.rules[0].message
FOREIGN, PLAIN_PATH, OUR_PATH, KERNEL_PATH = (rule.message for rule in VolumeMount.rules)
AGENT_USER, SHARED_GROUP, ROOT_USER = (rule.message for rule in NodeSecurityContext.rules)
OTHER_CONTAINER, VARIABLES, IMAGE, COMMAND = (rule.message for rule in NodeContainer.rules)
OTHER_INIT_CONTAINER = OwnContainer.rules[0].message


def application(name: str, spec: Fields, rule: str, told: str | None = None, before: Fields | None = None) -> Example:
    return Example(Application, rule, name, spec, told, before)


def package(name: str, rule: str, told: str | None = None, before: Fields | None = None, **spec: Any) -> Example:
    return Example(ApplicationPackage, rule, name, spec, told, before)


def blob(path: str, told: str | None = None) -> Example:
    return package("blender.2.7", BLOB, told, applicationId="blender", version="2.7", blob=path)


def pool(
    rule: str, told: str | None = None, before: Fields | None = None, name: str = "render", **spec: Any
) -> Example:
    earlier = None if before is None else {"image": "debian", "targetNodes": 0, **before}
    return Example(Pool, rule, name, {"image": "debian", **spec}, told, earlier)


def task(rule: str, told: str | None = None, before: Fields | None = None, name: str = "frame", **spec: Any) -> Example:
    plain = {"pool": "render", "commandLine": "true"}
    return Example(Task, rule, name, {**plain, **spec}, told, None if before is None else {**plain, **before})


def named(rule: str, told: str, application_id: str, version: str | None = None) -> Named:
    """An Application, or a package where there is a version, with the name that its id asks for."""
    if version is None:
        example = application(application_name(application_id), {"id": application_id}, rule, told)
    else:
        name = package_name(application_id, version)
        example = package(name, rule, told, applicationId=application_id, version=version)
    return Named(application_id, version, example)


def no_name(what: str, proposed: str = "") -> str:
    """What is said of an id or a version that gives no legal name."""
    _, _, rest = (VERSION_NAME if what.startswith("version") else ID_NAME).partition(" gives")
    return f"the {what} gives{rest}" + (f', such as "{proposed}"' if proposed else "")


def settings(name: str) -> list[Fields]:
    return [{"name": name, "value": "1"}]


def template(rule: str, told: str | None = None, metadata: Fields | None = None, **spec: Any) -> Example:
    """A Pool with a template."""
    return pool(rule, told, template={"metadata": metadata} if metadata is not None else {"spec": spec})


def container(rule: str, told: str | None = None, **fields: Any) -> Example:
    """A Pool with a template for the container of tasks."""
    return template(rule, told, containers=[{"name": "node", **fields}])


def mount(rule: str, path: str, told: str | None = None, name: str = "data") -> Example:
    return container(rule, told, volumeMounts=[{"name": name, "mountPath": path}])


def token(rule: str, told: str | None = None, **source: Any) -> Example:
    sources = [{"configMap": {"name": "a"}}, {"serviceAccountToken": {"path": "token", **source}}]
    return template(rule, told, volumes=[{"name": "identity", "projected": {"sources": sources, "defaultMode": 288}}])


TEMPLATES = [
    template(OUR_LABELS, metadata={"labels": {"team": "render", "app.kubernetes.io/component": "a", "packhorse": "1"}}),
    *(
        template(OUR_LABELS, OUR_LABELS, metadata={"labels": {"team": "render", name: "mine"}})
        for name in (
            "packhorse.dev/pool",
            "packhorse.dev/other",
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/managed-by",
        )
    ),
    template(OUR_ANNOTATIONS, metadata={"annotations": {"sidecar.istio.io/inject": "false", "a": ""}}),
    template(OUR_ANNOTATIONS, OUR_ANNOTATIONS, metadata={"annotations": {"packhorse.dev/reboot": "requeue"}}),
    template(OUR_VOLUMES, volumes=[{"name": "scratch", "emptyDir": {}}, {"name": "tokens", "secret": {}}]),
    *(
        template(OUR_VOLUMES, OUR_VOLUMES, volumes=[{"name": name, "emptyDir": {}}])
        for name in ("node", "token", "authority", "tmp")
    ),
    token(OUR_TOKEN),
    token(OUR_TOKEN, audience="api://AzureADTokenExchange"),
    token(OUR_TOKEN, OUR_TOKEN, audience="packhorse.dev/node-service"),
    mount(FOREIGN, "/data"),
    mount(FOREIGN, "/data", FOREIGN, name="token"),
    mount(FOREIGN, "/data", FOREIGN, name="node"),
    container(FOREIGN, volumeDevices=[{"name": "data", "devicePath": "/dev/data"}]),
    container(FOREIGN, FOREIGN, volumeDevices=[{"name": "node", "devicePath": "/dev/data"}]),
    *(mount(PLAIN_PATH, path) for path in ("/a", "/data/some..odd .name", "/..a/...", "/mnt", "/" + "a/" * 500 + "a")),
    *(
        mount(PLAIN_PATH, path, PLAIN_PATH)
        for path in ("/", "data", "//data", "/data/", "/data//a", "/data/./a", "/data/../mnt", "/..", "/.", "C:/data")
    ),
    *(mount(OUR_PATH, path) for path in ("/mnt/batch", "/mnt/batch/tasks2", "/data/mnt/batch/tasks")),
    *(
        mount(OUR_PATH, f"/mnt/batch/tasks{path}", OUR_PATH)
        for path in ("", "/shared", "/applications/blender", "/.packhorse/run")
    ),
    *(mount(KERNEL_PATH, path) for path in ("/dev/shm", "/processes", "/sys2", "/data/proc")),
    *(mount(KERNEL_PATH, path, KERNEL_PATH) for path in ("/proc", "/proc/self", "/sys", "/sys/fs", "/dev")),
    template(AGENT_USER, securityContext={"runAsUser": 1000, "supplementalGroups": [65532]}),
    template(AGENT_USER, AGENT_USER, securityContext={"runAsUser": 65532}),
    container(AGENT_USER, AGENT_USER, securityContext={"runAsUser": 65532}),
    template(SHARED_GROUP, securityContext={"fsGroupChangePolicy": "Always"}),
    template(SHARED_GROUP, SHARED_GROUP, securityContext={"fsGroup": 10001}),
    template(SHARED_GROUP, SHARED_GROUP, securityContext={"runAsGroup": 0}),
    container(SHARED_GROUP, SHARED_GROUP, securityContext={"runAsGroup": 1000}),
    container(ROOT_USER, securityContext={"runAsUser": 0, "runAsNonRoot": False}),
    container(ROOT_USER, securityContext={"runAsUser": 1}),
    container(ROOT_USER, ROOT_USER, securityContext={"runAsUser": 0}),
    container(ROOT_USER, ROOT_USER, securityContext={"runAsUser": 0, "runAsNonRoot": True}),
    container(
        OTHER_CONTAINER,
        resources={"requests": {"cpu": 2, "memory": "1.5Gi"}, "limits": {"nvidia.com/gpu": 1, "cpu": "500m"}},
    ),
    *(
        template(OTHER_CONTAINER, OTHER_CONTAINER, containers=[{"name": name}])
        for name in ("sidecar", "agent", "install-packages", "Node", "")
    ),
    container(VARIABLES, lifecycle={"preStop": {"exec": {"command": ["/bin/sync"]}}}),
    container(VARIABLES, VARIABLES, env=[{"name": "A", "value": "1"}]),
    container(VARIABLES, VARIABLES, envFrom=[{"secretRef": {"name": "a"}}]),
    container(IMAGE, imagePullPolicy="Always"),
    container(IMAGE, IMAGE, image="debian"),
    container(COMMAND, ports=[{"containerPort": 9000}]),
    container(COMMAND, COMMAND, command=["/bin/true"]),
    container(COMMAND, COMMAND, args=["--help"]),
    template(
        OTHER_INIT_CONTAINER,
        initContainers=[
            {"name": name, "resources": {"limits": {"memory": "1Gi"}}} for name in ("install-packages", "agent")
        ],
    ),
    template(OTHER_INIT_CONTAINER, OTHER_INIT_CONTAINER, initContainers=[{"name": "node"}]),
    template(OTHER_INIT_CONTAINER, OTHER_INIT_CONTAINER, initContainers=[{"name": "prepare", "resources": {}}]),
]


EXAMPLES = [
    application("blender", {"id": "Blender"}, ID_FIXED, before={"id": "Blender"}),
    application("blender", {"id": "Blender"}, ID_FIXED, before={}),
    application("blender", {"id": "blender"}, ID_FIXED, ID_FIXED, before={"id": "Blender"}),
    application("blender", {}, ID_FIXED, ID_FIXED, before={"id": "Blender"}),
    application("blender", {}, APPLICATION_NAME),
    application("my-tool", {"id": "My_Tool"}, APPLICATION_NAME),
    application("blender", {"id": "Maya"}, APPLICATION_NAME, 'metadata.name must be "maya" for the id "Maya"'),
    application("my--tool", {"id": "my-tool"}, APPLICATION_NAME, 'metadata.name must be "my-tool"'),
    application("blender", {"id": "BLENDER"}, APPLICATION_NAME),
    application("a---b", {"id": "A_-_b"}, APPLICATION_NAME),
    application("7", {"id": "7"}, APPLICATION_NAME),
    application("a" * 64, {"id": "A" * 64}, APPLICATION_NAME),
    application("a" * 63, {"id": "A" * 64}, APPLICATION_NAME, f'metadata.name must be "{"a" * 64}" for the id "AAA'),
    application(
        "blender2", {"id": "BLENDER"}, APPLICATION_NAME, 'metadata.name must be "blender" for the id "BLENDER"'
    ),
    application("mytool", {"id": "MY_TOOL"}, APPLICATION_NAME, 'metadata.name must be "my-tool" for the id "MY_TOOL"'),
    application("x", {"id": "x"}, ID_NAME),
    application("0--x--x", {"id": "0-_X_-x"}, ID_NAME),
    application("x", {"id": "_x"}, ID_NAME, no_name('application id "_x"', "x")),
    application("blender", {"id": "Blender_"}, ID_NAME, no_name('application id "Blender_"', "Blender")),
    application("my-tool", {"id": "-_My_Tool-"}, ID_NAME, no_name('application id "-_My_Tool-"', "My_Tool")),
    application("x", {"id": "_-_"}, ID_NAME, no_name('application id "_-_"')),
    application("a", {}, APPLICATION_PLAIN),
    application("0--9", {}, APPLICATION_PLAIN),
    application("a" * 64, {}, APPLICATION_PLAIN),
    application("a" * 65, {}, APPLICATION_PLAIN, APPLICATION_PLAIN),
    application("blender.2", {}, APPLICATION_PLAIN, APPLICATION_PLAIN),
    package("my-tool.1.0-rc1", PACKAGE_NAME, applicationId="My_Tool", version="1.0_RC1"),
    package("tool.1", PACKAGE_NAME, 'metadata.name must be "tool.1.0"', applicationId="tool", version="1.0"),
    package("maya.1.0", PACKAGE_NAME, 'metadata.name must be "tool.1.0"', applicationId="tool", version="1.0"),
    package("a.b-1", PACKAGE_NAME, applicationId="a", version="b_1"),
    package("a-b.1", PACKAGE_NAME, applicationId="a_b", version="1"),
    package("a.b-1", PACKAGE_NAME, 'metadata.name must be "a-b.1"', applicationId="a_b", version="1"),
    package("a.2.7b", PACKAGE_NAME, applicationId="A", version="2.7B"),
    package("a.2.7-b", PACKAGE_NAME, 'metadata.name must be "a.2.7b"', applicationId="A", version="2.7B"),
    package("a.1.2.3--4", PACKAGE_NAME, applicationId="a", version="1.2.3_-4"),
    package(f"{'a' * 64}.{'1' * 64}", PACKAGE_NAME, applicationId="A" * 64, version="1" * 64),
    package("a.1", PACKAGE_NAME, f'metadata.name must be "a.{"1" * 64}"', applicationId="a", version="1" * 64),
    package("a.1.0", PACKAGE_NAME, 'metadata.name must be "a.1"', applicationId="a", version="1"),
    package("a", PACKAGE_NAME, 'metadata.name must be "a.1"', applicationId="a", version="1"),
    package("my-tool.1", ID_NAME, applicationId="my_tool", version="1"),
    package("tool.1", ID_NAME, no_name('application id "tool-"', "tool"), applicationId="tool-", version="1"),
    package("tool.1-0.b--2", VERSION_NAME, applicationId="tool", version="1_0.b-_2"),
    *(
        package("tool.1.0", VERSION_NAME, no_name(f'version "{bad}"', good), applicationId="tool", version=bad)
        for bad, good in (
            ("1..0", "1.0"),
            ("1.", "1"),
            ("_1", "1"),
            ("1.0_", "1.0"),
            ("1.-0-", "1.0"),
            ("1_.0_B..2", "1.0_B.2"),
            ("-_.-", ""),
        )
    ),
    package(
        "tool.1.0",
        FIXED,
        before={"applicationId": "tool", "version": "1.0"},
        applicationId="tool",
        version="1.0",
        sha256="0" * 64,
    ),
    package("tool.1.0", FIXED, FIXED, {"applicationId": "tool", "version": "1.0"}, applicationId="Tool", version="1.0"),
    package("tool.1-a", FIXED, FIXED, {"applicationId": "tool", "version": "1-a"}, applicationId="tool", version="1-A"),
    blob("blender-2.7.zip"),
    blob("tools/some..odd name/blender.zip"),
    *(
        blob(path, BLOB)
        for path in ("/a.zip", "a/", "a//b.zip", "../a.zip", "a/../b.zip", "a/./b.zip", "..", r"a\b.zip")
    ),
    pool(STORAGE_CLASS, nodeStorage={"ephemeral": True}),
    pool(STORAGE_CLASS, nodeStorage={"storageClassName": "fast"}),
    pool(STORAGE_CLASS, STORAGE_CLASS, nodeStorage={"ephemeral": True, "storageClassName": "fast"}),
    pool(MEDIUM, nodeStorage={"ephemeral": True, "medium": "Memory"}),
    pool(MEDIUM, MEDIUM, nodeStorage={"medium": "Memory"}),
    pool(STORAGE_FIXED, before={"nodeStorage": {"size": "5Gi"}}, nodeStorage={"size": "5Gi"}, targetNodes=7),
    pool(STORAGE_FIXED, STORAGE_FIXED, {"nodeStorage": {"size": "5Gi"}}, nodeStorage={"size": "6Gi"}),
    pool(STORAGE_FIXED, STORAGE_FIXED, {}, nodeStorage={"ephemeral": True}),
    pool(NODE_RANGE, autoScale={"minNodes": 2, "maxNodes": 2}),
    pool(NODE_RANGE, autoScale={"maxNodes": 1}),
    pool(NODE_RANGE, NODE_RANGE, autoScale={"minNodes": 3, "maxNodes": 2}),
    pool(FIXED, before={"taskSlotsPerNode": 2}, taskSlotsPerNode=2, image="alpine"),
    pool(FIXED, FIXED, {"taskSlotsPerNode": 2}, taskSlotsPerNode=3),
    pool(POOL_NAME, name="p" * 52),
    pool(POOL_NAME, POOL_NAME, name="p" * 53),
    pool(POOL_NAME, POOL_NAME, name="render.fast"),
    pool(SERVICE_NAME, environmentSettings=settings("AZ_BATCHES")),
    pool(SERVICE_NAME, SERVICE_NAME, environmentSettings=settings("AZ_BATCH_POOL_ID")),
    *(
        make(SERVICE_NAME, SERVICE_NAME, environmentSettings=settings(f"AZ_BATCH_APP_PACKAGE_{name}"))
        for make in (pool, task)
        for name in ("blender_2_7", "BLENDER_2_7B", "BLENDER#2.7", "blender", "")
    ),
    task(SERVICE_NAME, environmentSettings=settings("MY_AZ_BATCH_TASK_ID")),
    task(SERVICE_NAME, SERVICE_NAME, environmentSettings=settings("AZ_BATCH_TASK_ID")),
    task(FIXED, before={"priority": 1}, priority=1),
    task(FIXED, FIXED, {"priority": 1}, priority=2),
    task(FIXED, FIXED, {}, commandLine="false"),
    task(TASK_NAME, name="t" * 128),
    task(TASK_NAME, TASK_NAME, name="t" * 129),
    *TEMPLATES,
]

_PATTERN, _LENGTH, _NO_NAME = "should match", "Too long", "gives no name that Kubernetes allows"

UNFIT = [
    *(
        named("schema", _PATTERN, bad)
        for bad in ("", "a.b", "a b", "a/b", "a#1", "a:1", "größe", "\u212a", "a\n", "a\0")
    ),
    named("schema", _LENGTH, "a" * 65),
    *(named("schema", _PATTERN, bad, "1") for bad in ("", "a.b", "a b", "größe", "\uff41")),
    named("schema", _LENGTH, "a" * 65, "1"),
    *(
        named("schema", _PATTERN, "a", bad)
        for bad in ("", ".", ".1", "..", "1 0", "1/0", "1#0", "1.ß", "\u0661", "1\n")
    ),
    named("schema", _LENGTH, "a", "1" * 65),
]
"""Ids and versions that are none: the schema refuses them."""

UNNAMEABLE = [
    *(named("name", _NO_NAME, bad) for bad in ("-", "_", "-a", "a-", "_a", "a_", "A_", "_" * 64, "a" * 63 + "-")),
    *(named("name", _NO_NAME, bad, "1") for bad in ("-", "_a", "a_", "a-")),
    *(
        named("name", _NO_NAME, "a", bad)
        for bad in (
            "-",
            "_",
            "-1",
            "1-",
            "_1",
            "1_",
            "1.",
            "1..0",
            "1.-0",
            "1._0",
            "1-.0",
            "1_.0",
            "1.0_",
            "a" + "." * 63,
        )
    ),
]
"""Ids and versions that are Batch's as well, and give no name that Kubernetes allows: it refuses the name, and a rule
says why and proposes another spelling.
"""
