"""What the shell says of itself."""

BANNER = r"""
   ____       _ _ _
  / ___| __ _| (_) | ___  ___
 | |  _ / _` | | | |/ _ \/ _ \
 | |_| | (_| | | | |  __/ (_) |
  \____|\__,_|_|_|_|\___|\___/

Welcome to the galileo shell!
Type `usage` to list available functions
"""

USAGE = """\
the galileo shell is an interactive python shell that provides the following commands

Commands:
  usage         show this message
  env           show environment variables
  pwd           show the current working directory

Functions:
  sleep         time.sleep wrapper

Objects:
  g             Galileo object that allows you to interact with the system
  show          Prints runtime information about the system to system out
  exp           Galileo experiment
  rtbl          Service routing table
  telemd        Telemd object to pause, unpause and list registered telemd daemons

Type help(<function>) or help(<object>) to learn how to use the functions.
"""
