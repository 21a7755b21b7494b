"""The frame of every command, and the flags that several of them share."""

from distill.command_line.ending_signals import say_interrupted_while_loading

# Here, because the modules of a command take longer to load than anything before its first line.
say_interrupted_while_loading()
