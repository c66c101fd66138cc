"""OpenVINO without its converter, which is slow to import and reports each import over the network."""

import importlib
import sys
from types import ModuleType

CONVERTER = "openvino.tools.ovc"


def _load() -> ModuleType:
    """Import openvino; the converter waits until `openvino.convert_model` is called."""
    if "openvino" in sys.modules or CONVERTER in sys.modules:
        return _settle(importlib.import_module("openvino"))
    sys.modules[CONVERTER] = None  # an import of it fails, which openvino takes as "not installed"
    try:
        openvino = importlib.import_module("openvino")
    finally:
        del sys.modules[CONVERTER]
    if not hasattr(openvino, "convert_model"):
        openvino.convert_model = _convert_model
    return _settle(openvino)


def _settle(openvino: ModuleType) -> ModuleType:
    # Its table of types is made at the first use, with the GIL let go in between: two threads that come
    # at once wait for each other for ever. Here there is one.
    openvino.Type.f32.to_dtype()
    return openvino


def _convert_model(*args: object, **options: object) -> object:
    return importlib.import_module(CONVERTER).convert_model(*args, **options)


openvino = _load()
