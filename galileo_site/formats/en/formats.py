"""How the admin shows times: each with its zone, which is that of the setting TIME_ZONE."""

DATETIME_FORMAT = SHORT_DATETIME_FORMAT = "Y-m-d H:i:s T"
