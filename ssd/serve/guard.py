"""What stands before every request: host, origin, token, headers and the count of answers."""

import hmac
import json
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OPEN = (
    "/",
    "/page.css",
    "/page.js",
    "/docs.js",
    "/docs",
    "/v1/health",
)  # hold nothing; the page asks for a token
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Metrics:
    """Prometheus' numbers of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ssd_requests", "Answered requests.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "ssd_request_seconds",
            "From the head of a request to its answer.",
            ["route"],
            registry=self.registry,
        )
        self.objects = Counter("ssd_objects", "Objects found.", ["label"], registry=self.registry)
        self.waiting = Gauge("ssd_queue_length", "Pictures that wait.", registry=self.registry)


class Guard:
    """ASGI middleware.

    Args:
        app: behind it.
        metrics: counts.
        token: that everything but the page needs; None: none.
    """

    def __init__(self, app: object, metrics: Metrics, token: str | None) -> None:
        self.app, self.metrics, self.token = app, metrics, token

    async def __call__(self, scope: dict, receive: object, send: object) -> None:
        """Answer, refuse or pass on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def note(message: dict) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = message | {"headers": [*message["headers"], *own]}
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal:
                await _answer(note, *refusal)
            else:
                await self.app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # never a path as asked: those have no end
            method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE") else "other"
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - started)

    def _refusal(self, scope: dict) -> tuple[int, str] | None:
        heads = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        host = heads.get("host", "")
        # A page of another site could send a reader's browser here, under a name of its own.
        if not self.token and _name(host) not in LOOPBACK:
            return 403, "this service answers to localhost alone"
        if "origin" in heads and heads["origin"].partition("://")[2] != host:
            return 403, "other sites may not ask"
        if self.token and scope["path"] not in OPEN:
            given = heads.get("authorization", "").removeprefix("Bearer ").encode()
            if not hmac.compare_digest(given, self.token.encode()):
                return 401, "this needs the header Authorization: Bearer TOKEN"
        return None


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()


async def _answer(send: object, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"connection", b"close")] if status != 401 else [(b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
