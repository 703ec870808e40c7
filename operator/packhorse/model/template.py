"""What a Pool says of its nodes' pods: a partial pod template.

It names what may be set and no more. What is Kubernetes' own and passed on as it is (affinity, the sources of volumes,
...) is left open: the API server judges it when pods are made of it. How it is joined with what the operator sets is
in :mod:`packhorse.domain.template`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue, WithJsonSchema

from packhorse.model.meta import GROUP, Model, Rule
from packhorse.protocol import AUDIENCE

NODE_CONTAINER = "node"
"""The user's container, in which tasks run."""
INSTALL_CONTAINER = "install-packages"
AGENT_CONTAINER = "agent"
OWN_CONTAINERS = (INSTALL_CONTAINER, AGENT_CONTAINER)
"""Containers of our own image."""
NODE_VOLUME = "node"
OWN_VOLUMES = (NODE_VOLUME, "token", "authority", "tmp")
"""Volumes that the operator gives to every node."""
OWN_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by")
"""Labels besides those of our own group that the operator sets on every node."""
OWN_ROOT = "/mnt/batch/tasks"
"""Where the user's container has the node's volume."""
AGENT_USER_ID = 65532
"""The agent is another user than the tasks, so that no task can change its files."""
GROUP_ID = 10001
"""Group of all processes of a node: what the agent and the tasks share on the volume belongs to it."""

_QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"

Text = Annotated[str, Field(max_length=253)]
Map = Annotated[dict[str, Annotated[str, Field(max_length=262144)]], Field(max_length=64)]
Native = Annotated[dict[str, JsonValue], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""An object of Kubernetes' own, passed on as it is."""
Quantity = Annotated[int | str, WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _QUANTITY})]
Quantities = Annotated[dict[str, Quantity], Field(max_length=32)]

_BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
_BY_PATH = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["mountPath"]}
_BY_DEVICE_PATH = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["devicePath"]}


class _Open(Model):
    """A part of which we know some fields; the others are passed on as they are."""

    model_config = ConfigDict(extra="allow")


class TemplateMetadata(Model):
    """Labels and annotations of the nodes' pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.labels) || self.labels.all(key, !key.startsWith('{GROUP}/') && !(key in {list(OWN_LABELS)}))",
            f"labels that begin with {GROUP}/, and {', '.join(OWN_LABELS)}, are set by the operator;"
            " choose another name",
            field_path=".labels",
        ),
        Rule(
            f"!has(self.annotations) || self.annotations.all(key, !key.startsWith('{GROUP}/'))",
            f"annotations that begin with {GROUP}/ ask the operator for something, and are set on a node's pod when it"
            " is wanted; choose another name",
            field_path=".annotations",
        ),
    )

    labels: Map | None = None
    """Labels of every node's pod, besides those that the operator sets."""
    annotations: Map | None = None
    """Annotations of every node's pod."""


class Toleration(Model):
    """A taint of machines that nodes put up with."""

    key: Text | None = None
    """Key of the taint. Default: every one."""
    operator: Text | None = None
    """Equal (the default) or Exists."""
    value: Text | None = None
    """Value of the taint, for Equal."""
    effect: Text | None = None
    """NoSchedule, PreferNoSchedule or NoExecute. Default: all."""
    toleration_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """For NoExecute: seconds after which it has to leave all the same."""


class LocalReference(Model):
    """An object in the pool's namespace."""

    name: Text
    """Name of the object."""


class HostAlias(Model):
    """Names for an address, as in /etc/hosts."""

    ip: Annotated[str, Field(max_length=64)]
    """The address."""
    hostnames: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    """The names."""


class TokenSource(_Open):
    """A token of the pod's service account."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.audience) || self.audience != '{AUDIENCE}'",
            "a token for the node service is the agent's alone, and tasks must not have one; choose another audience",
            field_path=".audience",
        ),
    )

    audience: Annotated[str, Field(max_length=512)] | None = None
    """Whom the token is for. Default: the Kubernetes API."""


class VolumeSource(_Open):
    """One of the things that a projected volume shows."""

    service_account_token: TokenSource | None = None
    """A token of the pod's service account."""


