"""A window for live pictures, by pygame-ce, whose wheel carries what it needs.

OpenCV's own windows abort the process where there is no display; here that is an error as any other.
"""

import os
import sys

import cv2
import numpy as np

# Drivers that SDL falls back to without a display; nobody would see anything.
BLIND = ("offscreen", "dummy", "evdev", "KMSDRM")


class Window:
    """Shows pictures and hears keys; a context manager.

    Args:
        title: of the window.
    Raises:
        OSError: there is no display.
        ImportError: pygame-ce is not installed.
    """

    def __init__(self, title: str) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import pygame

        self._pygame, self._title, self._screen = pygame, title, None
        try:
            if not os.environ.get("SDL_VIDEODRIVER") and not _has_display():
                raise pygame.error("neither DISPLAY nor WAYLAND_DISPLAY is set")
            pygame.display.init()
            if pygame.display.get_driver() in BLIND and not os.environ.get("SDL_VIDEODRIVER"):
                raise pygame.error("no video driver has a screen")
        except pygame.error as error:
            raise OSError(f"a window needs a display; --no-window does without. Received: {error}") from None

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *_: object) -> None:
        self._pygame.display.quit()

    def show(self, image: np.ndarray) -> None:
        """Put up a picture, (H, W, 3) uint8 RGB; the first one sets the size of the window."""
        height, width = image.shape[:2]
        if self._screen is None:
            self._screen = self._pygame.display.set_mode((width, height), self._pygame.RESIZABLE)
            self._pygame.display.set_caption(self._title)
        room = self._screen.get_size()
        if room != (width, height):
            image = cv2.resize(image, room, interpolation=cv2.INTER_AREA)
        surface = self._pygame.image.frombuffer(np.ascontiguousarray(image), room, "RGB")
        self._screen.blit(surface, (0, 0))
        self._pygame.display.flip()

    def keys(self) -> list[str]:
        """Names of keys pressed since the last call; "quit" for the window's own close button."""
        pressed = []
        for event in self._pygame.event.get():
            if event.type == self._pygame.QUIT:
                pressed.append("quit")
            if event.type == self._pygame.KEYDOWN:
                pressed.append(event.unicode or self._pygame.key.name(event.key))
        return pressed


def _has_display() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
