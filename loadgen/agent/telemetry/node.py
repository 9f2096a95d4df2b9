"""Description of this device in the fields and units of telemd's info hash."""

from __future__ import annotations

import os
import platform

import psutil

from loadgen.agent.telemetry.instruments import MAX_DEVICES, block_devices, net_bytes

# As Go names them, in which telemd is written.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}


def node_info() -> dict[str, str]:
    """The fields of the hash `telemd.info:<node>`."""
    return {
        "arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "cpus": str(os.cpu_count() or 1),
        "ram": str(psutil.virtual_memory().total // 1024),
        "boot": str(int(psutil.boot_time())),
        "disk": " ".join(block_devices()[:MAX_DEVICES]),
        "net": " ".join(sorted(net_bytes())[:MAX_DEVICES]),
        "hostname": platform.node(),
        "netspeed": _net_speed(),
    }


def _net_speed() -> str:
    """Mbit/s of the fastest interface that is up; empty where none tells."""
    speeds = [nic.speed for name, nic in psutil.net_if_stats().items() if nic.isup and name != "lo"]
    return str(max(speeds)) if any(speed > 0 for speed in speeds) else ""
