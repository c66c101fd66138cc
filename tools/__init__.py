"""The sub-commands of `ssd`, one a file; installed as ssd.tools."""
