"""Liveness and readiness, for the kubelet."""

from aiohttp import web


class Health:
    """Answers ``/healthz`` while the event loop turns, and ``/readyz`` while the operator serves.

    Attributes:
        ready: Whether it serves.
    """

    def __init__(self) -> None:
        self.ready = False
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        """Listen on all addresses of the pod, plain HTTP: there is nothing to hide."""
        application = web.Application()
        application.router.add_get("/healthz", self._alive)
        application.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.Response(text="ready\n" if self.ready else "starting\n", status=200 if self.ready else 503)
