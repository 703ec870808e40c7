"""The Kubernetes API: one client, a cache that decisions may depend on, a work queue, and a writer of status."""
