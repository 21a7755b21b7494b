"""The frame of every command, and the flags that several of them share."""
