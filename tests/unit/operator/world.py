"""A namespace with a pool, its nodes and the operator's dispatcher, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import msgspec
from aiohttp import web

from packhorse.cluster.cache import Key, key_of
from packhorse.cluster.client import POD, kind_of
from packhorse.domain.podstate import observe_pod
from packhorse.model import Application, ApplicationPackage, Pool, Task
from packhorse.operator.caches import Caches
from packhorse.operator.dispatcher import Dispatcher
from packhorse.operator.sessions import Session, Sessions
from packhorse.protocol import (
    EndTask,
    Hello,
    NodeProblem,
    Problem,
    RunningTask,
    RunTask,
    StartTaskChanged,
    TaskEnded,
    TaskRecorded,
    TaskStarted,
    ToNode,
    VisiblePackage,
)
from tests.unit.objects import LATER, NAMESPACE, NOW, raw_pod, raw_pool, raw_task
from tests.unit.operator.fake_api import Event, FakeApi
from tests.unit.virtual_time import settle

APPLICATION, PACKAGE, POOL, TASK = (kind_of(kind) for kind in (Application, ApplicationPackage, Pool, Task))
Attempt = tuple[str, int]
ENDED = Problem("TaskEnded", "The task was ended by a request", category="UserError")


class Operator:
    """What the operator has to do with tasks, from its start to its end.

    Attributes:
        delay: Seconds that the next event of the API server is late.
        changed: How often each pool was said to have changed.
    """

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.caches = Caches()
        self.sessions = Sessions()
        self.changed: Counter[Key] = Counter()
        self.delay: Callable[[], float] = lambda: 0.0
        self.dispatcher = Dispatcher(api, self.caches, self.sessions, self._pool_changed)
        self._by_kind = {kind: cache for kind, _, cache in self.caches.watched()}
        self._last = 0.0
        self._unwatch: Callable[[], None] = lambda: None
        self._job: asyncio.Task[None] | None = None

    def _pool_changed(self, key: Key) -> None:
        self.changed[key] += 1

    def start(self) -> None:
        """As the runtime does: fill the caches, then hear of changes, pods before tasks."""
        self._unwatch = self.api.watch(self._watched)
        for kind, cache in self._by_kind.items():
            for raw in self.api.all(kind):
                cache.put(raw)
        self.caches.pools.subscribe(lambda _, before, now: self.dispatcher.pool_seen(now) if now else None)
        self.caches.pods.subscribe(
            lambda key, before, now: self.dispatcher.node_seen(now) if now else self.dispatcher.node_gone(key)
        )
        self.caches.tasks.subscribe(self._task_seen)
        self._job = asyncio.get_running_loop().create_task(self.dispatcher.run())

    async def kill(self) -> None:
        """The process dies at this moment."""
        self._unwatch()
        assert self._job is not None
        self._job.cancel()
        await asyncio.wait([self._job])
        self._by_kind = {}

    def _task_seen(self, key: Key, before: Task | None, now: Task | None) -> None:
        if before is not None and (now is None or now.metadata.uid != before.metadata.uid):
            self.dispatcher.task_gone(before)
        if now is not None:
            self.dispatcher.task_seen(now)

    def _watched(self, event: Event) -> None:
        """Deliver an event, in order, later."""
        loop = asyncio.get_running_loop()
        self._last = max(self._last, loop.time() + self.delay())
        if self._last <= loop.time():
            self._deliver(event)
        else:
            loop.call_at(self._last, self._deliver, event)

    def _deliver(self, event: Event) -> None:
        change, kind, raw = event
        cache = self._by_kind.get(kind)
        if cache is None:
            return
        if change == "DELETED":
            cache.remove(key_of(raw), int(raw["metadata"]["resourceVersion"]))
        else:
            cache.put(raw)


class Socket:
    """The node's end of one connection; what comes after it is closed is lost."""

    def __init__(self, receive: Callable[[ToNode], None]) -> None:
        self.receive = receive
        self.open = True

    async def send_str(self, text: str) -> None:
        if not self.open:
            raise ConnectionResetError("closed")
        self.receive(msgspec.json.decode(text, type=ToNode))


