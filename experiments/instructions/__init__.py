"""The experiment daemon's queue: scripts that users push into Redis, each made an experiment exactly once.

script         the text of a script → its commands
compiler       commands → the configuration and the events of a plan
hosts          which live workers a script's HOST means
message        what was pushed → Instruction
queue          the lists in Redis
carrying_out   an instruction → an experiment
duty           what the daemon does about the queue, until it is told to stop
"""
