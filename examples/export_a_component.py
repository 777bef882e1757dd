"""Export a component of your own: its graphs, the conformance check, a compared export, and running it without torch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emova_sdk import Audio, Space, SpeechTokenizer, SpeechUnits
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.runtimes.onnx_session import open_session, run_session
from emova_sdk.errors import InputError
from emova_sdk.exporters.export import export_components
from emova_sdk.testing import run_checks

RATE, STEP = 8000, 400


class Network(nn.Module):
    """Waveforms to units: one for each 50 ms."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv1d(1, 16, STEP, stride=STEP)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (batch, samples) to ids (batch, samples // 400) and the scores they were chosen by."""
        scores = self.convolution(audio[:, None]).transpose(1, 2)
        return scores.argmax(-1), scores


class MyTokenizer(SpeechTokenizer):
    """A speech tokenizer that can be exported."""

    units = Space("my-units", 16)
    sample_rate = RATE
    unit_rate = RATE / STEP

    def __init__(self) -> None:
        self._network: Network | None = None

    def load(self) -> None:
        self._network = self._network or Network().eval()

    def close(self) -> None:
        self._network = None

    def encode(self, clips: Sequence[Audio]) -> list[SpeechUnits]:
        return [SpeechUnits.of(self._ids(clip)) for clip in clips]

    def _ids(self, clip: Audio) -> NDArray[np.int64]:
        if clip.sample_rate != RATE:
            raise InputError(f"the clip has {clip.sample_rate} Hz, not {RATE}", f"call `audio.resample({RATE})` first")
        if len(clip.samples) < STEP:
            return np.zeros(0, np.int64)
        with torch.inference_mode():
            return self._loaded()(torch.from_numpy(clip.samples)[None])[0][0].numpy()

    def _loaded(self) -> Network:
        self.load()
        if self._network is None:
            raise RuntimeError("closed while it was used")
        return self._network

    def graphs(self) -> list[Graph]:
        """What an exporter gets: the module, examples, names, and which axes are dynamic."""
        batch, samples = Axis("batch", min=1, opt=1, max=8), Axis("samples", min=STEP, opt=RATE, max=60 * RATE)

        def sample(sizes: Mapping[str, int]) -> dict[str, Any]:
            rng = torch.Generator().manual_seed(sizes["samples"])
            return {"audio": torch.randn(sizes["batch"], sizes["samples"], generator=rng)}

        return [
            Graph(
                "tokenizer",
                self._loaded(),
                sample({"batch": 2, "samples": 3 * STEP + 1}),
                ("units", "scores"),
                {"audio": {0: batch, 1: samples}},
                mismatch=0.01,  # of the ids, where the two best scores are almost equal
                sample=sample,
                metadata={"sample_rate": str(RATE)},
            )
        ]


def main() -> None:
    failed = [f"{check.name}: {check.message}" for check in run_checks(MyTokenizer) if not check.passed]
    print("rules broken:   ", failed)
    with tempfile.TemporaryDirectory() as folder:
        manifest = export_components({"speech_tokenizer": MyTokenizer()}, Path(folder) / "export", source="my tokenizer")
        [record] = manifest["components"]["speech_tokenizer"]
        compared = {one["output"]: one for one in record["parity"]}
        print("compared:       ", ", ".join(f"{name} {one['allowed']}" for name, one in compared.items()))
        session = open_session(Path(folder) / "export" / record["file"])
        clip = Audio(np.random.default_rng(0).standard_normal(RATE).astype(np.float32), RATE)
        units = run_session(session, {"audio": clip.samples[None]})["units"][0]
        print("without torch:  ", units.tolist()[:8])
        print("as the original:", MyTokenizer().encode([clip])[0].ids.tolist() == units.tolist())


if __name__ == "__main__":
    main()
