"""Settings of the tests: the real ones, read from an environment of the tests' own."""

import os

# A developer's own settings must not leak in; a run for another database sets galileo_expdb_* on purpose, and one of
# the interpreted engine galileo_compiled.
KEPT = ("galileo_expdb_", "galileo_compiled")
for name in [name for name in os.environ if name.startswith("galileo_") and not name.startswith(KEPT)]:
    del os.environ[name]
os.environ["galileo_secret_key"] = "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz"
os.environ["galileo_redis_port"] = "1"  # nothing listens there: a test that needs Redis starts one

from galileo_site.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Otherwise each client of a test would list all static files.
WHITENOISE_AUTOREFRESH = True
