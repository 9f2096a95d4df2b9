"""How Django shows dates and times, by language (FORMAT_MODULE_PATH)."""
