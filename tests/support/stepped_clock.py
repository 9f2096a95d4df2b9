"""SteppedClock: a wall clock that a test steps while the process that reads it runs, as NTP or a resumed VM does.

A small library, preloaded into the process, adds an offset from a file to the wall clock. The monotonic clock stays as
it is. (libfaketime would do, but is not installed everywhere; a C compiler is, for the compiled engine.)
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sysconfig
from pathlib import Path

_SOURCE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset_s;

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("STEPPED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *offset_s, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) offset_s = mapped;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (result == 0 && is_wall && offset_s) now->tv_sec += *offset_s;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec read;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &read) != 0) return -1;
    now->tv_sec = read.tv_sec;
    now->tv_usec = read.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec read;
    clock_gettime(CLOCK_REALTIME, &read);
    if (now) *now = read.tv_sec;
    return read.tv_sec;
}
"""


class SteppedClock:
    """A clock whose files are in `directory`; `environment` makes a process read it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._library = directory / "stepped_clock.so"
        self._offset = directory / "offset"
        self._offset.write_bytes(struct.pack("=q", 0))
        source = directory / "stepped_clock.c"
        source.write_text(_SOURCE)
        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
        command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(self._library), str(source)]
        subprocess.run(command, check=True, timeout=60)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "STEPPED_CLOCK": str(self._offset)}

    def step(self, seconds: int) -> None:
        """Sets the clock forward, or back if `seconds` is negative; Valkey 9 notices it within half a second."""
        with self._offset.open("r+b") as file, mmap.mmap(file.fileno(), 8) as mapped:
            (offset_s,) = struct.unpack("=q", mapped)
            mapped[:] = struct.pack("=q", offset_s + seconds)
