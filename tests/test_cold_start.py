"""What `ssd detect photo.jpg` imports: nothing that it does not need."""

import subprocess
import sys

HEAVY = (
    "tensorflow keras av matplotlib PIL rich albumentations scipy pandas jinja2 yaml torch onnxruntime h5py "
    "defusedxml openvino.tools.ovc openvino_telemetry requests urllib.request http.client"
).split()
CODE = """
import sys
from ssd.cli import main
main(sys.argv[1:], standalone_mode=False)
print([name for name in {heavy} if name in sys.modules], "openvino" in sys.modules)
"""


def test_a_photo_needs_openvino_opencv_and_numpy_only(samples, tmp_path):
    code = CODE.format(heavy=HEAVY)
    command = [sys.executable, "-c", code, "detect", samples / "astronaut.jpg", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] True", done.stdout
    assert (tmp_path / "astronaut.jpg").stat().st_size > 10000


def test_the_converter_of_openvino_is_still_there_for_who_asks():
    code = (
        "from ssd.runtimes.openvino_lean import openvino; import sys; "
        "assert 'openvino.tools.ovc' not in sys.modules; "
        "import openvino as again; assert again.convert_model.__module__.startswith('ssd'); "
        "import openvino.tools.ovc as ovc; print(callable(ovc.convert_model), again is openvino)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_threads_may_meet_openvino_at_once():
    """Without care 7 of 8 such processes wait for ever: OpenVINO makes a table at its first use."""
    code = (
        "import os, sys, threading; from ssd.runtimes.openvino_lean import openvino\n"
        "sys.setswitchinterval(1e-6); gate = threading.Barrier(8)\n"
        "def use(): gate.wait(); openvino.Type.f32.to_dtype()\n"
        "threads = [threading.Thread(target=use, daemon=True) for _ in range(8)]\n"
        "[thread.start() for thread in threads]; [thread.join(20) for thread in threads]\n"
        "os._exit(any(thread.is_alive() for thread in threads))"
    )
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
