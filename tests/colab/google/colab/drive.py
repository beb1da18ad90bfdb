"Colab's Drive: mounting makes a folder, or fails as Colab does where DRIVE_FAILS is set."

import os


def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    if os.environ.get("DRIVE_FAILS"):
        raise ValueError("mount failed")
    print(f"Mounted at {mountpoint}")
