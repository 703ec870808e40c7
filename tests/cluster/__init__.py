"""A real Kubernetes cluster for tests and demo, on any machine: kind, with whatever it takes to get there.

Use `ensure` from Python and `python -m tests.cluster` from a terminal. Only the standard library is needed.

    engine, apt                   a Docker engine: one that answers, or Debian's
    golang, tools                 kind, kubectl and helm: found, or built
    nodeimage, nodebase, systemimages, debootstrap, dockerarchive
                                  the image of a node: pulled, or built
    kind                          the cluster itself
    images, registry, loading     what runs on it, and how it gets there
    cluster                       all of this put together
"""

from tests.cluster.cluster import Cluster, ensure, sync
from tests.cluster.command import ClusterError

__all__ = ["Cluster", "ClusterError", "ensure", "sync"]
