"""The example service: an image classifier behind HTTP whose response time grows with its load."""
