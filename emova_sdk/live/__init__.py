"""Live conversations: sound in as it is recorded, sound out as it is played, interruptible at any moment."""

from emova_sdk.components.end_of_turn import EndOfTurn, LastWord, Pause
from emova_sdk.live.activity import Activity, EnergyActivity, SileroActivity
from emova_sdk.live.devices import Device, Recordings, SoundDevices, list_devices, talk
from emova_sdk.live.live_session import LiveSession
from emova_sdk.live.playback import PlaybackBuffer
from emova_sdk.live.recorded import converse, played_audio
from emova_sdk.live.turn_taking import Decision, TurnTaking
from emova_sdk.types.live_events import (
    AnswerBegan,
    AnswerFailed,
    AnswerFinished,
    EndOfTurnFailed,
    FalseInterruption,
    Interrupted,
    LiveEvent,
    Playback,
    UserPaused,
    UserSpoke,
    UserTurn,
)
from emova_sdk.types.live_settings import LiveSettings

__all__ = [
    "Activity",
    "AnswerBegan",
    "AnswerFailed",
    "AnswerFinished",
    "Decision",
    "Device",
    "EndOfTurn",
    "EndOfTurnFailed",
    "EnergyActivity",
    "FalseInterruption",
    "Interrupted",
    "LastWord",
    "LiveEvent",
    "LiveSession",
    "LiveSettings",
    "Pause",
    "Playback",
    "PlaybackBuffer",
    "Recordings",
    "SileroActivity",
    "SoundDevices",
    "TurnTaking",
    "UserPaused",
    "UserSpoke",
    "UserTurn",
    "converse",
    "list_devices",
    "played_audio",
    "talk",
]
