"""Brings tasks to nodes and their results back.

Order of things for one attempt: the status says ``running`` with node and attempt; the node is told; the node reports
the end; the status says so; the node may forget. Wherever this is cut off, the next hello of the node, or the next
start of the operator, finds what is missing: attempts are numbered, and a report of another attempt than the current
one changes nothing.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import Client
from packhorse.cluster.queue import WorkQueue
from packhorse.domain import tasks
from packhorse.domain.conditions import SCHEDULED
from packhorse.domain.execution import ImpossibleTaskError, run_task
from packhorse.domain.fleet import Fleet, Waiting
from packhorse.domain.nodes import Presence
from packhorse.domain.podstate import Pod
from packhorse.domain.references import UnresolvedReferenceError
from packhorse.model import Pool, RunningTaskOption, Task, TaskState, TaskStatus
from packhorse.operator.caches import Caches
from packhorse.operator.sessions import Session, Sessions
from packhorse.operator.task_writer import LONGEST_DELAY, Change, TaskWriter
from packhorse.protocol import EndTask, Package, RunTask, TaskEnded, TaskRecorded, TaskStarted

_log = logging.getLogger(__name__)


class Dispatcher:
    """Schedules the tasks of all pools. All of it runs in the event loop; nothing here blocks.

    Args:
        pool_changed: Told the key of a pool whose nodes' state may have changed.
    """

    def __init__(self, client: Client, caches: Caches, sessions: Sessions, pool_changed: Callable[[Key], None]) -> None:
        self._caches = caches
        self._write = TaskWriter(client, caches.tasks).write
        self._sessions = sessions
        self._pool_changed = pool_changed
        self._fleet = Fleet()
        self._keys: dict[str, Key] = {}
        self._pods: dict[Key, str] = {}
        self._drains: dict[Key, RunningTaskOption] = {}
        self._pools: set[str] = set()
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
                hello = session.hello
                result[pod.name] = Presence(
                    hello.packages, len(self._fleet.held(node)), hello.fingerprint, hello.start_task, hello.problem
                )
        return result

    def held(self, pool: Key) -> dict[str, int]:
        """How many tasks the nodes of a pool hold, connected or not, by name; those that hold none are left out."""
        counts = {pod.name: len(self._fleet.held((pod.namespace, pod.name))) for pod in self._caches.nodes_of(pool)}
        return {name: count for name, count in counts.items() if count}

    def demand(self, pool: Key) -> Counter[int]:
        """How many tasks of a pool, waiting or with a node, need so many slots."""
        return self._fleet.demand(pool)

    # --- what is to become of nodes -------------------------------------------------------------------------------

    def drain(self, pool: Pool, drains: Mapping[str, RunningTaskOption]) -> None:
        """Give no further tasks to these nodes of a pool, and to all its others again.

        What they run goes on, is ended, or is ended and put back, as the option says. It can be said again and again.
        """
        for pod in self._caches.nodes_of(pool.key):
            node, option = (pod.namespace, pod.name), drains.get(pod.name)
            before = self._drains.get(node)
            if option is None:
                self._drains.pop(node, None)
            else:
                self._drains[node] = option
            if (before is None) != (option is None):
                self._set_node(pod, pool)
                self._queue.add(pool.key)
            session = self._sessions.get(node)
            if option in {RunningTaskOption.REQUEUE, RunningTaskOption.TERMINATE} and session is not None:
                for uid in self._fleet.held(node):
                    task = self._task(uid)
                    if task is not None and uid not in self._giving:
                        requeue = option is RunningTaskOption.REQUEUE
                        session.send(EndTask(uid, task.status.attempt, requeue=requeue))

    def lost(self, node: Key) -> None:
        """A node is gone with its machine, for all that can be known: its tasks run elsewhere."""
        _log.warning("node %s/%s is lost; its tasks are put back", *node)
        self.node_gone(node)

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
        self._drains.pop(node, None)
        for uid in self._fleet.remove_node(node):
            self._requeue(uid, node)

    def task_seen(self, task: Task) -> None:
        """A task was made or changed."""
        uid, status = task.metadata.uid, task.status
        self._keys[uid] = task.key
        pool = (task.metadata.namespace, task.spec.pool)
        if status.state is TaskState.COMPLETED:
            if self._fleet.release(uid) is not None:
                self._freed(pool)
        elif task.metadata.deletion_timestamp is not None:
            if self._fleet.holder(uid) is None:
                self._leave_queue(task)
        elif status.state is TaskState.ACTIVE:
            if self._fleet.holder(uid) is None and uid not in self._giving:
                self._enqueue(task)
        else:
            node = (task.metadata.namespace, status.node_name or "")
            if self._fleet.holder(uid) != node:
                if not self._fleet.hold(uid, node, task.spec.required_slots):
                    self._requeue(uid, node)
                self._queue.add(pool)

    def task_gone(self, task: Task) -> None:
        """A task was deleted: its processes end, and its slots are free when they have."""
        uid = task.metadata.uid
        self._keys.pop(uid, None)
        node = self._fleet.holder(uid)
        session = self._sessions.get(node) if node else None
        if session is not None:
            session.send(EndTask(uid, task.status.attempt))
        else:
            self._leave_queue(task)

    # --- what nodes say -------------------------------------------------------------------------------------------

    def connected(self, session: Session, pod: Pod) -> None:
        """A node said hello: what it holds and what we believe are brought together."""
        self._sessions.add(session)
        self.node_seen(pod)
        reported = {(task.uid, task.attempt) for task in session.hello.tasks}
        for uid in self._fleet.held(session.node):
            task = self._task(uid)
            if uid in self._giving:
                continue
            if task is None:
                self._fleet.release(uid)
            elif task.status.state is TaskState.ACTIVE:
                self._release(uid)
                self._enqueue(task)
            elif (uid, task.status.attempt) not in reported:
                if self._fleet.free(session.node) < 0:  # it was rebooted, and has got others since
                    self._requeue(uid, session.node)
                else:
                    self._spawn(self._push(task, session.node))
        for uid, attempt in reported:
            if not self._current(uid, attempt, session):
                session.send(EndTask(uid, attempt))
        self._pool_changed((pod.namespace, pod.pool))

    def disconnected(self, session: Session) -> None:
        """A node's connection ended; what it runs goes on there."""
        if self._sessions.remove(session):
            self.node_changed(session)

    def node_changed(self, session: Session) -> None:
        """What a node says of its start task or its disk has changed."""
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
            self._giving.add(assignment.uid)
            self._spawn(self._dispatch(assignment.uid, assignment.node))
        if given or pool.spec.auto_scale is not None:
            self._pool_changed(key)

    def _enqueue(self, task: Task) -> None:
        if task.metadata.deletion_timestamp is not None:
            return
        key = (task.metadata.namespace, task.spec.pool)
        pool = self._caches.pools.get(key)
        obstacle = tasks.obstacle(task, pool)
        if obstacle is not None:
            self._explain(task, *obstacle)
        if pool is not None and obstacle is not None:
            self._leave_queue(task)
            return
        if obstacle is None and task.status.condition(SCHEDULED) is not None:
            self._explain(task, "WaitingForNode", f"the task waits for free slots on a node of Pool '{key[1]}'")
        waiting = Waiting(
            negative_priority=-task.spec.priority,
            created=task.metadata.creation_timestamp,
            name=task.metadata.name,
            uid=task.metadata.uid,
            slots=task.spec.required_slots,
        )
        self._fleet.enqueue(key, waiting)
        self._queue.add(key)

    def _leave_queue(self, task: Task) -> None:
        """A task waits no longer: those behind it may fit where it did not."""
        self._fleet.release(task.metadata.uid)
        self._queue.add((task.metadata.namespace, task.spec.pool))

    def _explain(self, task: Task, reason: str, message: str) -> None:
        """Tell in a condition why a task waits, once."""
        earlier = task.status.condition(SCHEDULED)
        if earlier is None or earlier.message != message:
            change = _if_active(lambda current: tasks.waiting(current, reason, message, timestamp()))
            self._spawn(self._write(task, change))

    async def _dispatch(self, uid: str, node: Key) -> None:
        """Give a task to a node; where that fails, it waits again."""
        task = self._task(uid)
        session = self._sessions.get(node)
        settled = False
        try:
            if task is not None and task.status.state is TaskState.ACTIVE and session is not None:
                settled = await self._give(task, session)
        except Exception:
            self._release(uid)
            asyncio.get_running_loop().call_later(LONGEST_DELAY, self._wait_again, uid)
            raise
        finally:
            self._giving.discard(uid)
        if not settled:
            self._release(uid)
            self._wait_again(uid)

    def _wait_again(self, uid: str) -> None:
        task = self._task(uid)
        if task is not None:
            self.task_seen(task)

    async def _give(self, task: Task, session: Session) -> bool:
        """Write first, then tell the node; False where the node does not get it after all."""
        uid, node = task.metadata.uid, session.node
        preparing = bool(task.spec.application_package_references)

        def start(current: Task) -> TaskStatus:
            if current.status.state is not TaskState.ACTIVE or self._fleet.holder(uid) != node:
                return current.status
            try:
                self._message(current, session)
            except ImpossibleTaskError as error:
                return tasks.refused(current, error.problem, timestamp())
            return tasks.started(current, node[1], timestamp(), preparing=preparing)

        given = await self._write(task, start)
        if given is None or given.status.state is TaskState.COMPLETED:
            self._release(uid)
            return True
        if not _runs(given, given.status.attempt) or given.status.node_name != node[1]:
            return False
        if self._pods.get(node) != session.pod_uid:  # rebooted meanwhile: the attempt never reached it
            await self._end(given, lambda current: tasks.requeued(current, timestamp()))
            return False
        await self._push(given, node)
        if node in self._drains:  # since it was chosen
            self._pool_changed((task.metadata.namespace, task.spec.pool))
        return True

    async def _push(self, task: Task, node: Key) -> None:
        """Tell a node to run the attempt that the status shows; one that is away will ask for it by its hello."""
        session = self._sessions.get(node)
        if session is None:
            return
        try:
            session.send(self._message(task, session))
        except ImpossibleTaskError as error:
            problem = error.problem
            await self._end(task, lambda current: tasks.refused(current, problem, timestamp()))
            self._release(task.metadata.uid)

    def _message(self, task: Task, session: Session) -> RunTask:
        """What the node is told. Raises ImpossibleTaskError."""
        return run_task(task, session.hello.packages, self._caches.catalog(task.metadata.namespace))

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
        def change(current: Task) -> TaskStatus:
            now = timestamp()
            return tasks.requeued(current, now) if message.lost else tasks.ended(current, message, now)

        try:
            task = self._task(message.uid)
            if task is not None and task.status.attempt == message.attempt:
                await self._end(task, change)
            elif task is None:
                self._release(message.uid)
            (self._sessions.get(session.node) or session).send(TaskRecorded(message.uid, message.attempt))
        finally:
            self._ending.discard((message.uid, message.attempt))

    async def _end(self, task: Task, change: Change) -> None:
        """Write what follows from the end of a task's attempt; then no node holds it, and it may wait again.

        Nothing is written where the attempt is over already: of two ends that are seen, one counts.
        """
        uid, attempt = task.metadata.uid, task.status.attempt
        over = False

        def end(current: Task) -> TaskStatus:
            nonlocal over
            if not _runs(current, attempt):
                return current.status
            over = True
            return change(current)

        written = await self._write(task, end)
        if (written is None or over) and uid not in self._giving:  # the news may have come first, by the watch
            self._release(uid)
        if written is not None and written.status.state is TaskState.ACTIVE:
            self._enqueue(written)

    def _requeue(self, uid: str, node: Key) -> None:
        """Put back a task whose node is no more."""
        task = self._task(uid)
        if task is not None and task.status.state in {TaskState.PREPARING, TaskState.RUNNING}:
            _log.info("task %s/%s: node %s is gone, the task waits for another one", *task.key, node[1])
            self._spawn(self._end(task, lambda current: tasks.requeued(current, timestamp())))
        elif task is not None:
            self.task_seen(task)

    # --- helpers --------------------------------------------------------------------------------------------------

    def _task(self, uid: str) -> Task | None:
        key = self._keys.get(uid)
        task = self._caches.tasks.get(key) if key else None
        return task if task is not None and task.metadata.uid == uid else None

    def _current(self, uid: str, attempt: int, session: Session) -> bool:
        """Whether this is the attempt that the task's status shows, on the node that it shows."""
        task = self._task(uid)
        return task is not None and task.status.node_name == session.node[1] and _runs(task, attempt)

    def _set_node(self, pod: Pod, pool: Pool) -> None:
        node = (pod.namespace, pod.name)
        session = self._sessions.get(node)
        connected = session is not None and session.pod_uid == pod.uid and session.takes_tasks
        # Also before anybody has planned for the node, as just after the operator's start.
        asked = pod.disable or pod.reboot or pod.reimage or pod.ordinal >= pool.spec.target_nodes
        enabled = connected and not pod.deleting and not asked and node not in self._drains
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

    def _spawn(self, job: Awaitable[object]) -> None:
        async def guarded() -> None:
            try:
                await job
            except Exception:
                _log.exception("unexpected failure while handling a task; the next hello of its node mends it")

        task = asyncio.get_running_loop().create_task(guarded())
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)


def _runs(task: Task, attempt: int) -> bool:
    """Whether this attempt is with a node, and not over."""
    return task.status.attempt == attempt and task.status.state in {TaskState.PREPARING, TaskState.RUNNING}


def _if_active(change: Change) -> Change:
    """``change``, unless the task is no longer active by the time it is written."""
    return lambda current: change(current) if current.status.state is TaskState.ACTIVE else current.status
