"""A Docker engine: the one that answers, or Debian's, started and looked after by ourselves."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster import apt
from tests.cluster.cache import Cache, content_key, remove
from tests.cluster.command import ClusterError, CommandError, environment, run, succeeds
from tests.cluster.progress import say

_CAP_SYS_RESOURCE = 24
_START_TIMEOUT = 40.0  # seconds; a start takes 2, one that has to clean up after a crash 15
_STOP_TIMEOUT = 60.0
_WRAPPER = Path(__file__).parent / "files" / "runc-without-sys-resource"


@dataclasses.dataclass(frozen=True)
class Engine:
    """A Docker engine that answers.

    Attributes:
        host: Its address as DOCKER_HOST takes it; None for the Docker client's own default.
        own: Whether it was started by us, with our settings.
    """

    host: str | None
    own: bool

    @property
    def env(self) -> dict[str, str | None]:
        """What Docker's and kind's clients need in their environment to reach it."""
        return {"DOCKER_HOST": self.host, "DOCKER_CONTEXT": None, "KIND_EXPERIMENTAL_PROVIDER": "docker"}

    def docker(
        self,
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float | None = None,
        log: Path | None = None,
    ) -> str:
        """Run one of Docker's commands and return what it prints, without the last line's end."""
        return run(["docker", *args], env={**self.env, **(env or {})}, stdin=stdin, timeout=timeout, log=log).rstrip(
            "\n"
        )

    def build(self, *args: str | Path, stdin: str | None = None, log: Path | None = None) -> None:
        """Run `docker build`, with BuildKit where the client has it and with Docker's classic builder otherwise."""
        buildkit = succeeds(["docker", "buildx", "version"], env=self.env, timeout=20)
        env = {"DOCKER_BUILDKIT": "1" if buildkit else "0"}
        self.docker("build", "--quiet", "--network", "host", *args, env=env, stdin=stdin, log=log)

    def has_image(self, name: str) -> bool:
        """Whether the engine holds an image of this name."""
        return succeeds(["docker", "image", "inspect", "--format", "{{.Id}}", name], env=self.env, timeout=60)

    @property
    def cgroup_v1(self) -> bool:
        """Whether the machine still has version 1 of control groups, which some programs refuse unless told not to."""
        return self.docker("info", "--format", "{{.CgroupVersion}}", timeout=30) == "1"


def lacks_sys_resource(status: str) -> bool:
    """Whether a process with this /proc/self/status lacks CAP_SYS_RESOURCE, or may not hand it on."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return not all(int(fields[name], 16) >> _CAP_SYS_RESOURCE & 1 for name in ("CapEff", "CapBnd"))


def find(cache: Cache) -> Engine | None:
    """The engine to use if one answers now: our own (where it runs, our cluster is), DOCKER_HOST's, the default."""
    ours = OwnEngine(cache)
    candidates = [Engine(ours.host, own=True)]
    if (named := os.environ.get("DOCKER_HOST")) and named != ours.host:
        candidates.append(Engine(named, own=False))
    candidates.append(Engine(None, own=False))
    return next((engine for engine in candidates if _answers(engine)), None)


def ensure(cache: Cache) -> Engine:
    """An engine that answers; where none does, Debian's is installed if need be and started.

    Raises:
        ClusterError: There is none, and it takes somebody to install or start one.
    """
    if engine := find(cache):
        return engine
    with cache.lock("engine"):
        if engine := find(cache):
            return engine
        if named := os.environ.get("DOCKER_HOST"):
            say(f"DOCKER_HOST={named} does not answer.")
        if not (shutil.which("dockerd") and os.geteuid() == 0):
            if not apt.can_install():
                raise ClusterError(
                    "No Docker engine answers. Start Docker (or set DOCKER_HOST to one that runs), or run this as root "
                    "on Debian, where Debian's own is installed and started."
                )
            apt.install(
                cache, {"docker.io": "dockerd", "iptables": "iptables"}, "A test cluster where no Docker engine answers"
            )
            if engine := find(cache):  # where systemd runs, installing it has started it
                return engine
        ours = OwnEngine(cache)
        ours.start()
        return Engine(ours.host, own=True)


def _answers(engine: Engine) -> bool:
    if engine.host and engine.host.startswith("unix://") and not Path(engine.host.removeprefix("unix://")).exists():
        return False
    return succeeds(["docker", "version", "--format", "{{.Server.Version}}"], env=engine.env, timeout=10)


