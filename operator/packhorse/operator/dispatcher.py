"""Brings tasks to nodes and their results back.

Order of things for one attempt: the status says ``running`` with node and attempt; the node is told; the node reports
the end; the status says so; the node may forget. Wherever this is cut off, the next hello of the node, or the next
start of the operator, finds what is missing: attempts are numbered, and a report of another attempt than the current
one changes nothing.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import ApiError, ApiUnavailableError, Client
from packhorse.cluster.queue import WorkQueue
from packhorse.cluster.status import write_status
from packhorse.domain import azure, tasks
from packhorse.domain.conditions import SCHEDULED
from packhorse.domain.environment import CollisionError, package_variables, task_variables
from packhorse.domain.fleet import Fleet, Waiting
from packhorse.domain.nodes import Pod, Presence
from packhorse.domain.references import UnresolvedReferenceError
from packhorse.model import Pool, Task, TaskState, TaskStatus
from packhorse.operator.caches import Caches
from packhorse.operator.sessions import Session, Sessions
from packhorse.protocol import EndTask, Package, Problem, RunTask, TaskEnded, TaskRecorded, TaskStarted

_log = logging.getLogger(__name__)

WRITES_AT_ONCE = 32
"""Status patches in flight; more do not make one API server faster."""
FIRST_DELAY = 0.2
LONGEST_DELAY = 30.0


class Dispatcher:
    """Schedules the tasks of all pools. All of it runs in the event loop; nothing here blocks.

    Args:
        pool_changed: Told the key of a pool whose nodes' state may have changed.
    """

    def __init__(self, client: Client, caches: Caches, sessions: Sessions, pool_changed: Callable[[Key], None]) -> None:
        self._client = client
        self._caches = caches
        self._sessions = sessions
        self._pool_changed = pool_changed
        self._fleet = Fleet()
        self._keys: dict[str, Key] = {}
        self._pods: dict[Key, str] = {}
        self._pools: set[str] = set()
        # a lock lives as long as somebody holds it or waits for it
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)
        self._jobs: set[asyncio.Task[None]] = set()
        self._giving: set[str] = set()
        self._ending: set[tuple[str, int]] = set()
        self._queue: WorkQueue[Key] = WorkQueue("pool", self._schedule, workers=8)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await self._queue.run()
        finally:
            for job in self._jobs:
                job.cancel()

    def presence(self, pool: Key) -> dict[str, Presence]:
        """What the connections of a pool's nodes show, by name of the node."""
        result = {}
        for pod in self._caches.nodes_of(pool):
            node = (pod.namespace, pod.name)
            session = self._sessions.get(node)
            if session is not None and session.pod_uid == pod.uid:
                result[pod.name] = Presence(session.hello.packages, len(self._fleet.held(node)))
        return result

    # --- what happens to objects ---------------------------------------------------------------------------------

    def pool_seen(self, pool: Pool) -> None:
        """A pool was made or changed."""
        for pod in self._caches.nodes_of(pool.key):
            self._set_node(pod, pool)
        if pool.metadata.uid not in self._pools:
            self._pools.add(pool.metadata.uid)
            for task in tuple(self._caches.tasks.in_namespace(pool.metadata.namespace)):
                if task.spec.pool == pool.metadata.name:
                    self.task_seen(task)
        self._queue.add(pool.key)

    def node_seen(self, pod: Pod) -> None:
        """A node's pod was made or changed."""
        node = (pod.namespace, pod.name)
        if self._pods.get(node, pod.uid) != pod.uid:
            self.node_gone(node)
        self._pods[node] = pod.uid
        pool = self._caches.pools.get((pod.namespace, pod.pool))
        if pool is not None:
            self._set_node(pod, pool)
            self._queue.add(pool.key)

    def node_gone(self, node: Key) -> None:
        """A node's pod is no more: what it ran goes back into the queue."""
        self._pods.pop(node, None)
        for uid in self._fleet.remove_node(node):
            self._requeue(uid, node)

    def task_seen(self, task: Task) -> None:
        """A task was made or changed."""
        uid, status = task.metadata.uid, task.status
        self._keys[uid] = task.key
        pool = (task.metadata.namespace, task.spec.pool)
        if status.state is TaskState.COMPLETED or task.metadata.deletion_timestamp is not None:
            if status.state is TaskState.COMPLETED and self._fleet.release(uid) is not None:
                self._freed(pool)
        elif status.state is TaskState.ACTIVE:
            if self._fleet.holder(uid) is None:
                self._enqueue(task)
        elif self._fleet.holder(uid) is None:
            node = (task.metadata.namespace, status.node_name or "")
            if not self._fleet.hold(uid, node, task.spec.required_slots):
                self._requeue(uid, node)

    def task_gone(self, task: Task) -> None:
        """A task was deleted: its processes end, and its slots are free when they have."""
        uid = task.metadata.uid
        self._keys.pop(uid, None)
        node = self._fleet.holder(uid)
        session = self._sessions.get(node) if node else None
        if session is not None:
            session.send(EndTask(uid, task.status.attempt))
        else:
            self._fleet.release(uid)

    # --- what nodes say -------------------------------------------------------------------------------------------

    def connected(self, session: Session, pod: Pod) -> None:
        """A node said hello: what it holds and what we believe are brought together."""
        self._sessions.add(session)
        self.node_seen(pod)
        reported = {(task.uid, task.attempt) for task in session.hello.tasks}
        for uid in self._fleet.held(session.node):
            task = self._task(uid)
            if task is None:
                self._fleet.release(uid)
            elif task.status.state is TaskState.ACTIVE:
                if uid not in self._giving:
                    self._release(uid)
                    self._enqueue(task)
            elif (uid, task.status.attempt) not in reported:
                self._spawn(self._push(task, session))
        for uid, attempt in reported:
            if not self._current(uid, attempt, session):
                session.send(EndTask(uid, attempt))
        self._pool_changed((pod.namespace, pod.pool))

    def disconnected(self, session: Session) -> None:
        """A node's connection ended; what it runs goes on there."""
        if self._sessions.remove(session):
            pod = self._caches.pods.get(session.node)
            if pod is not None:
                self.node_seen(pod)
                self._pool_changed((pod.namespace, pod.pool))

    def task_started(self, session: Session, message: TaskStarted) -> None:
        """The packages of a task are installed, its command line runs."""
        if self._current(message.uid, message.attempt, session):
            self._spawn(self._note_started(message))

    def task_ended(self, session: Session, message: TaskEnded) -> None:
        """An attempt is over. Nodes repeat this until it is recorded."""
        attempt = (message.uid, message.attempt)
        if attempt in self._ending:
            return
        if not self._current(message.uid, message.attempt, session):
            if self._keys.get(message.uid) is None and self._fleet.release(message.uid) is not None:
                self._node_freed(session.node)
            session.send(TaskRecorded(message.uid, message.attempt))
            return
        self._ending.add(attempt)
        self._spawn(self._record_end(session, message))

    # --- scheduling -----------------------------------------------------------------------------------------------

    async def _schedule(self, key: Key) -> None:
        pool = self._caches.pools.get(key)
        if pool is None:
            return
        given = False
        for assignment in self._fleet.assign(key, pool.spec.task_scheduling_policy.node_fill_type):
            given = True
            self._spawn(self._dispatch(assignment.uid, assignment.node))
        if given:
            self._pool_changed(key)

    def _enqueue(self, task: Task) -> None:
        namespace, name = task.metadata.namespace, task.spec.pool
        pool = self._caches.pools.get((namespace, name))
        if pool is None:
            message = f"there is no Pool '{name}' in the namespace '{namespace}'; the task waits for it"
            self._explain(task, "PoolNotFound", message)
        elif task.spec.required_slots > pool.spec.task_slots_per_node:
            message = (
                f"the task needs {task.spec.required_slots} slots, and a node of Pool '{name}' has"
                f" {pool.spec.task_slots_per_node}; create it anew with fewer requiredSlots, or for another pool"
            )
            self._explain(task, "NotEnoughSlots", message)
            return
        waiting = Waiting(
            negative_priority=-task.spec.priority,
            created=task.metadata.creation_timestamp,
            name=task.metadata.name,
            uid=task.metadata.uid,
            slots=task.spec.required_slots,
        )
        self._fleet.enqueue((namespace, name), waiting)
        self._queue.add((namespace, name))

    def _explain(self, task: Task, reason: str, message: str) -> None:
        """Tell in a condition why a task waits, once."""
        earlier = task.status.condition(SCHEDULED)
        if earlier is None or earlier.message != message:
            self._spawn(self._write(task, lambda current: tasks.waiting(current, reason, message, timestamp())))

    async def _dispatch(self, uid: str, node: Key) -> None:
        """Give a task to a node; where that fails, it waits again."""
        task = self._task(uid)
        session = self._sessions.get(node)
        if task is None or task.status.state is not TaskState.ACTIVE:
            self._release(uid)
            return None
        self._giving.add(uid)
        try:
            if session is not None:
                return await self._give(task, session)
        except Exception:
            self._release(uid)
            self._enqueue(task)
            raise
        finally:
            self._giving.discard(uid)
        self._release(uid)
        self._enqueue(task)
        return None

    async def _give(self, task: Task, session: Session) -> None:
        """Write first, then tell the node."""
        uid = task.metadata.uid
        problem = self._problem(task, session)
        if problem is not None:
            await self._write(task, lambda current: tasks.refused(current, problem, timestamp()))
            self._release(uid)
            return
        preparing = bool(task.spec.application_package_references)
        node = session.node[1]
        given = await self._write(task, lambda current: tasks.started(current, node, timestamp(), preparing=preparing))
        if given is None:
            self._release(uid)
        else:
            await self._push(given, session)

    async def _push(self, task: Task, session: Session) -> None:
        """Tell a node to run the attempt that the status shows."""
        try:
            message = self._message(task, session)
        except (UnresolvedReferenceError, CollisionError) as error:
            problem = _task_problem(task, error)
            await self._write(task, lambda current: tasks.refused(current, problem, timestamp()))
            self._release(task.metadata.uid)
            return
        current = self._sessions.get(session.node)
        if current is not None and current.pod_uid == session.pod_uid:
            current.send(message)

    def _problem(self, task: Task, session: Session) -> Problem | None:
        """Why a task cannot run at all with the packages that it names."""
        try:
            self._message(task, session)
        except (UnresolvedReferenceError, CollisionError) as error:
            return _task_problem(task, error)
        return None

    def _message(self, task: Task, session: Session) -> RunTask:
        """What the node is told. Raises UnresolvedReferenceError, CollisionError."""
        catalog = self._caches.catalog(task.metadata.namespace)
        own = catalog.resolve_all(task.spec.application_package_references)
        spec, limit = task.spec, task.spec.constraints.max_wall_clock_time
        environment = package_variables([*session.hello.packages, *own], catalog.defaults)
        environment |= task_variables(
            account=task.metadata.namespace, job_id=spec.job_id, name=task.metadata.name, attempt=task.status.attempt
        )
        environment |= {setting.name: setting.value for setting in spec.environment_settings}
        return RunTask(
            uid=task.metadata.uid,
            name=task.metadata.name,
            job_id=spec.job_id,
            attempt=task.status.attempt,
            command_line=spec.command_line,
            environment=environment,
            packages=tuple(item.package for item in own),
            max_wall_clock_time=tasks.seconds(limit) if limit else None,
        )

    def packages_for(self, node: Key) -> set[Package]:
        """The packages that the tasks which a node holds refer to: it may fetch these."""
        catalog = self._caches.catalog(node[0])
        found = set()
        for uid in self._fleet.held(node):
            task = self._task(uid)
            for reference in task.spec.application_package_references if task else ():
                try:
                    found.add(catalog.resolve(reference).package)
                except UnresolvedReferenceError:
                    continue
        return found

    # --- results --------------------------------------------------------------------------------------------------

    async def _note_started(self, message: TaskStarted) -> None:
        def change(current: Task) -> TaskStatus:
            status = current.status
            preparing = status.state is TaskState.PREPARING and status.attempt == message.attempt
            return tasks.running(current, timestamp()) if preparing else status

        task = self._task(message.uid)
        if task is not None:
            await self._write(task, change)

    async def _record_end(self, session: Session, message: TaskEnded) -> None:
        try:
            task = self._task(message.uid)
            if task is not None:
                task = await self._write(task, lambda current: self._after(current, message))
            self._release(message.uid)
            if task is not None and task.status.state is TaskState.ACTIVE:
                self._enqueue(task)
            (self._sessions.get(session.node) or session).send(TaskRecorded(message.uid, message.attempt))
        finally:
            self._ending.discard((message.uid, message.attempt))

    @staticmethod
    def _after(task: Task, message: TaskEnded) -> TaskStatus:
        if task.status.attempt != message.attempt or task.status.state is TaskState.COMPLETED:
            return task.status
        now = timestamp()
        return tasks.requeued(task, now) if message.lost else tasks.ended(task, message, now)

    def _requeue(self, uid: str, node: Key) -> None:
        """Put back a task whose node is no more."""
        task = self._task(uid)
        if task is not None and task.status.state in {TaskState.PREPARING, TaskState.RUNNING}:
            _log.info("task %s/%s: node %s is gone, the task waits for another one", *task.key, node[1])
            self._spawn(self._requeue_after_write(task, node))
        elif task is not None and task.status.state is TaskState.ACTIVE:
            self._enqueue(task)

    async def _requeue_after_write(self, task: Task, node: Key) -> None:
        written = await self._write(task, lambda current: tasks.requeued(current, timestamp()))
        if self._fleet.holder(task.metadata.uid) == node:
            self._release(task.metadata.uid)
        if written is not None and written.status.state is TaskState.ACTIVE:
            self._enqueue(written)

    # --- helpers --------------------------------------------------------------------------------------------------

    def _task(self, uid: str) -> Task | None:
        key = self._keys.get(uid)
        task = self._caches.tasks.get(key) if key else None
        return task if task is not None and task.metadata.uid == uid else None

    def _current(self, uid: str, attempt: int, session: Session) -> bool:
        """Whether this is the attempt that the task's status shows, on the node that it shows."""
        task = self._task(uid)
        return (
            task is not None
            and task.status.attempt == attempt
            and task.status.node_name == session.node[1]
            and task.status.state in {TaskState.PREPARING, TaskState.RUNNING}
        )

    def _set_node(self, pod: Pod, pool: Pool) -> None:
        node = (pod.namespace, pod.name)
        session = self._sessions.get(node)
        enabled = session is not None and session.pod_uid == pod.uid and not pod.deleting
        slots = pool.spec.task_slots_per_node
        self._fleet.set_node(node, pool=pool.key, ordinal=pod.ordinal, slots=slots, enabled=enabled)

    def _release(self, uid: str) -> None:
        node = self._fleet.release(uid)
        if node is not None:
            self._node_freed(node)

    def _node_freed(self, node: Key) -> None:
        pod = self._caches.pods.get(node)
        if pod is not None:
            self._freed((pod.namespace, pod.pool))

    def _freed(self, pool: Key) -> None:
        self._queue.add(pool)
        self._pool_changed(pool)

    async def _write(self, task: Task, change: Callable[[Task], TaskStatus]) -> Task | None:
        """Write the next status of a task, again until it is written; None where the task is gone.

        One write a task at a time: ``change`` is given the task as the write before left it, and at each try.
        Raises ApiError where the API server calls the status wrong.
        """
        uid = task.metadata.uid
        lock = self._locks.get(uid)
        if lock is None:
            lock = self._locks[uid] = asyncio.Lock()
        async with lock:
            return await self._write_alone(uid, change)

    async def _write_alone(self, uid: str, change: Callable[[Task], TaskStatus]) -> Task | None:
        tries = 0
        while True:
            current = self._task(uid)
            if current is None:
                return None
            status = change(current)
            if status is current.status:
                return current
            try:
                async with self._writes:
                    raw = await write_status(self._client, current, status)
            except (ApiError, ApiUnavailableError) as error:
                if isinstance(error, ApiError) and error.status in {400, 413, 422}:
                    raise
                tries += 1
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (tries - 1)) * random.uniform(0.8, 1.2)  # noqa: S311
                _log.warning("task %s/%s: status not written, try %d: %s", *current.key, tries, error)
                await asyncio.sleep(delay)
                continue
            if raw is None:
                return None
            return self._caches.tasks.put(raw) or self._task(uid)

    def _spawn(self, job: Awaitable[object]) -> None:
        async def guarded() -> None:
            try:
                await job
            except Exception:
                _log.exception("unexpected failure while handling a task; the next hello of its node mends it")

        task = asyncio.get_running_loop().create_task(guarded())
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)


def _task_problem(task: Task, error: UnresolvedReferenceError | CollisionError) -> Problem:
    if isinstance(error, UnresolvedReferenceError):
        return azure.invalid_packages(azure.INVALID_FOR_TASK, error.reference, azure.INVALID_REFERENCES, error.cause)
    references = ", ".join(reference.text for reference in task.spec.application_package_references)
    return azure.invalid_packages(azure.INVALID_FOR_TASK, references, azure.INVALID_REFERENCES, str(error))