class ProjectedVolume(_Open):
    """A volume that shows several things at once."""

    sources: Annotated[tuple[VolumeSource, ...], Field(max_length=32)] = ()
    """What it shows: secret, configMap, downwardAPI, serviceAccountToken or clusterTrustBundle, one each."""


class Volume(_Open):
    """A volume of every node, in the form of a pod's volumes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!(self.name in {list(OWN_VOLUMES)})",
            f"the volumes {', '.join(OWN_VOLUMES)} are the operator's own; choose another name",
            field_path=".name",
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the volume. Beside it stands what it is: emptyDir, persistentVolumeClaim, nfs, csi, secret, configMap
    or any other source that a pod may have.
    """
    projected: ProjectedVolume | None = None
    """A volume that shows several things at once."""


_FOREIGN = Rule(
    f"!(self.name in {list(OWN_VOLUMES)})",
    f"the volumes {', '.join(OWN_VOLUMES)} are the operator's own and are mounted by it; name one of"
    " template.spec.volumes",
    field_path=".name",
)


class VolumeMount(Model):
    """Where tasks find a volume."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _FOREIGN,
        Rule(
            r"self.mountPath.matches('^(/([^/.:][^/:]*|[.][^/.:][^/:]*|[.][.][^/:]+))+$')",
            "a mountPath is absolute and plain, such as /data/scenes: no '//', no '.' or '..' in it, no ':', no '/' at"
            " its end",
            field_path=".mountPath",
        ),
        Rule(
            f"self.mountPath != '{OWN_ROOT}' && !self.mountPath.startsWith('{OWN_ROOT}/')",
            f"the folder {OWN_ROOT} is the node's own volume, with packages and tasks; mount it somewhere else, such as"
            " /data",
            field_path=".mountPath",
        ),
        Rule(
            "!(self.mountPath in ['/proc', '/sys', '/dev']) && !self.mountPath.startsWith('/proc/')"
            " && !self.mountPath.startsWith('/sys/')",
            "the folders /proc, /sys and /dev are the kernel's; mount it somewhere else, such as /data (or at a name in"
            " /dev, such as /dev/shm)",
            field_path=".mountPath",
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of one of the template's volumes."""
    mount_path: Annotated[str, Field(min_length=1, max_length=1024)]
    """Where tasks find it."""
    sub_path: Annotated[str, Field(max_length=1024)] | None = None
    """A folder of the volume, to be mounted in its place."""
    sub_path_expr: Annotated[str, Field(max_length=1024)] | None = None
    """The same, with $(NAME) for variables of the container."""
    read_only: bool | None = None
    """If true, tasks cannot write there."""
    recursive_read_only: Text | None = None
    """Whether what is mounted below is read-only too: Disabled, IfPossible or Enabled."""
    mount_propagation: Text | None = None
    """How mounts pass between machine and container: None, HostToContainer or Bidirectional."""


class VolumeDevice(Model):
    """Where tasks find a raw block device."""

    rules: ClassVar[tuple[Rule, ...]] = (_FOREIGN,)

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of one of the template's volumes."""
    device_path: Annotated[str, Field(min_length=1, max_length=1024)]
    """Where tasks find it."""


class ResourceRequirements(Model):
    """What a container gets of its machine."""

    requests: Quantities | None = None
    """What is kept free for it, such as cpu: "4" and memory: 8Gi."""
    limits: Quantities | None = None
    """The most that it may use, and its GPUs, such as nvidia.com/gpu: 1."""


