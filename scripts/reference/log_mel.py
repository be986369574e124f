"""What librosa makes of a sound: its log-mel spectrogram, test/fixtures/log-mel.json."""

import json
from pathlib import Path

import librosa
import numpy as np

FIXTURE = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "log-mel.json"
RATE, WINDOW, HOP, MELS, LOW, HIGH, FLOOR = 16_000, 400, 160, 64, 60, 7800, 1e-6


def sound(samples):
    """A chirp, a low tone and a step of loudness, by formulas alone: the test makes the same."""
    t = np.arange(samples) / RATE
    chirp = np.sin(2 * np.pi * (300 * t + 8000 * t**2))
    return 0.4 * chirp + 0.2 * np.sin(2 * np.pi * 110 * t) * (t > 0.03)


# librosa centres a window that is shorter than the transform; with zeros behind it lies at the front.
samples = 1200
y = sound(samples)
frames = np.stack([y[i : i + WINDOW] for i in range(0, samples - WINDOW + 1, HOP)])  # [frames, window]
hann = librosa.filters.get_window("hann", WINDOW, fftbins=True)
power = np.abs(np.fft.rfft(frames * hann, n=512)) ** 2  # [frames, bins]
mel = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=MELS, fmin=LOW, fmax=HIGH, htk=True, norm=None, dtype=np.float64)
bands = np.log(mel @ power.T + FLOOR)  # [mels, frames]
# The magnitude does not depend on where in the transform a window lies: librosa's own agrees.
own = librosa.feature.melspectrogram(
    y=np.pad(y, 56), sr=RATE, n_fft=512, win_length=WINDOW, hop_length=HOP, center=False,
    n_mels=MELS, fmin=LOW, fmax=HIGH, htk=True, norm=None, dtype=np.float64,
)  # [mels, frames]
assert own.shape == bands.shape, (own.shape, bands.shape)
np.testing.assert_allclose(np.log(own + FLOOR), bands, rtol=1e-5, atol=1e-5)
FIXTURE.write_text(json.dumps({"samples": samples, "bands": bands.round(6).tolist()}) + "\n")
