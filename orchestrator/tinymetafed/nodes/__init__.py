"""Nodes: one file per backend behind one small interface, `Transport`."""
