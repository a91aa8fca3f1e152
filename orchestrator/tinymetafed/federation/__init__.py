"""The rounds of a federation: the round loop, engines, participation."""