class OwnEngine:
    """Debian's dockerd with a socket, pid file and data folder of ours, apart from any other engine.

    It outlives the process that starts it. Whatever an earlier one left behind (killed, or gone with the machine) is
    cleared away or taken over.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._folder = cache.root / "engine"
        # Below /run, since a socket's path is limited to 108 bytes; apart for each cache.
        self._run = Path("/run") / f"packhorse-{content_key([str(cache.root)])[:8]}"
        self._socket = self._run / "docker.sock"
        self._pid_file = self._run / "docker.pid"
        self._exec_root = self._run / "exec"
        self.host = f"unix://{self._socket}"

    def used(self) -> bool:
        """Whether it was ever started."""
        return (self._folder / "data").exists()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ClusterError: It does not answer, twice.
        """
        if pid := self._alive(self._pid_file, "dockerd"):
            say(f"Our Docker engine (process {pid}) runs but does not answer: ending it.")
            self._end([pid])
        self._clear_stale_files()
        try:
            self._launch()
        except ClusterError as error:
            say(f"{error}\nTrying once more, with nothing left of the earlier one.")
            self._end(self._processes())
            remove(self._exec_root)
            self._clear_stale_files()
            self._launch()

    def stop(self) -> None:
        """Stop it if it runs, and wait for its end."""
        if pid := self._alive(self._pid_file, "dockerd"):
            self._end([pid])
            self._end(self._processes())  # a containerd that it took over from an earlier one stays behind
            self._unmount()
            remove(self._run)
            say("Stopped our Docker engine.")

    def _unmount(self) -> None:
        """Unmount what an engine that was killed left mounted, so that its folders can be removed."""
        points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        ours = [point for point in points if point.startswith((f"{self._folder}/", f"{self._run}/"))]
        for point in reversed(ours):
            run(["umount", point])

    def _launch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run.mkdir(parents=True, exist_ok=True)
        config = self._folder / "daemon.json"
        config.write_text(json.dumps(self._settings(), indent=1))
        _set_up_kernel()
        log = self._folder / "dockerd.log"
        say("Starting a Docker engine of our own.")
        with log.open("w") as output:
            process = subprocess.Popen(
                ["dockerd", "--config-file", str(config)], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, cwd="/", start_new_session=True, env=environment({"DOCKER_HOST": None}),
            )  # fmt: skip
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            if _answers(Engine(self.host, own=True)):
                return
            if process.poll() is not None:
                break
            time.sleep(0.2)
        self._end([process.pid])
        process.wait()
        raise ClusterError(f"dockerd did not come up. The end of {log}:\n{log.read_text(errors='replace')[-1500:]}")

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "hosts": [self.host],
            "data-root": str(self._folder / "data"),
            "exec-root": str(self._exec_root),
            "pidfile": str(self._pid_file),
            "bridge": "none",  # kind has a network of its own; so two engines never quarrel about docker0
        }
        if lacks_sys_resource(Path("/proc/self/status").read_text()):
            wrapper = self._folder / "runc"
            shutil.copyfile(_WRAPPER, wrapper)
            wrapper.chmod(0o755)
            settings["runtimes"] = {"without-sys-resource": {"path": str(wrapper)}}
            settings["default-runtime"] = "without-sys-resource"
            if "oom-score-adjust" in run(["dockerd", "--help"]):  # a lower one takes that capability
                settings["oom-score-adjust"] = 0
        return settings

    def _clear_stale_files(self) -> None:
        """Remove pid files whose process is gone, or whose number belongs to another program by now.

        A containerd of the earlier engine that still runs stays: dockerd takes it over, and with it the containers.
        """
        self._run.mkdir(parents=True, exist_ok=True)
        for file, program in (
            (self._pid_file, "dockerd"),
            (self._exec_root / "containerd" / "containerd.pid", "containerd"),
        ):
            if not self._alive(file, program):
                file.unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)

    def _alive(self, pid_file: Path, program: str) -> int | None:
        """The process that the pid file names, if it is that program and runs for this folder."""
        try:
            pid = int(pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        words = _command_line(pid)
        ours = any(str(folder) in word for folder in (self._folder, self._run) for word in words)
        return pid if words and Path(words[0]).name == program and ours else None

    def _processes(self) -> list[int]:
        """All processes of this engine: dockerd, containerd and the shims."""
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        programs = ("dockerd", "containerd", "containerd-shim-runc-v2")
        return [
            pid
            for pid in pids
            if (words := _command_line(pid))
            and Path(words[0]).name in programs
            and any(str(folder) in word for folder in (self._folder, self._run) for word in words)
        ]

    @staticmethod
    def _end(pids: Sequence[int]) -> None:
        """End processes: politely, then, when they take too long, at once."""
        for sent, patience in ((signal.SIGTERM, _STOP_TIMEOUT), (signal.SIGKILL, 10.0)):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sent)
            deadline = time.monotonic() + patience
            while any(_command_line(pid) for pid in pids):  # a process that has ended but is not waited for has none
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            else:
                return
        raise CommandError(f"Processes {list(pids)} do not end, not even by SIGKILL.")


def _set_up_kernel() -> None:
    """Raise what the kernel allows to what a cluster in containers takes; nothing is lowered."""
    for name, least in (
        ("net/ipv4/ip_forward", 1),  # before dockerd does it, which then drops all packets that others forward
        ("fs/inotify/max_user_instances", 1024),  # each node's systemd, kubelet and containerd take a dozen or two
        ("fs/inotify/max_user_watches", 524288),
    ):
        setting = Path("/proc/sys") / name
        if int(setting.read_text()) < least:
            setting.write_text(str(least))


def _command_line(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.split("\0") if text else []
