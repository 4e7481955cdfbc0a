"""The command line: one module a command, one registry of options.

The only room that imports click, prints, or exits. A command parses, makes one library
call, and prints; heavy imports stand inside the command bodies.
"""
