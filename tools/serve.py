"""ssd serve: a page in the browser and an API for programs."""

import ipaddress
import socket
from dataclasses import replace

import click

from ssd.cli import fail, run


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8300, show_default=True, help="0: any free one."
)
@click.option(
    "--token",
    envvar="SSD_TOKEN",
    help="Secret that requests must have; needed for any address but this computer's own. Also SSD_TOKEN.",
)
@click.option(
    "--model", default="default", show_default=True, help="Name of a shipped model, or a model folder."
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the network; all cores unless told.")
@click.option("--max-megabytes", type=click.IntRange(1), default=20, show_default=True, help="Of a picture.")
@click.option(
    "--max-video-megabytes", type=click.IntRange(1), default=100, show_default=True, help="Of a video."
)
@click.option(
    "--max-megapixels", type=click.IntRange(1, 128), default=40, show_default=True, help="Of a picture."
)
@click.option("--max-frames", type=click.IntRange(1), default=3000, show_default=True, help="Of a video.")
@click.option(
    "--queue", type=click.IntRange(1), default=16, show_default=True, help="Pictures that may wait."
)
def main(
    host: str,
    port: int,
    token: str | None,
    model: str,
    threads: int | None,
    max_megabytes: int,
    max_video_megabytes: int,
    max_megapixels: int,
    max_frames: int,
    queue: int,
) -> None:
    """Show a page for people and an API for programs at http://127.0.0.1:8300."""
    if not _is_loopback(host) and not token:
        fail("--host beyond this computer needs a --token", 2)
    if token is not None and len(token) < 16:
        fail("--token must have 16 characters or more", 2)
    run(_serve, host, port, token, model, threads, {
        "image_bytes": max_megabytes << 20,
        "video_bytes": max_video_megabytes << 20,
        "image_pixels": max_megapixels * 1_000_000,
        "video_frames": max_frames,
        "queue": queue,
    })  # fmt: skip


def _serve(host: str, port: int, token: str | None, model: str, threads: int | None, limits: dict) -> None:
    import uvicorn

    from ssd import __version__
    from ssd.detector import Detector
    from ssd.serve.app import make_app
    from ssd.serve.limits import Limits

    with socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    ) as door:
        detector = Detector.load(model, threads, many=True)
        app = make_app(detector, replace(Limits(), **limits), token, __version__)
        name = f"[{host}]" if ":" in host else host
        click.echo(f"http://{name}:{door.getsockname()[1]}/ shows the page; Ctrl-C ends")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, limit_concurrency=200, server_header=False
        )
        config.timeout_graceful_shutdown = 5
        uvicorn.Server(config).run(sockets=[door])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
