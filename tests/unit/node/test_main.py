"""What a node's agent and init container load."""

import os
import subprocess
import sys

HEAVY = {"azure", "kopf", "kubernetes", "pydantic", "requests", "yaml"}
PROGRAM = """
import sys, packhorse.node.main
loaded = {name for module in sys.modules for name in (module, module.partition(".")[0])}
print(*sorted(loaded & set(sys.argv[1:])))
"""


def test_nothing_heavy_runs_on_a_node() -> None:
    """Every node pays for it in memory and in time; a package loads with any module of it, which no linter sees."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *HEAVY, "packhorse.model", "packhorse.node.agent"],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("packhorse.node.agent\n", ""), "the agent alone, and nothing else of these"
