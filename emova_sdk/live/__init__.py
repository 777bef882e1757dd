"""Live conversations: sound in as it is recorded, sound out as it is played, interruptible at any moment."""

from emova_sdk.live.activity import Activity, EnergyActivity, SileroActivity
from emova_sdk.live.conversation import LiveSession
from emova_sdk.live.devices import Device, Recordings, SoundDevices, list_devices, talk
from emova_sdk.live.events import (
    AnswerBegan,
    AnswerFailed,
    AnswerFinished,
    FalseInterruption,
    Interrupted,
    LiveEvent,
    Playback,
    Said,
    UserPaused,
    UserSpoke,
    UserTurn,
)
from emova_sdk.live.playback import PlaybackBuffer
from emova_sdk.live.recorded import converse, played_audio
from emova_sdk.live.settings import LiveSettings

__all__ = [
    "Activity",
    "AnswerBegan",
    "AnswerFailed",
    "AnswerFinished",
    "Device",
    "EnergyActivity",
    "FalseInterruption",
    "Interrupted",
    "LiveEvent",
    "LiveSession",
    "LiveSettings",
    "Playback",
    "PlaybackBuffer",
    "Recordings",
    "Said",
    "SileroActivity",
    "SoundDevices",
    "UserPaused",
    "UserSpoke",
    "UserTurn",
    "converse",
    "list_devices",
    "played_audio",
    "talk",
]
