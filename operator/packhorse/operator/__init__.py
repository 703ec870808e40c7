"""The operator's process: Kopf as the shell, controllers, the node service and the dispatcher of tasks."""
