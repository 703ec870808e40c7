"""The custom resources, as pydantic models: the one place where a field, its limits and its description are defined.

``crds/`` is generated from here by :mod:`packhorse.model.crd`.
"""

from packhorse.model.application import Application, ApplicationSpec, ApplicationStatus
from packhorse.model.meta import Condition, Metadata, Resource
from packhorse.model.node import NodeState, NodeStatus, RunningTaskOption
from packhorse.model.package import ApplicationPackage, ApplicationPackageSpec, ApplicationPackageStatus, PackageState
from packhorse.model.pool import Pool, PoolSpec, PoolStatus
from packhorse.model.reference import ApplicationPackageReference, EnvironmentSetting
from packhorse.model.task import ExecutionInfo, Task, TaskSpec, TaskState, TaskStatus

RESOURCES: tuple[type[Resource], ...] = (Application, ApplicationPackage, Pool, Task)
"""Every kind of the API group, in the order in which a person meets them."""

__all__ = [
    "RESOURCES",
    "Application",
    "ApplicationPackage",
    "ApplicationPackageReference",
    "ApplicationPackageSpec",
    "ApplicationPackageStatus",
    "ApplicationSpec",
    "ApplicationStatus",
    "Condition",
    "EnvironmentSetting",
    "ExecutionInfo",
    "Metadata",
    "NodeState",
    "NodeStatus",
    "PackageState",
    "Pool",
    "PoolSpec",
    "PoolStatus",
    "Resource",
    "RunningTaskOption",
    "Task",
    "TaskSpec",
    "TaskState",
    "TaskStatus",
]