class _Group(Model):
    """Refuses what would part the tasks from the agent."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.runAsUser) || self.runAsUser != {AGENT_USER_ID}",
            f"user {AGENT_USER_ID} is the agent's own, and tasks must not be it; choose another number",
            field_path=".runAsUser",
        ),
        Rule(
            "!has(self.runAsGroup) && !has(self.fsGroup)",
            f"agent and tasks share their files by the group {GROUP_ID}: leave out runAsGroup and fsGroup;"
            " supplementalGroups of the pod gives tasks further groups",
        ),
    )

    run_as_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Cannot be set: agent and tasks share their files by their group."""
    fs_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Cannot be set: agent and tasks share their files by their group."""
    seccomp_profile: Native | None = None
    """Which system calls there are. Default: type RuntimeDefault."""
    se_linux_options: Native | None = None
    """SELinux context."""
    app_armor_profile: Native | None = None
    """AppArmor profile."""


class PodSecurityContext(_Group):
    """As whom tasks run, and what the whole pod has."""

    run_as_user: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """User id of tasks. Default: 10002. Reimage nodes after a change: the earlier user's files stay his. For root see
    the securityContext of the container node.
    """
    supplemental_groups: Annotated[tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], Field(max_length=64)] = ()
    """Further groups of tasks, as for files on an NFS server."""
    supplemental_groups_policy: Text | None = None
    """Whether groups of the image's /etc/group count too: Merge or Strict."""
    fs_group_change_policy: Text | None = None
    """When the group of a volume's files is set: OnRootMismatch (the default) or Always."""
    sysctls: Annotated[tuple[Native, ...], Field(max_length=64)] = ()
    """Kernel settings of the pod, each with name and value."""


class NodeSecurityContext(_Group):
    """What tasks may do."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *_Group.rules,
        Rule(
            "!has(self.runAsUser) || self.runAsUser != 0 || (has(self.runAsNonRoot) && !self.runAsNonRoot)",
            "runAsUser: 0 is root, which nodes do not run as unless runAsNonRoot: false says so too",
            field_path=".runAsUser",
        ),
    )

    run_as_user: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """User id of tasks. Default: that of the pod's securityContext. Reimage nodes after a change: the earlier user's
    files stay his.
    """
    run_as_non_root: bool | None = None
    """If false, tasks may be root. Default: true."""
    capabilities: Native | None = None
    """Linux capabilities to add and to drop. Default: all are dropped."""
    privileged: bool | None = None
    """Whether tasks may do everything on the machine."""
    allow_privilege_escalation: bool | None = None
    """Whether a program may have more rights than who starts it, by setuid. Default: false."""
    read_only_root_filesystem: bool | None = None
    """Whether tasks can write to the node's directories and volumes only. Default: false."""
    proc_mount: Text | None = None
    """Default (masked) or Unmasked /proc."""


class NodeContainer(Model):
    """What the container that tasks run in has besides what the operator gives it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.name == '{NODE_CONTAINER}'",
            f"a node has no further containers: the one that tasks run in is called {NODE_CONTAINER}",
            field_path=".name",
        ),
        Rule(
            "!has(self.env) && !has(self.envFrom)",
            "variables of nodes and tasks are set by spec.environmentSettings; remove env and envFrom",
        ),
        Rule("!has(self.image)", "the image that tasks run in is spec.image; set it there", field_path=".image"),
        Rule(
            "!has(self.command) && !has(self.args)",
            "the operator starts the container; let spec.startTask do what a node needs at its start, and remove"
            " command and args",
        ),
    )

    name: Text
    """It is called node."""
    resources: ResourceRequirements | None = None
    """What all tasks of a node get together of its machine."""
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=64, json_schema_extra=_BY_PATH)] = ()
    """Where tasks find the template's volumes."""
    volume_devices: Annotated[tuple[VolumeDevice, ...], Field(max_length=64, json_schema_extra=_BY_DEVICE_PATH)] = ()
    """Where tasks find block devices among the template's volumes."""
    security_context: NodeSecurityContext | None = None
    """What tasks may do."""
    ports: Annotated[tuple[Native, ...], Field(max_length=64)] = ()
    """Ports that tasks listen on, each with containerPort and perhaps name and protocol."""
    lifecycle: Native | None = None
    """What is run in the container after it starts (postStart) and before it stops (preStop)."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When spec.image is pulled. Default: Always for the tag latest, else IfNotPresent."""
    image: Annotated[str, Field(max_length=1024)] | None = None
    """Cannot be set here: see spec.image."""
    env: Annotated[tuple[Native, ...], Field(max_length=256)] | None = None
    """Cannot be set here: see spec.environmentSettings."""
    env_from: Annotated[tuple[Native, ...], Field(max_length=256)] | None = None
    """Cannot be set here: see spec.environmentSettings."""
    command: Annotated[tuple[Annotated[str, Field(max_length=65536)], ...], Field(max_length=256)] | None = None
    """Cannot be set: see spec.startTask."""
    args: Annotated[tuple[Annotated[str, Field(max_length=65536)], ...], Field(max_length=256)] | None = None
    """Cannot be set: see spec.startTask."""