class Node:
    """A node's agent in miniature: it holds attempts, and repeats their ends until they are recorded.

    Attributes:
        running: What it runs.
        ending: Attempts that it was asked to end.
        requeueing: Those among them that shall run again elsewhere.
        hello: What it says first of its start task and its problem.
        ended: Attempts that are over and not recorded.
        ran: Every attempt that it ever began, in order.
        messages: All that it was told.
    """

    def __init__(self, raw: dict[str, Any], packages: tuple[VisiblePackage, ...] = ()) -> None:
        self.raw = raw
        self.packages = packages
        self.running: dict[Attempt, RunTask] = {}
        self.ending: set[Attempt] = set()
        self.requeueing: set[Attempt] = set()
        self.hello = Hello((), ())
        self.ended: dict[Attempt, TaskEnded] = {}
        self.ran: list[Attempt] = []
        self.messages: list[ToNode] = []
        self._operator: Operator | None = None
        self._session: Session | None = None
        self._socket: Socket | None = None
        self._writer: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        name: str = self.raw["metadata"]["name"]
        return name

    @property
    def connected(self) -> bool:
        return self._session is not None

    def connect(self, operator: Operator) -> None:
        self.disconnect()
        held = tuple(RunningTask(*attempt) for attempt in [*self.running, *self.ended])
        metadata = self.raw["metadata"]
        hello = msgspec.structs.replace(self.hello, packages=self.packages, tasks=held)
        session = Session((metadata["namespace"], metadata["name"]), metadata["uid"], hello)
        self._operator, self._session, self._socket = operator, session, Socket(self._receive)
        writer = session.write(cast("web.WebSocketResponse", self._socket))
        self._writer = asyncio.get_running_loop().create_task(writer)
        operator.caches.pods.put(self.raw)  # as the node service does, which asks for the pod that it does not know
        operator.dispatcher.connected(session, observe_pod(self.raw))
        for end in tuple(self.ended.values()):
            operator.dispatcher.task_ended(session, end)

    def disconnect(self) -> None:
        """The connection breaks; what was on its way is lost."""
        if self._session is None or self._operator is None or self._socket is None or self._writer is None:
            return
        self._socket.open = False
        self._writer.cancel()
        self._operator.dispatcher.disconnected(self._session)
        self._session = None

    def _receive(self, message: ToNode) -> None:
        self.messages.append(message)
        attempt = (message.uid, message.attempt)
        match message:
            case RunTask():
                if attempt not in self.running and attempt not in self.ended:
                    self.running[attempt] = message
                    self.ran.append(attempt)
                    if message.packages:
                        self._tell(TaskStarted(*attempt, NOW))
            case EndTask():
                if attempt in self.running:
                    self.ending.add(attempt)
                    if message.requeue:
                        self.requeueing.add(attempt)
            case TaskRecorded():
                self.ended.pop(attempt, None)

    def finish(self, attempt: Attempt, code: int = 0, problem: Problem | None = None, *, lost: bool = False) -> None:
        """An attempt ends."""
        del self.running[attempt]
        if attempt in self.ending:
            self.ending.discard(attempt)
            problem, lost = ENDED, lost or attempt in self.requeueing
        end = TaskEnded(*attempt, NOW, LATER, None if lost else code, problem, lost=lost)
        self.ended[attempt] = end
        self._tell(end)

    def say(self, message: StartTaskChanged | NodeProblem) -> None:
        """Tell of the node itself."""
        assert self._session is not None
        assert self._operator is not None
        self._session.hear(message)
        self._operator.dispatcher.node_changed(self._session)

    def _tell(self, message: TaskStarted | TaskEnded) -> None:
        if self._session is None or self._operator is None:
            return
        if isinstance(message, TaskEnded):
            self._operator.dispatcher.task_ended(self._session, message)
        else:
            self._operator.dispatcher.task_started(self._session, message)


class World:
    """An API server, an operator and the nodes of the pool ``render``."""

    def __init__(self, *, nodes: int = 1, slots: int = 1, packages: tuple[VisiblePackage, ...] = ()) -> None:
        self.api = FakeApi()
        self.slots = slots
        self.packages = packages
        self.operator = Operator(self.api)
        self.nodes: dict[str, Node] = {}
        self.gone: list[Node] = []
        self.count = 0
        self._wanted = nodes

    async def start(self) -> None:
        """Make the pool and its nodes, and start the operator."""
        self.make_pool()
        for number in range(self._wanted):
            self.boot(f"render-{number}")
        self.operator.start()
        for node in self.nodes.values():
            node.connect(self.operator)
        await settle()

    def make_pool(self, **spec: Any) -> None:
        raw = raw_pool(taskSlotsPerNode=self.slots, targetNodes=max(self._wanted, 1), **spec)
        self.count += 1
        raw["metadata"]["uid"] = f"pool-{self.count}"
        self.api.put(POOL, raw)

    def boot(self, name: str) -> Node:
        """A node's pod appears."""
        self.count += 1
        raw = self.api.put(POD, raw_pod(name, uid=f"pod-{self.count}"))
        node = self.nodes[name] = Node(raw, self.packages)
        return node

    def lose(self, name: str) -> None:
        """A node's pod vanishes with all that it ran."""
        node = self.nodes.pop(name)
        node.disconnect()
        self.gone.append(node)
        self.api.remove(POD, NAMESPACE, name)

    def create(self, name: str = "", **spec: Any) -> str:
        """Create a task; its uid."""
        self.count += 1
        raw = raw_task(name or f"task-{self.count}", **spec)
        raw["metadata"] |= {"uid": f"u{self.count}", "creationTimestamp": f"2026-05-01T11:00:{self.count:05}Z"}
        self.api.put(TASK, raw)
        return f"u{self.count}"

    def delete(self, uid: str) -> None:
        self.api.remove(TASK, NAMESPACE, self.task(uid).metadata.name)

    def task(self, uid: str) -> Task:
        """A task as the API server has it."""
        (raw,) = (raw for raw in self.api.all(TASK) if raw["metadata"]["uid"] == uid)
        return Task.model_validate(raw)

    def state(self, uid: str) -> str:
        return self.task(uid).status.state

    def runs(self, uid: str) -> list[tuple[str, int]]:
        """Who runs a task now: the node's name and the number of the attempt."""
        return [
            (node.name, attempt)
            for node in self.nodes.values()
            for found, attempt in node.running
            if found == uid and (found, attempt) not in node.ending
        ]

    async def finish(self, uid: str, code: int = 0, *, lost: bool = False) -> None:
        """Let the one attempt of a task end that runs now, and its result come in."""
        ((name, number),) = self.runs(uid)
        self.nodes[name].finish((uid, number), code, lost=lost)
        await settle()

    async def restart_operator(self) -> None:
        """Kill the operator; another one starts and all nodes come back to it."""
        await self.operator.kill()
        await self.start_operator()

    async def start_operator(self) -> None:
        """Another operator starts in place of one that was killed, and all nodes come back to it."""
        for node in self.nodes.values():
            node.disconnect()
        self.operator = Operator(self.api)
        self.operator.start()
        for node in self.nodes.values():
            node.connect(self.operator)
        await settle()
