"""The application of `ssd serve`: FastAPI's routes around a detector."""

import csv
import io
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as StarletteError

from ssd.detector import HELPERS, Detector
from ssd.draw import draw
from ssd.page import encode_jpeg
from ssd.records import Detections
from ssd.results import CsvSink, Result
from ssd.serve.bodies import read_picture, write_body
from ssd.serve.guard import Guard, Metrics
from ssd.serve.limits import Limits, RefusalError, open_picture
from ssd.serve.videos import Job, Videos
from ssd.serve.worker import Worker

PAGE = Path(__file__).parent / "page"
PAGES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"} | {
    "/docs": "docs.html",
    "/docs.js": "docs.js",
}
SAMPLES = Path(__file__).parents[1] / "samples"  # in the installed package
SAMPLES = SAMPLES if SAMPLES.is_dir() else Path(__file__).parents[2] / "samples"  # in a checkout
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".jpg": "image/jpeg"}
KINDS |= {".png": "image/png", ".mp4": "video/mp4"}
SCORE = 0.5  # least score of a class for which the model has none

Score = Annotated[float | None, Query(ge=0, le=1, description="Least score; the model's own unless told.")]
Iou = Annotated[float, Query(ge=0, le=1, description="Boxes of a class that overlap more are one object.")]
Most = Annotated[int, Query(ge=1, le=1000, alias="max", description="Most boxes.")]
Classes = Annotated[str | None, Query(max_length=4000, description="Only these classes: a,b.")]
Format = Annotated[Literal["json", "csv", "jpg"], Query(description="jpg: the picture with its boxes.")]


def make_app(detector: Detector, limits: Limits, token: str | None = None, version: str = "") -> FastAPI:
    """The application.

    Args:
        detector: loaded with `many`, for as many pictures at once as there are cores.
        limits: of a request.
        token: that requests must have; None: none, and the service answers to localhost alone.
        version: of the program.
    """
    worker, videos = (
        Worker(detector.network.streams + HELPERS, limits.queue),
        Videos(limits, detector.network.streams),
    )
    metrics = Metrics()
    # Pillow warns of sizes that the limit refuses anyway.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()
        videos.close()

    app = FastAPI(title="ssd", version=version, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, metrics=metrics, token=token)
    _add_errors(app)
    _add_pages(app)
    _add_facts(app, detector, limits, metrics, worker)
    _add_detect(app, detector, limits, metrics, worker)
    _add_videos(app, detector, limits, videos)
    return app


def _add_errors(app: FastAPI) -> None:
    """Every refusal is {"error": reason}."""

    @app.exception_handler(RefusalError)
    async def refuse(_: Request, error: RefusalError) -> JSONResponse:
        # What is left of the body is not read; the connection cannot go on.
        headers = {"Connection": "close"} | ({"Retry-After": "1"} if error.status == 429 else {})
        return JSONResponse({"error": error.reason}, error.status, headers)

    @app.exception_handler(StarletteError)
    @app.exception_handler(HTTPException)
    async def tell(_: Request, error: StarletteError) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"error": "; ".join(faults)}, 422, {"Connection": "close"})

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"the service has a fault ({type(error).__name__})"}, 500)


def _add_pages(app: FastAPI) -> None:
    """Files that are known beforehand; no request names a path."""
    for route, name in PAGES.items():
        app.add_api_route(route, _file(PAGE / name), include_in_schema=False)
    samples = {p.name: p for p in sorted(SAMPLES.glob("*")) if p.suffix in (".jpg", ".png")}

    @app.get("/v1/samples", summary="Names of sample pictures")
    async def list_samples() -> list[str]:
        return list(samples)

    for name, path in samples.items():
        app.add_api_route(f"/v1/samples/{name}", _file(path), include_in_schema=False)


def _file(path: Path) -> Callable:
    async def send() -> Response:
        return Response(path.read_bytes(), media_type=KINDS[path.suffix])

    return send


