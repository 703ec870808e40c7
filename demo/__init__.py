"""Two versions of a real program at work on a pool of warm nodes: what one types, and sees. Run ``python -m demo``."""
