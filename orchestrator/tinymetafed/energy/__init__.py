"""Profile → cycles → joules."""
