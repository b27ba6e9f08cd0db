"""Sampling rate of EEG, and the lengths of windows and frames."""

from __future__ import annotations

#: Sampling rate of all EEG here, in Hz; sources resample to it.
SFREQ = 128
#: Samples per DE window: half a second.
WINDOW = SFREQ // 2
#: Samples per frame, the one second of EEG that a network sees at a time: two DE windows.
FRAME = SFREQ
