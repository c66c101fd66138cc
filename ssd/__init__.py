"""SSD300 for your own photos: detect, evaluate and train on a plain CPU.

>>> from ssd import Detector, load_image
>>> detections = Detector.load("default")(load_image("photo.jpg"))
"""

from ssd.detector import Detector
from ssd.draw import draw
from ssd.images import load_image, save_image
from ssd.records import Detections, Sample

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "Sample", "draw", "load_image", "save_image"]
