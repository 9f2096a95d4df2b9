"""When each request is due: schedules, distributions and pacers. Pure: no clock, no sleep."""

from loadgen import compiled

compiled.search(__name__, __path__)
