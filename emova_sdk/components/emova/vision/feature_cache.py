"""Features of the pictures that were encoded last, by their pixels."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from emova_sdk.types import Image, VisionFeatures


class FeatureCache:
    """Keeps the features of the last pictures; may be shared between threads.

    Args:
        size: Of how many pictures.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[bytes, VisionFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, image: Image, compute: Callable[[Image], VisionFeatures]) -> VisionFeatures:
        """The features of a picture, computed if they are not kept."""
        key = hashlib.blake2b(image.pixels.tobytes(), digest_size=16, salt=str(image.size).encode()[:16]).digest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        features = compute(image)
        with self._lock:
            self._kept[key] = features
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return features

    def clear(self) -> None:
        """Forget all pictures."""
        with self._lock:
            self._kept.clear()
