"""Azure Batch's application packages on any Kubernetes cluster."""

__version__ = "0.1.0"
