"""The instruction queue of the experiment daemon: scripts that users push into Redis become experiments."""
