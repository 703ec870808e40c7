"""The command line: `python -m tests.cluster COMMAND`."""

import argparse
import os
import shlex
import sys

from tests.cluster import cluster, kind, tools
from tests.cluster import engine as engines
from tests.cluster.cache import Cache
from tests.cluster.command import ClusterError
from tests.cluster.progress import say

_COMMANDS = {
    "up": "find the cluster, or mend or make it, and bring all images to it",
    "sync": "bring the sources as they are now to the running cluster",
    "status": "say what there is",
    "kubeconfig": "print the path of the kubeconfig",
    "env": "print lines for the shell: eval $(python -m tests.cluster env)",
    "down": "remove the cluster",
}


def main() -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="A real cluster for tests and demo.")
    parser.add_argument("--name", default=cluster.NAME, help="of the kind cluster (default: %(default)s)")
    parser.add_argument("--kubeconfig", metavar="PATH", help="use the cluster of this kubeconfig, and make none")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, text in _COMMANDS.items():
        commands.add_parser(command, help=text)
    arguments = parser.parse_args()
    try:
        _run(arguments.command, arguments.name, arguments.kubeconfig)
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. What was finished is kept.\n")
        return 130
    return 0


def _run(command: str, name: str, kubeconfig: str | None) -> None:
    if command == "up":
        ready = cluster.ensure(name, kubeconfig)
        say(f"Ready. export KUBECONFIG={ready.kubeconfig}")
    elif command == "sync":
        cluster.sync(name, kubeconfig)
    elif command == "down":
        path, _ = cluster.choose_kubeconfig(kubeconfig, os.environ)
        if path:
            raise ClusterError(f"The cluster of {path} was not made here, so it is not removed here either.")
        cluster.remove(name)
    elif command == "status":
        _status(name)
    else:
        path, _ = cluster.choose_kubeconfig(kubeconfig, os.environ)
        path = path or kind.kubeconfig_path(Cache(), name)
        sys.stdout.write(f"{path}\n" if command == "kubeconfig" else _exports(str(path)))


def _exports(kubeconfig: str) -> str:
    """Lines for the shell: the kubeconfig, the engine if it is not the default one, and the tools' folders."""
    cache = Cache()
    lines = [f"export KUBECONFIG={shlex.quote(kubeconfig)}"]
    engine = engines.find(cache)
    if engine and engine.host:
        lines.append(f"export DOCKER_HOST={shlex.quote(engine.host)}")
    found = tools.ensure(cache)
    folders = dict.fromkeys(str(tool.parent) for tool in (found.kind, found.kubectl, found.helm))
    lines.append(f"export PATH={shlex.quote(':'.join(folders))}:$PATH")
    return "\n".join(lines) + "\n"


def _status(name: str) -> None:
    cache = Cache()
    engine = engines.find(cache)
    if not engine:
        sys.stdout.write("No Docker engine answers, so there is no cluster. Make one: python -m tests.cluster up\n")
        return
    sys.stdout.write(f"engine      {engine.host or 'the default one'}{' (started by us)' if engine.own else ''}\n")
    nodes = kind.nodes(engine, name)
    if not nodes:
        sys.stdout.write(f"cluster     there is no {name}. Make it: python -m tests.cluster up\n")
        return
    found = kind.KindCluster(cache, engine, name)
    sys.stdout.write(f"cluster     {name}, {'healthy' if found.healthy() else 'damaged: python -m tests.cluster up'}\n")
    for node in nodes:
        sys.stdout.write(f"node        {node.name} ({'running' if node.running else 'stopped'})\n")
    sys.stdout.write(f"kubeconfig  {found.kubeconfig}\n")


if __name__ == "__main__":
    sys.exit(main())
