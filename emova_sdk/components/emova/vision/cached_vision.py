"""What the vision encoders share, whatever runs their graphs: features of the last pictures are kept."""

from __future__ import annotations

import hashlib
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence

import PIL.Image

from emova_sdk.components.base import VisionEncoder
from emova_sdk.types import Image, VisionFeatures


class CachedVision(VisionEncoder):
    """A vision encoder that keeps the features of the last pictures. A subclass encodes one.

    Args:
        cache: Pictures whose features are kept.
    """

    def __init__(self, cache: int) -> None:
        self._cache = cache
        self._features: OrderedDict[bytes, VisionFeatures] = OrderedDict()
        self._features_lock = threading.Lock()

    @abstractmethod
    def _compute(self, picture: PIL.Image.Image) -> VisionFeatures:
        """Encode one RGB picture."""

    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Encode each picture.

        Raises:
            InputError: If a picture is over 200 times as long as wide.
            LoadError: See `load`.
        """
        return [self._encode(image) for image in images]

    def close(self) -> None:
        """Free the kept features."""
        with self._features_lock:
            self._features.clear()

    def _encode(self, image: Image) -> VisionFeatures:
        key = hashlib.blake2b(image.pixels.tobytes(), digest_size=16, salt=str(image.size).encode()[:16]).digest()
        with self._features_lock:
            if key in self._features:
                self._features.move_to_end(key)
                return self._features[key]
        features = self._compute(PIL.Image.fromarray(image.pixels))
        with self._features_lock:
            self._features[key] = features
            while len(self._features) > self._cache:
                self._features.popitem(last=False)
        return features
