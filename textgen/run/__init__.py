"""How a recipe runs as a process, and the directory that a run writes.

Read ``main.py`` first (command line in, exit code out), then ``directory.py`` (the run directory: its name, its owner
and its state) and ``config.py`` (the settings of both). ``launcher.py`` checks that the launcher started the requested
number of processes; ``allocator.py`` restarts the process with a faster memory allocator.
"""
