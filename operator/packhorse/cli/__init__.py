"""The command line: what people type beside ``kubectl``.

It starts fast, so modules import what is heavy (the Kubernetes client, the storage SDK, Rich) where they use it.
"""