def _add_facts(app: FastAPI, detector: Detector, limits: Limits, metrics: Metrics, worker: Worker) -> None:
    @app.get("/v1/health", summary="Whether the service is alive")
    async def health() -> dict:
        return {"status": "ok"}

    @app.get("/v1/model", summary="The model and the limits")
    async def model() -> dict:
        card, point = (
            detector.card,
            np.broadcast_to(detector.operating_point(SCORE), len(detector.class_names)),
        )
        thresholds = {n: round(float(v), 4) for n, v in zip(detector.class_names, point, strict=True)}
        return {
            "name": card.name,
            "spec": card.spec,
            "precision": card.precision,
            "class_names": list(detector.class_names),
            "thresholds": thresholds,
            "scores": card.scores,
            "version": app.version,
            "limits": vars(limits),
        }

    @app.get("/metrics", summary="Numbers for Prometheus")
    async def numbers() -> Response:
        metrics.waiting.set(worker.waiting)
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _finder(detector: Detector, score: float | None, iou: float, most: int, classes: str | None) -> Callable:
    """What finds objects in a picture with the parameters of a request. Raises RefusalError: 422."""
    wanted = {part.strip() for part in (classes or "").split(",") if part.strip()}
    if unknown := wanted - set(detector.class_names):
        known = ", ".join(detector.class_names)
        raise RefusalError(422, f"classes must be of {known}. Received: {', '.join(sorted(unknown))[:200]}")
    limit = detector.operating_point(SCORE) if score is None else score

    def find(image: np.ndarray) -> Detections:
        found = detector(image, score_threshold=limit, iou_threshold=iou, max_detections=most)
        return found[np.array([name in wanted for name in found.names], bool)] if wanted else found

    return find


def _add_detect(app: FastAPI, detector: Detector, limits: Limits, metrics: Metrics, worker: Worker) -> None:
    body = {"content": {kind: {} for kind in ("image/jpeg", "image/png", "multipart/form-data")}}

    @app.post("/v1/detect", summary="Find objects in a picture", openapi_extra={"requestBody": body})
    async def detect(
        request: Request,
        score: Score = None,
        iou: Iou = 0.45,
        most: Most = 200,
        classes: Classes = None,
        format: Format = "json",  # noqa: A002, its name in the address
    ) -> Response:
        find = _finder(detector, score, iou, most, classes)
        data, name = await read_picture(request, limits.image_bytes, limits.body_seconds)

        def answer() -> tuple[Response, list[str]]:
            image = open_picture(data, limits)
            found = find(image)
            return _FORMATS[format](Result(name, "upload", 0, 0.0, found), image), found.names

        response, found = await worker.do(answer, limits.wait_seconds)
        for label in found:
            metrics.objects.labels(label).inc()
        return response


def _as_json(result: Result, _: np.ndarray) -> Response:
    return JSONResponse(result.as_dict())


def _as_csv(result: Result, _: np.ndarray) -> Response:
    text, row = io.StringIO(newline=""), result.as_dict()
    writer, found = csv.writer(text), row.pop("detections")
    writer.writerow(CsvSink.HEAD)
    writer.writerows([*row.values(), one["label"], one["score"], *one["box_px"]] for one in found)
    return Response(text.getvalue(), media_type="text/csv")


def _as_jpg(result: Result, image: np.ndarray) -> Response:
    return Response(encode_jpeg(draw(image, result.detections)), media_type="image/jpeg")


_FORMATS = {"json": _as_json, "csv": _as_csv, "jpg": _as_jpg}


def _add_videos(app: FastAPI, detector: Detector, limits: Limits, videos: Videos) -> None:
    body = {"content": {"video/mp4": {}}}

    @app.post(
        "/v1/videos", status_code=202, summary="Send a short video", openapi_extra={"requestBody": body}
    )
    async def upload(
        request: Request, score: Score = None, iou: Iou = 0.45, most: Most = 200, classes: Classes = None
    ) -> dict:
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise RefusalError(415, "a video must be the body itself, not a part of a form")
        job = videos.new(_finder(detector, score, iou, most, classes))
        try:
            await write_body(request, job.upload, limits.video_bytes, limits.upload_seconds)
            videos.start(job)
        except BaseException:
            videos.remove(job)
            raise
        return job.as_dict()

    @app.get("/v1/videos/{name}", summary="How far a video is")
    async def progress(name: str) -> dict:
        return videos.get(name).as_dict()

    @app.delete("/v1/videos/{name}", summary="Stop and forget a video")
    async def forget(name: str) -> dict:
        videos.remove(videos.get(name))
        return {"status": "gone"}

    @app.get("/v1/videos/{name}/result.mp4", summary="The video with boxes, H.264")
    async def result(name: str) -> FileResponse:
        return FileResponse(_done(videos.get(name)).result, media_type="video/mp4", filename="boxes.mp4")

    @app.get("/v1/videos/{name}/result.jsonl", summary="The boxes of a video, a frame a line")
    async def boxes(name: str) -> FileResponse:
        return FileResponse(
            _done(videos.get(name)).boxes, media_type="application/jsonl", filename="boxes.jsonl"
        )


def _done(job: Job) -> Job:
    if job.state != "done":
        raise RefusalError(409, f"a video must be done. Received: {job.state}")
    return job
