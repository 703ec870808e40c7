"""What runs on a node: the installation of packages, the agent, and the supervisor of tasks."""
