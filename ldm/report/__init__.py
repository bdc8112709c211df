"""The page a person reads: what a run made, its pictures side by side and its figures with how they were measured."""