class OwnContainer(Model):
    """What a container of Packhorse's own gets of its machine."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.name in {list(OWN_CONTAINERS)}",
            f"a node has no further init containers than {' and '.join(OWN_CONTAINERS)}; let spec.startTask do what a"
            " node needs at its start",
            field_path=".name",
        ),
    )

    name: Text
    """install-packages, which installs the pool's packages when a node starts, or agent, which looks after tasks."""
    resources: ResourceRequirements | None = None
    """What it gets. Default: requests of 10m cpu and 64Mi memory, no limits."""


class TemplateSpec(Model):
    """What the nodes' pods have besides what the operator gives them."""

    node_selector: Map | None = None
    """Labels of the machines that nodes may run on."""
    affinity: Native | None = None
    """Where nodes shall rather run, or must: nodeAffinity, podAffinity, podAntiAffinity."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] = ()
    """Taints of machines that nodes put up with."""
    topology_spread_constraints: Annotated[tuple[Native, ...], Field(max_length=16)] = ()
    """How nodes are spread over machines and zones."""
    service_account_name: Text | None = None
    """Service account of the pods, as for an identity at a cloud. No token of it is mounted, unless as a projected
    volume. Default: default.
    """
    image_pull_secrets: Annotated[tuple[LocalReference, ...], Field(max_length=32, json_schema_extra=_BY_NAME)] = ()
    """Secrets to pull the images with."""
    priority_class_name: Text | None = None
    """Priority of the pods among all of the cluster."""
    runtime_class_name: Text | None = None
    """How containers are run, such as gvisor or kata."""
    scheduler_name: Text | None = None
    """Scheduler that finds machines for nodes."""
    host_aliases: Annotated[tuple[HostAlias, ...], Field(max_length=64)] = ()
    """Names for addresses, besides those of the DNS."""
    dns_policy: Literal["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] | None = None
    """Where names are looked up. Default: ClusterFirst."""
    dns_config: Native | None = None
    """Further DNS settings: nameservers, searches, options."""
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=604800)] | None = None
    """How long a node that goes may take: its tasks get SIGTERM at once, SIGKILL at the end. Default: 30 seconds."""
    security_context: PodSecurityContext | None = None
    """As whom tasks run, and what the whole pod has."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=64, json_schema_extra=_BY_NAME)] = ()
    """Volumes for tasks."""
    containers: Annotated[tuple[NodeContainer, ...], Field(max_length=4, json_schema_extra=_BY_NAME)] = ()
    """The container that tasks run in, called node."""
    init_containers: Annotated[tuple[OwnContainer, ...], Field(max_length=4, json_schema_extra=_BY_NAME)] = ()
    """Resources of Packhorse's own containers: install-packages and agent."""


class PodTemplate(Model):
    """A partial pod template."""

    metadata: TemplateMetadata | None = None
    """Labels and annotations of the nodes' pods."""
    spec: TemplateSpec | None = None
    """What the pods have besides what the operator gives them."""
